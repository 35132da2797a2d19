"""Runs `streamav train --localizer-only` on own clips or their features: a localizer for their classes alone, thresholds, and the bundle.

It shows progress; `streamav.training.clips.plan` does the work. A model without class scores (`paper`) has no other way.
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import typer

from streamav.cli.json_output import print_json
from streamav.cli.own_clips import feature_folder, say
from streamav.cli.training_progress import outcome_tree, training_progress, watchers

if TYPE_CHECKING:
    from collections.abc import Mapping

    from streamav.bundle import Bundle
    from streamav.cli.own_clips import OwnClips
    from streamav.evaluation.tuning.classes import Tried
    from streamav.training.experiments.experiment import Outcome


__all__ = ["train_localizer_alone", "verdict"]


CLEARLY_BETTER = 0.1
"""Accuracy above that of one constant answer; a smaller lead may be luck on a few dozen test segments."""


def train_localizer_alone(asked: OwnClips, base: Bundle) -> None:
    """Train a localizer for the classes of own clips alone, and write a bundle.

    Raises:
        DataError: when the table or a clip is wrong.
        SettingsError: when a setting is wrong.
    """
    from streamav.training.clips.plan import calibrated, plan, train_clips, write_clip_bundle
    from streamav.training.data.folder import open_ave
    from streamav.training.experiments.report import write_report
    from streamav.training.experiments.run import check_out, state_folder, warn_of_missing_classes
    from streamav.training.fit.kept_answers import keep_answers

    state = state_folder(asked.plan.out)
    # A command that was killed while it wrote its results may leave a part of them.
    replace = asked.plan.force or (asked.plan.resume and state.is_dir())
    check_out(asked.plan.out, force=replace)
    folder, source = feature_folder(asked, base), base
    data = open_ave(folder, asked.plan.reading)
    experiment = plan(data, source, asked.changes)
    warn_of_missing_classes(
        data, "set split=val or split=train for one recording of each class in labels.csv, or add recordings of the class", say
    )
    say(f"training on {len(data.train)} rows of {len(data.classes)} classes, {experiment.train.epochs} epochs")
    steps = -(-len(data.train) // experiment.train.batch)
    with training_progress(asked.plan.seeds, steps, experiment.train.epochs) as shown:
        outcome = train_clips(
            data,
            experiment,
            source,
            asked.plan.seeds,
            folder=state,
            resume=asked.plan.resume,
            device=asked.device,
            watcher=watchers(shown, asked.plan.board),
        )
    network = outcome.chosen.network
    found = calibrated(network, data)  # type: ignore[arg-type] # train_clips makes VSCGs
    best = None if found is None else found[0]
    write_clip_bundle(asked.plan.out, outcome, data, source, best, command=asked.command, replace_old=replace)
    report = write_report(asked.plan.out / "report", outcome, data.classes, asked.command)
    if asked.plan.predictions is not None:
        keep_answers(asked.plan.predictions, outcome.chosen.test, asked.plan.out, data.classes, data.test)
    shutil.rmtree(state, ignore_errors=True)
    _tell(asked, outcome)
    _say_of_thresholds(found)
    say(f"report: {report}")
    outside = " --weights FOLDER" if source.card.audio.external or source.card.visual.external else ""
    say(f"model: {asked.plan.out} (streamav run --model {asked.plan.out}{outside} --source ...)")


def _say_of_thresholds(found: tuple[Tried, bool] | None) -> None:
    """Print the scores of the thresholds on validation streams, or a warning when none were found."""
    from streamav.training.experiments.export import UNTUNED

    if found is None:
        say(
            f"warning: no thresholds find an event on the validation streams, so the model keeps default thresholds (on {UNTUNED.on}, "
            f"off {UNTUNED.off}); add clips or train longer, then set thresholds with streamav tune"
        )
        return
    counts, kept = found[0].counts, found[1]
    limit = "" if kept else ", above the limit of six per hour of background"
    alarms = counts.background_false_alarms_per_hour
    say(f"validation streams: event-F1 {counts.f1:.2f}, {alarms:.1f} false alarms per hour{limit}")


def _tell(asked: OwnClips, outcome: Outcome) -> None:
    """Print the scores, the only result of the command, to standard output."""
    scores = outcome.chosen.scores.to_dict()
    if asked.as_json:
        print_json({"out": str(asked.plan.out), "trained": [outcome_tree(outcome)], "verdict": verdict(scores)})
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
