"""`streamav eval`: scores a model on the clips of an AVE-shaped folder, and on streams laid out of them.

It reads options and prints; `streamav.training.streaming` runs the model and `streamav.evaluation` scores it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from streamav.errors import DataError

if TYPE_CHECKING:
    from streamav.bundle import Bundle
    from streamav.evaluation.stream_ages import Combination
    from streamav.evaluation.stream_manifest import Manifest
    from streamav.evaluation.stream_scores import StreamResult
    from streamav.networks.options import Decision
    from streamav.networks.vscg import VSCG
    from streamav.training.ave import AveData

__all__ = ["evaluate", "localizer_of", "streams_of"]

Figures = dict[str, object]


def evaluate(
    data: Annotated[Path, typer.Option("--data", help="Folder of AVE-named HDF5 features.")],
    model: Annotated[str, typer.Option("--model", help="Name of a model, or the folder of a bundle.")],
    split: Annotated[Literal["val", "test"], typer.Option(help="Tune on val; read test once.")] = "test",
    protocol: Annotated[Literal["clips", "stream", "both"], typer.Option(help="Clips of ten seconds as the paper, or streams.")] = "both",
    streams: Annotated[int, typer.Option(min=1, max=1000, help="How many streams.")] = 10,
    minutes: Annotated[float, typer.Option(min=0.5, help="Length of each.")] = 30.0,
    seed: Annotated[int, typer.Option(min=0, help="Of the streams.")] = 0,
    manifest: Annotated[Path | None, typer.Option(help="Use these streams; written where the file is not there yet.")] = None,
    how: Annotated[Literal["hamming", "mean", "newest"], typer.Option("--aggregation", help="How windows are combined.")] = "hamming",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")] = False,
) -> None:
    """Score a model offline, with the protocol of the paper and the one for streams."""
    from streamav.bundle import find_bundle
    from streamav.training.ave import AveOptions, open_ave

    bundle = find_bundle(model)
    folder = open_ave(data, AveOptions(check=False))
    network = localizer_of(bundle, folder)
    figures: Figures = {"model": bundle.card.name, "sha256": bundle.sha256, "data": str(data), "split": split}
    if protocol in {"clips", "both"}:
        figures["clips"] = _clips(network, folder, split)
    if protocol in {"stream", "both"}:
        figures["stream"] = _streams(network, bundle, folder, streams_of(folder, split, (streams, minutes, seed), manifest), how)
    if as_json:
        typer.echo(json.dumps(figures, indent=1))
        return
    _show(figures)


def localizer_of(bundle: Bundle, data: AveData) -> VSCG:
    """Make the localizer of a bundle and check that the folder's features are its own."""
    from streamav.engines.modules import build_localizer

    network = build_localizer(bundle)
    options = network.options
    got = (int(data.val.audio.shape[2]), int(data.val.visual.shape[4]), int(data.val.visual.shape[2]), len(data.classes))
    wanted = (options.audio_size, options.visual_size, options.grid, options.classes)
    if got != wanted:
        msg = f"the model takes features and classes of sizes {wanted} (audio, visual, grid, classes), the folder has {got}"
        raise DataError(msg)
    if bundle.card.classes != data.classes:
        msg = "the model's classes must be those of the folder, in the same order"
        raise DataError(msg)
    return network.eval()


def _clips(network: VSCG, data: AveData, split: str) -> Figures:
    """Score whole clips: accuracy as the paper, and what accuracy hides."""
    import numpy as np

    from streamav.evaluation.bootstrap import bootstrap
    from streamav.evaluation.segments import score_segments
    from streamav.evaluation.stream_events import Collar, EventCounts, count_events, spans_of_labels
    from streamav.training.selection import answers

    part = data.val if split == "val" else data.test
    options = network.options
    said = answers(network, part.batches(64), options.decision, options.decision_threshold)
    background = part.background
    right = (said.truth == said.decided).sum(axis=1).astype(float)
    spread = bootstrap(right, np.full(len(right), float(said.truth.shape[1])))
    counts = sum(
        (
            count_events(truth, spans_of_labels(label, background), background, Collar())
            for truth, label in zip(said.truth, said.decided, strict=True)
        ),
        EventCounts(),
    )
    scores = score_segments(said.truth, said.decided, background)
    return {
        "decision": options.decision,
        "clips": len(part),
        **scores.to_dict(),
        "accuracy_95": [spread.low, spread.high],
        "event_f1": counts.f1,
        "right_class_never_background": 1.0 - scores.always_background,
    }


def streams_of(data: AveData, split: str, size: tuple[int, float, int], path: Path | None) -> Manifest:
    """Read the streams from a file, or draw them and, where a file is named, write them."""
    from streamav.evaluation.stream_manifest import ManifestOptions, parse_manifest
    from streamav.training.streaming import manifest_of

    if path is not None and path.is_file():
        found = parse_manifest(path.read_text(encoding="utf-8"), str(path))
        if found.split != split:
            msg = f"{path} must hold streams of the {split} split, got {found.split}"
            raise DataError(msg)
        return found
    count, minutes, seed = size
    made = manifest_of(data, split, ManifestOptions(streams=count, seconds=round(60 * minutes), seed=seed))
    if path is not None:
        path.write_text(made.to_json(), encoding="utf-8")
    return made


def _streams(network: VSCG, bundle: Bundle, data: AveData, manifest: Manifest, how: Combination) -> Figures:
    """Score streams with both heads: per segment, and the paper's one class a window."""
    from streamav.evaluation.stream_events import Hysteresis
    from streamav.evaluation.stream_scores import score_streams
    from streamav.training.streaming import run_streams

    detection = bundle.card.detection
    hysteresis = Hysteresis(on=detection.on, off=detection.off, min_segments=detection.min_segments, gap_segments=detection.gap_segments)
    heads: list[Decision] = ["argmax29"] if network.options.supervision == "weakly" else ["argmax29", "two_stage"]
    found: Figures = {"hysteresis": detection.model_dump(exclude={"classes", "latency_segments"})}
    for head in heads:
        result: StreamResult = score_streams(list(run_streams(network, data.val, manifest, head)), how, hysteresis)
        found["per_segment" if head == "argmax29" else "two_stage"] = result.to_dict()
    return found


def _show(figures: Figures) -> None:
    """Print the figures as tables."""
    from rich.console import Console
    from rich.table import Table

    console = Console()
    clips = figures.get("clips")
    if isinstance(clips, dict):
        table = Table("clips", str(figures["split"]), title=f"{figures['model']}: ten-second clips")
        for name, value in clips.items():
            table.add_row(name, _text(value))
        console.print(table)
    streams = figures.get("stream")
    for head, result in streams.items() if isinstance(streams, dict) else ():
        if not isinstance(result, dict) or "ages" not in result:
            continue
        for part in ("latencies", "ages"):
            rows = result[part]
            table = Table(
                *(name.replace("_", " ") for name in rows[0]), title=f"{figures['model']}: streams, {head}, {result['seconds']} s"
            )
            for row in rows:
                table.add_row(*(_text(value) for value in row.values()))
            console.print(table)


def _text(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.3f}"
    return ", ".join(_text(inner) for inner in value) if isinstance(value, list) else "-" if value is None else str(value)
