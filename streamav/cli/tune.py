"""`streamav tune`: finds the thresholds of every class for a budget of false alarms per hour.

It reads options, prints and writes; `streamav.evaluation` chooses the thresholds, on validation streams or on own quiet recordings.
"""

from __future__ import annotations

import difflib
import itertools
import math
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from streamav.cli.folding import folded_for
from streamav.cli.json_output import print_json
from streamav.cli.progress import progress
from streamav.config import EngineChoice
from streamav.errors import DataError, MissingExtraError, ModelError, SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from streamav.bundle import Bundle, ModelCard
    from streamav.cli.progress import Update
    from streamav.config import ModelSettings
    from streamav.evaluation.counting import ScoredStream
    from streamav.training.streams.tuning import Asked, Outcome

__all__ = ["tune"]

_STREAMS_BUDGET = 6.0
"""Default budget on streams, false alarms an hour: `streamav.training.clips.plan` uses the same."""
_QUIET_BUDGET = 1.0
"""Default budget on quiet recordings, false alarms an hour (our choice)."""
_STREAMS_LATENCY = 2
"""Default latency on streams, that of the models in the package."""


def tune(
    model: Annotated[str, typer.Option("--model", help="Name of a model, or the folder of a bundle.")],
    data: Annotated[
        Path | None, typer.Option("--data", help="Folder of HDF5 features with AVE's file names; its validation split is used.")
    ] = None,
    quiet: Annotated[
        list[str] | None,
        typer.Option("--quiet", help="Recording, or folder of recordings, without any event; repeatable."),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="New folder for a copy of the model with the new settings.")] = None,
    config: Annotated[Path | None, typer.Option("--config", help="New TOML file for the settings, for streamav run --config.")] = None,
    picture: Annotated[Path | None, typer.Option("--curve", help="Draw the curve into this PNG file (needs matplotlib).")] = None,
    latency: Annotated[
        int | None,
        typer.Option(
            "--latency",
            min=1,
            max=10,
            help="Latency to tune for, as in streamav run; default: 2 on streams, the model's own on quiet recordings.",
        ),
    ] = None,
    alarms: Annotated[
        float | None,
        typer.Option(
            "--alarms-per-hour", min=0.0, help="Budget: most false alarms per hour; default: 6 on streams, 1 on quiet recordings."
        ),
    ] = None,
    only: Annotated[
        list[str] | None, typer.Option("--class", help="Class that may get its own settings; repeatable; default: all classes.")
    ] = None,
    least: Annotated[
        int, typer.Option("--least-events", min=1, help="Number of true events that a class needs to get its own settings.")
    ] = 10,
    streams: Annotated[int, typer.Option(min=1, max=1000, help="With --data: number of streams.")] = 10,
    minutes: Annotated[float, typer.Option(min=0.5, help="With --data: length of each stream in minutes.")] = 30.0,
    seed: Annotated[int, typer.Option(min=0, help="With --data: seed of the streams.")] = 0,
    weights: Annotated[Path | None, typer.Option("--weights", help="Folder with the encoders that the model does not contain.")] = None,
    engine: Annotated[EngineChoice, typer.Option(help="With --quiet: engine that runs the networks.")] = "auto",
    localizer_only: Annotated[
        bool, typer.Option("--localizer-only", help="With --data: tune for the localizer alone, without the evidence.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")] = False,
) -> None:
    """Find the detection settings of every class for a budget of false alarms per hour.

    With validation streams (--data) it chooses the settings with the best event-F1 within the budget. With your own quiet
    recordings (--quiet) it raises the present thresholds only as far as the budget requires.

    Exit status: 0 done, 2 an option or file name is wrong, 3 a recording cannot be read, 4 model, 7 nothing to tune on, or no
    settings keep the budget (nothing is written then).
    """
    from streamav.bundle import find_bundle
    from streamav.config import ModelSettings
    from streamav.training.streams.tuned import config_text, draw_curve, write_config, write_tuned_bundle
    from streamav.training.streams.tuning import Asked

    if (data is None) == (not quiet):
        msg = "name either --data (validation streams) or --quiet (recordings); for both, tune twice: the second --model is the first --out"
        raise SettingsError(msg)
    if alarms is not None and not math.isfinite(alarms):
        msg = f"--alarms-per-hour must be a number of at least 0, got {alarms}"
        raise SettingsError(msg)
    _check_places(out, config, picture)
    bundle = find_bundle(model)
    ids = _class_ids(bundle.card, only)
    if data is not None:
        asked = Asked(_STREAMS_BUDGET if alarms is None else alarms, _STREAMS_LATENCY if latency is None else latency, ids, least)
        found = _from_streams(bundle, data, asked, (streams, minutes, seed), weights, localizer_only=localizer_only)
    else:
        own = bundle.card.detection.latency_segments
        asked = Asked(_QUIET_BUDGET if alarms is None else alarms, own if latency is None else latency, ids, least)
        found = _from_quiet(bundle, quiet or [], asked, ModelSettings(name=model, weights_dir=weights, engine=engine))
    if out is not None:
        write_tuned_bundle(bundle, out, found.detection)
    if config is not None:
        write_config(config, config_text(_lasting_name(model), found.detection, ["Made by streamav tune.", *found.remarks]))
    if picture is not None:
        draw_curve(found.curve, picture)
    _tell(found, as_json=as_json)


