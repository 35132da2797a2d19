"""`streamav compare`: compares two models, or two files of predictions, on the same labelled clips.

It runs the models and prints what `streamav.evaluation.comparison` counts.
"""

from __future__ import annotations

import math
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from streamav.cli.json_output import print_json
from streamav.cli.model_options import EngineOption, PrecisionOption, WeightsOption
from streamav.config import ModelSettings
from streamav.errors import DataError, SettingsError
from streamav.evaluation.comparison import Comparison, compare, in_words
from streamav.evaluation.predictions import SUFFIXES, read_predictions

if TYPE_CHECKING:
    from streamav.evaluation.bootstrap import Difference
    from streamav.evaluation.predictions import Predictions

__all__ = ["compare_models"]


def compare_models(
    first: Annotated[str, typer.Argument(help="Model (name or folder of a bundle), or a file written by --predictions.")],
    second: Annotated[str, typer.Argument(help="The second model or file, as the first.")],
    data: Annotated[
        Path | None,
        typer.Option("--data", help="Folder of labelled recordings (labels.csv), or of features with AVE's file names; for models."),
    ] = None,
    split: Annotated[Literal["val", "test"], typer.Option(help="Of a folder of features: the split.")] = "test",
    latency: Annotated[
        int | None,
        typer.Option("--latency", min=1, max=10, help="Of recordings: seconds until a score is final; default: the model's own."),
    ] = None,
    weights: WeightsOption = None,
    engine: EngineOption = "auto",
    precision: PrecisionOption = "auto",
    draws: Annotated[int, typer.Option(min=100, max=1_000_000, help="Bootstrap samples.")] = 10_000,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the samples.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")] = False,
) -> None:
    """Say whether one model is better than another one: accuracy and event-F1 with a paired bootstrap over the clips, also by label.

    Exit status: 0 done, 2 an option is wrong, 3 a recording cannot be read, 4 model, 6 engine, 7 data, or different test sets.
    """
    settings = ModelSettings(name="", weights_dir=weights, engine=engine, precision=precision)
    found = [_predictions(one, data, split, latency, settings) for one in (first, second)]
    if found[0].model == found[1].model:
        found = [replace(one, model=given) for one, given in zip(found, (first, second), strict=True)]
    result = compare(found[0], found[1], draws=draws, seed=seed)
    if as_json:
        print_json({**asdict(result), "words": in_words(result)})
        return
    typer.echo("\n".join(_lines(result)))


def _predictions(given: str, data: Path | None, split: str, latency: int | None, settings: ModelSettings) -> Predictions:
    """Return the predictions of a file, or those of a model on the data.

    Raises:
        SettingsError: when a model is named without data.
        DataError: when the data are neither recordings nor features.
    """
    if given.lower().endswith(SUFFIXES):
        return read_predictions(Path(given))
    from streamav.bundle import find_bundle

    bundle = find_bundle(given)
    if data is None:
        msg = f"--data must name labelled clips to run {given} on; two files of predictions need no --data"
        raise SettingsError(msg)
    from streamav.training.data.folder import AveOptions, is_ave_folder, open_ave

    name = Path(given).name or bundle.card.name
    if is_ave_folder(data):
        from streamav.cli.predicting import of_features
        from streamav.training.streams.evaluate import judged_model

        features = open_ave(data, AveOptions(check=False))
        return replace(of_features(bundle, features, split, judged_model(bundle, features, settings.weights_dir)), model=name)
    if (data / "labels.csv").is_file():
        from streamav.cli.recordings import predicted

        return replace(predicted(data, bundle, settings.model_copy(update={"name": given}), latency), model=name)
    msg = f"--data must be a folder with labels.csv and its recordings, or with visual_feature.h5 (docs/training.md), got {data}"
    raise DataError(msg)


def _lines(found: Comparison) -> list[str]:
    """Return the result in words, then a table."""
    head = f"{'':<24}{found.first[:14]:>15}{found.second[:14]:>15}{'difference':>12}  {'95 % interval':<16}{'p':>7}"
    rows = [("accuracy", found.accuracy), ("event-F1", found.event_f1)]
    rows += [(f"{name}, segment-F1", one[0]) for name, one in found.of_label.items()]
    rows += [(f"{name}, event-F1", one[1]) for name, one in found.of_label.items()]
    counted = f"{found.clips} clips, {found.groups} independent, {found.segments} segments; {found.draws} draws, seed {found.seed}"
    return [
        *in_words(found),
        "",
        counted,
        f"differences: {found.second} minus {found.first}, in points",
        "",
        head,
        *(_row(name, one) for name, one in rows),
    ]


def _row(name: str, one: Difference) -> str:
    spread = "-" if one.low is None or one.high is None else f"{100 * one.low:+.1f} to {100 * one.high:+.1f}"
    p = "-" if one.p is None else f"{one.p:.4f}"
    return f"{name[:23]:<24}{_percent(one.first):>15}{_percent(one.second):>15}{_points(one.difference):>12}  {spread:<16}{p:>7}"


def _percent(share: float) -> str:
    return "-" if math.isnan(share) else f"{100 * share:.1f} %"


def _points(share: float) -> str:
    return "-" if math.isnan(share) else f"{100 * share:+.1f}"
