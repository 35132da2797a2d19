"""Runs `streamav train` on a folder of own clips (labels.csv) or on their features: extract, train, set thresholds, write the bundle.

It shows progress; `streamav.training.clips.plan` does the work.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from streamav.cli.training_progress import outcome_tree, training_progress, watchers
from streamav.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from streamav.bundle import Bundle
    from streamav.evaluation.tuning.classes import Tried
    from streamav.training.data.folder import AveOptions
    from streamav.training.experiments.experiment import Outcome


__all__ = ["OwnClips", "is_own_clips", "train_own_clips"]


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnClips:
    """The options of the command."""

    data: Path
    out: Path
    encoders: str | None
    """Name or folder of the model whose encoders are used; None: the one that made the features, or the starter for clips."""
    weights: Path | None
    """Folder with the encoders that the model does not contain."""
    features: Path | None
    """Folder for the features; None: `OUT.features`, next to *out*."""
    seeds: Sequence[int]
    changes: Mapping[str, Mapping[str, object]]
    """Values of --set and of other options, by section."""
    reading: AveOptions
    """Options for reading the features."""
    device: str
    resume: bool
    force: bool
    board: Path | None
    """Folder for TensorBoard files; None: write none."""
    command: str
    as_json: bool
    """Print the scores as JSON."""


CLEARLY_BETTER = 0.1
"""Accuracy above that of one constant answer; a smaller lead may be luck on a few dozen test segments."""


def is_own_clips(data: Path) -> bool:
    """Return whether a folder holds clips with a table, or features made from such a folder."""
    from streamav.training.clips.features import EXTRACTION_FILE
    from streamav.training.clips.table import LABELS_FILE
    from streamav.training.data.folder import is_ave_folder

    return (data / EXTRACTION_FILE).is_file() or ((data / LABELS_FILE).is_file() and not is_ave_folder(data))


def train_own_clips(asked: OwnClips) -> None:
    """Train on own clips and write a bundle.

    Raises:
        DataError: when the table or a clip is wrong.
        SettingsError: when a setting is wrong.
    """
    from streamav.training.clips.plan import calibrated, plan, train_clips, write_clip_bundle
    from streamav.training.data.folder import open_ave
    from streamav.training.experiments.report import write_report
    from streamav.training.experiments.run import check_out, state_folder, warn_of_missing_classes

    state = state_folder(asked.out)
    # A command that was killed while it wrote its results may leave a part of them.
    replace = asked.force or (asked.resume and state.is_dir())
    check_out(asked.out, force=replace)
    folder, source = _features(asked)
    data = open_ave(folder, asked.reading)
    experiment = plan(data, source, asked.changes)
    warn_of_missing_classes(
        data, "give one recording of each class split=val or split=train in labels.csv, or add recordings of the class", _say
    )
    _say(f"training on {len(data.train)} rows of {len(data.classes)} classes, {experiment.train.epochs} epochs")
    steps = -(-len(data.train) // experiment.train.batch)
    with training_progress(asked.seeds, steps, experiment.train.epochs) as shown:
        outcome = train_clips(
            data,
            experiment,
            source,
            asked.seeds,
            folder=state,
            resume=asked.resume,
            device=asked.device,
            watcher=watchers(shown, asked.board),
        )
    network = outcome.chosen.network
    found = calibrated(network, data)  # type: ignore[arg-type] # train_clips makes VSCGs
    best = None if found is None else found[0]
    write_clip_bundle(asked.out, outcome, data, source, best, command=asked.command, replace_old=replace)
    report = write_report(asked.out / "report", outcome, data.classes, asked.command)
    shutil.rmtree(state, ignore_errors=True)
    _tell(asked, outcome)
    _say_of_thresholds(found)
    _say(f"report: {report}")
    outside = " --weights FOLDER" if source.card.audio.external or source.card.visual.external else ""
    _say(f"model: {asked.out} (streamav run --model {asked.out}{outside} --source ...)")


def _features(asked: OwnClips) -> tuple[Path, Bundle]:
    """Extract the features that are missing; return the folder of features and the model of the encoders."""
    from streamav.bundle import find_bundle
    from streamav.cli.extract import extract_own_clips
    from streamav.config import ModelSettings
    from streamav.training.clips.features import model_of
    from streamav.training.clips.rows import ClipOptions
    from streamav.training.clips.table import LABELS_FILE

    made_with = model_of(asked.data)
    source = find_bundle(asked.encoders or (made_with[0] if made_with else "starter"))
    if made_with is not None:
        if source.sha256 != made_with[1]:
            msg = (
                f"the features in {asked.data} were made with the encoders of {made_with[0]}, and {source.path} is another model; "
                "name the right one with --encoders, or extract the features again"
            )
            raise SettingsError(msg)
        return asked.data, source
    folder = asked.features or asked.out.absolute().with_name(f"{asked.out.name}.features")
    settings = ModelSettings(name=asked.encoders or "starter", weights_dir=asked.weights)
    _say(f"features: {folder} (they are kept: a second training reads them; a changed {LABELS_FILE} extracts only what is new)")
    extract_own_clips(asked.data, asked.data / LABELS_FILE, folder, (source, settings), ClipOptions(stride=5), ray=None, skip=False)
    return folder, source


def _say(text: str) -> None:
    typer.echo(text, err=True)


def _say_of_thresholds(found: tuple[Tried, bool] | None) -> None:
    """Print the scores of the thresholds on validation streams, or a warning when none were found."""
    from streamav.training.experiments.export import UNTUNED

    if found is None:
        _say(
            f"warning: no thresholds find an event on the validation streams, so the model keeps default thresholds (on {UNTUNED.on}, "
            f"off {UNTUNED.off}); add clips or train longer, then set thresholds with streamav tune"
        )
        return
    counts, kept = found[0].counts, found[1]
    limit = "" if kept else ", above the limit of six per hour of background"
    alarms = counts.background_false_alarms_per_hour
    _say(f"validation streams: event-F1 {counts.f1:.2f}, {alarms:.1f} false alarms per hour{limit}")


def _tell(asked: OwnClips, outcome: Outcome) -> None:
    """Print the scores, the only result of the command, to standard output."""
    scores = outcome.chosen.scores.to_dict()
    if asked.as_json:
        typer.echo(json.dumps({"out": str(asked.out), "trained": [outcome_tree(outcome)], "verdict": verdict(scores)}, indent=1))
        return
    told = ", ".join(f"{name.replace('_', ' ')} {100 * scores[name]:.1f} %" for name in ("accuracy", "macro_f1", "background_recall"))
    typer.echo(f"own clips: validation accuracy {100 * outcome.chosen.result.best_score:.1f} %; test {told}")
    typer.echo(verdict(scores))


def verdict(scores: Mapping[str, float]) -> str:
    """Return in one sentence whether a model is better than always giving the same answer, and what to do when it is not.

    Args:
        scores: figures of the test clips by name: accuracy, always_background and majority, range 0 to 1.
    """
    accuracy, baseline = scores["accuracy"], max(scores["always_background"], scores["majority"])
    figures = f"{accuracy:.1%} of the test segments are right, and always giving the same answer is right in {baseline:.1%}"
    if accuracy <= baseline:
        return (
            f"verdict: do not use this model: {figures}; add recordings of every class (ten or more, with the thing in the picture) "
            "and recordings without any of them, then train again"
        )
    if accuracy < baseline + CLEARLY_BETTER:
        return f"verdict: a weak model: {figures}; add recordings of the classes with the lowest F1 in the report"
    return f"verdict: the model has learned the classes: {figures}"