def _check_places(out: Path | None, config: Path | None, picture: Path | None) -> None:
    """Refuse wrong output places before the long work starts."""
    if out is not None and out.exists() and not (out.is_dir() and not any(out.iterdir())):
        msg = f"--out must be a new or empty folder, got {out}; choose another folder"
        raise ModelError(msg)
    if config is not None and (config.exists() or not config.absolute().parent.is_dir()):
        msg = f"--config must be a new file in an existing folder, got {config}; choose another name"
        raise SettingsError(msg)
    if picture is not None and not picture.absolute().parent.is_dir():
        msg = f"--curve must be a file in an existing folder, got {picture}"
        raise SettingsError(msg)
    if picture is not None and find_spec("matplotlib") is None:
        package = "matplotlib"
        raise MissingExtraError(package, "train")


def _class_ids(card: ModelCard, names: Sequence[str] | None) -> tuple[int, ...] | None:
    """Return the class_ids of the classes that may get their own settings, or None for all.

    Raises:
        SettingsError: when the model has no such class.
    """
    for name in names or ():
        if name not in card.slugs:
            near = difflib.get_close_matches(name, card.slugs, n=1, cutoff=0.0)[0]
            msg = f"--class {name}: model {card.name} has no such class; the nearest is {near}, all classes are: {', '.join(card.slugs)}"
            raise SettingsError(msg)
    return tuple(sorted({card.slugs.index(name) for name in names})) if names else None


def _from_streams(
    bundle: Bundle, data: Path, asked: Asked, size: tuple[int, float, int], weights: Path | None, *, localizer_only: bool
) -> Outcome:
    """Run the model over streams made of the validation split, and tune on them."""
    from streamav.evaluation.tuning.classes import final_segments
    from streamav.training.data.folder import AveOptions, open_ave
    from streamav.training.streams.evaluate import judged_model, streams_of
    from streamav.training.streams.run import run_streams
    from streamav.training.streams.tuning import tuned_on_streams

    folder = open_ave(data, AveOptions(check=False))
    network = judged_model(bundle, folder, weights, localizer_only=localizer_only)
    if tuple(entry.slug for entry in folder.classes) != bundle.card.slugs:
        msg = f"the classes of the folder must be those of {bundle.card.name}, in the same order, to tune all of them; name another model"
        raise DataError(msg)
    manifest = streams_of(folder, "val", size, None)
    with progress("streams") as show:
        scored = _counted(run_streams(network, folder.val, manifest, "argmax29"), len(manifest.streams), show)
        segments = final_segments(scored, asked.latency)
    return tuned_on_streams(bundle.card, segments, asked)


def _from_quiet(bundle: Bundle, named: Sequence[str], asked: Asked, settings: ModelSettings) -> Outcome:
    """Run the model over recordings without events, and raise its thresholds."""
    from streamav.app import localizer_head
    from streamav.capture.probe import duration_s
    from streamav.offline import OfflineRun, find_recordings
    from streamav.training.streams.tuning import raised_on_quiet

    files = find_recordings(named)
    run = OfflineRun(bundle, settings, localizer_head(bundle.card), asked.latency)
    lengths = [duration_s(file) for file in files]
    total = None if None in lengths else sum(length or 0.0 for length in lengths)
    scores, seconds = [], itertools.count(1)
    with progress("seconds of media") as show:
        for number, file in enumerate(files, start=1):
            note = f"{number} of {len(files)}, {file}"
            scores.append(run.scores(file, lambda _, note=note: show(next(seconds), total, note)))  # type: ignore[misc] # one note a file
    return raised_on_quiet(bundle.card, scores, asked)


def _counted(streams: Iterable[ScoredStream], total: int, show: Update) -> Iterator[ScoredStream]:
    """Yield the streams and show how many are done."""
    for number, stream in enumerate(streams):
        show(number, total)
        yield stream


def _lasting_name(model: str) -> str:
    """Return a name of the model that is valid in any working folder."""
    from streamav.bundle import bundle_names

    return model if model in bundle_names() else str(Path(model).absolute())


def _tell(found: Outcome, *, as_json: bool) -> None:
    """Print the settings, the curve and the remarks on uncertainty."""
    from streamav.training.streams.tuning import digits

    if as_json:
        print_json({**found.figures, "curve": found.points, "remarks": found.remarks})
        return
    from rich.console import Console
    from rich.table import Table

    from streamav.thresholds import FIELDS
    from streamav.training.streams.tuned import sparkline

    console = Console()
    settings = Table("class", "on", "off", "min segments", "gap segments", title="detection settings")
    general = found.detection.model_dump()
    rows = {"all others": general, **{name: one.model_dump() for name, one in found.detection.classes.items()}}
    for name, one in rows.items():
        settings.add_row(name, *(f"{one[field]:g}" for field in FIELDS))
    console.print(settings)
    if found.points:
        curve = Table(*(name.replace("_", " ") for name in found.points[0]), title="results for each budget")
        for point in found.points:
            curve.add_row(*("-" if math.isnan(value) else digits(value) for value in point.values()))
        console.print(curve)
    for name, values in found.curve.lines.items():
        typer.echo(f"{name} from few to many false alarms: {sparkline(values)}  {digits(min(values))} to {digits(max(values))}")
    for remark in found.remarks:
        typer.echo(folded_for(sys.stdout, remark))
