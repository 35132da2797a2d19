"""`streamav tune`: finds a model's thresholds on validation streams and writes them into a copy of its bundle.

It reads options and prints; `streamav.evaluation.stream_tuning` chooses.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from streamav.bundle import Bundle
    from streamav.evaluation.stream_events import Hysteresis

__all__ = ["tune"]


def tune(
    data: Annotated[Path, typer.Option("--data", help="Folder of AVE-named HDF5 features; its validation split is used.")],
    model: Annotated[str, typer.Option("--model", help="Name of a model, or the folder of a bundle.")],
    out: Annotated[Path | None, typer.Option("--out", help="Write a copy of the bundle with the new thresholds.")] = None,
    latency: Annotated[int, typer.Option(min=0, max=9, help="Seconds of look-ahead to tune for.")] = 1,
    alarms: Annotated[float, typer.Option("--alarms-per-hour", min=0.0, help="Most false alarms in an hour of background.")] = 6.0,
    streams: Annotated[int, typer.Option(min=1, max=1000, help="How many streams.")] = 10,
    minutes: Annotated[float, typer.Option(min=0.5, help="Length of each.")] = 30.0,
    seed: Annotated[int, typer.Option(min=0, help="Of the streams.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")] = False,
) -> None:
    """Find the thresholds with the best event-F1 that keep false alarms within a limit."""
    from streamav.bundle import find_bundle
    from streamav.cli.evaluate import localizer_of, streams_of
    from streamav.evaluation.stream_tuning import tune as choose
    from streamav.training.ave import AveOptions, open_ave
    from streamav.training.streaming import run_streams

    bundle = find_bundle(model)
    folder = open_ave(data, AveOptions(check=False))
    network = localizer_of(bundle, folder)
    manifest = streams_of(folder, "val", (streams, minutes, seed), None)
    best, kept = choose(list(run_streams(network, folder.val, manifest, "argmax29")), latency, alarms)
    figures = {
        "on": best.hysteresis.on,
        "off": best.hysteresis.off,
        "min_segments": best.hysteresis.min_segments,
        "gap_segments": best.hysteresis.gap_segments,
        "latency_segments": latency + 1,
        "event_f1": best.counts.f1 if best.counts.true + best.counts.said else None,
        "background_false_alarms_per_hour": best.counts.background_false_alarms_per_hour,
        "within_limit": kept,
    }
    if out is not None:
        _write(bundle, out, best.hysteresis, latency + 1)
    typer.echo(json.dumps(figures, indent=1) if as_json else "\n".join(f"{name}: {value}" for name, value in figures.items()))
    if not kept:
        typer.echo(f"no thresholds keep false alarms to {alarms} an hour; these come nearest", err=True)


def _write(bundle: Bundle, out: Path, best: Hysteresis, latency_segments: int) -> None:
    """Copy the bundle with other thresholds; those of single classes are kept."""
    from streamav.bundle import write_bundle

    card = bundle.card
    changes = {"on": best.on, "off": best.off, "min_segments": best.min_segments, "gap_segments": best.gap_segments}
    detection = card.detection.model_copy(update={**changes, "latency_segments": latency_segments})
    tensors = {f"{part}.{name}": value for part in ("audio", "visual", "localizer") for name, value in bundle.weights(part).items()}
    write_bundle(out, card.model_copy(update={"detection": detection}), tensors)
