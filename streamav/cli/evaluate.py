"""`streamav eval`: scores a model on the clips of a folder in AVE's form, and on streams made of these clips.

It reads options and prints; `streamav.training.streams.evaluate` runs and scores the model.
"""

from __future__ import annotations

import itertools
import json
import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from streamav.cli.json_output import finite, print_json
from streamav.cli.predicting import check_predictions_file, of_features
from streamav.cli.progress import progress
from streamav.errors import SettingsError
from streamav.evaluation.predictions import write_predictions
from streamav.view.markdown_page import write_beside

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streamav.evaluation.manifest import Manifest
    from streamav.training.streams.evaluate import Figures

__all__ = ["evaluate"]


def evaluate(
    data: Annotated[Path, typer.Option("--data", help="Folder of HDF5 features with AVE's file names.")],
    model: Annotated[str, typer.Option("--model", help="Name of a model, or the folder of a bundle.")],
    split: Annotated[Literal["val", "test"], typer.Option(help="Split to score. Try things on val; use test once, at the end.")] = "test",
    protocol: Annotated[
        Literal["clips", "stream", "both"], typer.Option(help="clips: ten-second clips as in the paper; stream: long streams; or both.")
    ] = "both",
    streams: Annotated[int, typer.Option(min=1, max=1000, help="Number of streams per seed.")] = 10,
    minutes: Annotated[float, typer.Option(min=0.5, help="Length of each stream in minutes.")] = 30.0,
    seed: Annotated[int, typer.Option(min=0, help="First seed of the streams.")] = 0,
    seeds: Annotated[int | None, typer.Option(min=1, max=100, help="Number of seeds; default: 3, or 1 with --manifest.")] = None,
    manifest: Annotated[Path | None, typer.Option(help="JSON file of the streams: read if it exists, else written.")] = None,
    how: Annotated[
        Literal["hamming", "mean", "newest"], typer.Option("--aggregation", help="How the scores of several windows are combined.")
    ] = "hamming",
    thresholds: Annotated[
        Literal["tuned", "card"] | None,
        typer.Option(help="tuned: set on val streams (default for test); card: those of the model's card (default for val)."),
    ] = None,
    alarms: Annotated[
        float, typer.Option("--alarms-per-hour", min=0.0, help="For tuned thresholds: most false alarms per hour of background.")
    ] = 6.0,
    baselines: Annotated[bool, typer.Option(help="Also score two baselines: the last label repeated, and the offline oracle.")] = True,
    out: Annotated[Path | None, typer.Option("--out", help="New folder for report.md, report.json and the streams.")] = None,
    predictions: Annotated[
        Path | None,
        typer.Option("--predictions", help="Also write the answer for every segment of the clips, with the truth: .npz or .csv."),
    ] = None,
    weights: Annotated[
        Path | None, typer.Option("--weights", help="Folder with the encoders that the model does not contain; they score classes.")
    ] = None,
    localizer_only: Annotated[bool, typer.Option("--localizer-only", help="Score the localizer alone, without the evidence.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")] = False,
) -> None:
    """Compute the accuracy of a model on features: on clips as in the paper, and on streams.

    A model with evidence is scored as it runs live: localizer and class scores together.
    """
    from streamav.bundle import find_bundle
    from streamav.evaluation.report import report_lines
    from streamav.training.data.folder import AveOptions, open_ave
    from streamav.training.streams.evaluate import StreamEvaluation, clip_figures, judged_model, streams_of

    count = seeds or (3 if manifest is None else 1)
    if manifest is not None and count > 1:
        msg = f"--manifest holds the streams of one seed, got --seeds {count}; leave out one of the two options"
        raise SettingsError(msg)
    if out is not None and out.exists() and (not out.is_dir() or any(out.iterdir())):
        msg = f"--out must be a new or empty folder, got {out}; name another folder"
        raise SettingsError(msg)
    check_predictions_file(predictions)
    bundle = find_bundle(model)
    folder = open_ave(data, AveOptions(check=False))
    network = judged_model(bundle, folder, weights, localizer_only=localizer_only)
    command = "streamav " + shlex.join(sys.argv[1:])
    figures: Figures = {"model": bundle.card.name, "sha256": bundle.sha256, "data": str(data), "split": split, "command": command}
    manifests: list[Manifest] = []
    if predictions is not None:
        write_predictions(predictions, of_features(bundle, folder, split, network))
    if protocol in {"clips", "both"}:
        with progress("clips") as show:
            figures["clips"] = clip_figures(network, folder, split, show)
    if protocol in {"stream", "both"}:
        plan = StreamEvaluation(network, bundle, folder, how, thresholds or ("tuned" if split == "test" else "card"), alarms, baselines)
        manifests = [streams_of(folder, split, (streams, minutes, seed + number), manifest) for number in range(count)]
        tuning = streams_of(folder, "val", (streams, minutes, seed), None) if plan.thresholds == "tuned" else None
        runs, done = plan.runs(manifests, tuning), itertools.count(1)
        with progress("streams") as show:
            show(0, runs)
            figures["stream"] = replace(plan, ran=lambda: show(next(done), runs)).figures(manifests, tuning)
    lines = report_lines(figures)
    if out is not None:
        _write(out, figures, lines, manifests)
    if as_json:
        print_json(figures)
    else:
        typer.echo("\n".join(lines))


def _write(out: Path, figures: Figures, lines: list[str], manifests: Sequence[Manifest]) -> None:
    """Write the report as Markdown and JSON, and the streams, which can then be scored again."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "report.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    write_beside(out / "report.md")
    (out / "report.json").write_text(json.dumps(finite(figures), indent=1) + "\n", encoding="utf-8")
    for one in manifests:
        (out / f"streams-{one.split}-{one.seed}.json").write_text(one.to_json(), encoding="utf-8")
