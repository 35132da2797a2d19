"""`streamav recordings`: runs a model over labelled recordings, as `streamav run` does, and prints a table of truth and events.

It reads labels, runs `streamav.app` on each file as fast as possible, and scores with `streamav.evaluation`.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from streamav.bundle import AUTO, choose_bundle
from streamav.config import DetectionSettings, EngineChoice, ModelSettings, PrecisionChoice, Settings, SourceSettings
from streamav.errors import DataError
from streamav.evaluation.recordings import Span, labels_of, read_labels
from streamav.types import SEGMENT_NS, EventPhase

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streamav.types import Event, FinalScores, SourceState, Telemetry

__all__ = ["FoundSpans", "recordings"]

_MOST_NAMED = 10
"""Most files that an error names."""


@dataclass(slots=True)
class FoundSpans:
    """A sink that keeps the confirmed events of one file."""

    spans: list[Span] = field(default_factory=list)
    seconds: int = 0

    async def start(self) -> None:
        """Do nothing."""

    def event(self, event: Event, latency_s: float) -> None:  # noqa: ARG002 - the protocol requires it
        """Keep the event if it ended and was confirmed."""
        if event.phase is EventPhase.END and event.confirmed and event.end_ns is not None:
            self.spans.append(Span(event.label, event.start_ns / SEGMENT_NS, event.end_ns / SEGMENT_NS, event.top_score))

    def source_state(self, source: str, state: SourceState, reason: str) -> None:
        """Do nothing."""

    def telemetry(self, source: str, telemetry: Telemetry) -> None:
        """Do nothing."""

    def scores(self, source: str, scores: FinalScores) -> None:
        """Do nothing."""

    async def close(self) -> None:
        """Do nothing."""


def recordings(
    folder: Annotated[Path, typer.Argument(help="Folder with the recordings and labels.csv (file, class_slug, onset_s, offset_s).")],
    model: Annotated[str, typer.Option("--model", help="Name of a model, or the folder of a bundle.")] = AUTO,
    weights: Annotated[Path | None, typer.Option("--weights", help="Folder with the encoders that the model does not contain.")] = None,
    latency: Annotated[
        int | None, typer.Option("--latency", min=1, max=10, help="Seconds until a score is final, as in streamav run.")
    ] = None,
    engine: Annotated[
        EngineChoice, typer.Option("--engine", help="Engine that runs the networks; auto is the fastest that works here.")
    ] = "auto",
    precision: Annotated[
        PrecisionChoice, typer.Option("--precision", help="Precision of the networks' numbers; auto is the engine's default.")
    ] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")] = False,
) -> None:
    """Run a model over labelled recordings and print truth, events and accuracy per second as a Markdown table."""
    truth = read_labels(folder / "labels.csv")
    if missing := sorted(name for name in truth if not (folder / name).is_file()):
        msg = f"{folder / 'labels.csv'} must name files in {folder}, and {len(missing)} are missing: {', '.join(missing[:_MOST_NAMED])}"
        raise DataError(msg)
    settings = ModelSettings(name=model, weights_dir=weights, engine=engine, precision=precision)
    known = set(choose_bundle(model, weights).bundle.card.slugs)
    rows: list[dict[str, object]] = []
    right = seconds = quiet = 0
    for name in sorted(truth):
        found = _run(folder / name, settings, latency)
        wanted = labels_of([span for span in truth[name] if span.label in known], found.seconds)
        said = labels_of(found.spans, found.seconds)
        hits = sum(one == other for one, other in zip(wanted, said, strict=True))
        right, seconds, quiet = right + hits, seconds + len(wanted), quiet + wanted.count(None)
        rows.append({"file": name, "truth": _text(truth[name]), "events": _text(found.spans), "right": hits, "seconds": len(wanted)})
    if not seconds:
        msg = f"at least one recording in {folder} must last a segment of one second, got {len(rows)} shorter ones; add longer recordings"
        raise DataError(msg)
    totals = {"accuracy": right / seconds, "always_background": quiet / seconds, "seconds": seconds, "model": model}
    if as_json:
        typer.echo(json.dumps({"rows": rows, **totals}, indent=1))
        return
    typer.echo("| recording | truth | events found | seconds right |\n|---|---|---|---|")
    for row in rows:
        typer.echo(f"| {row['file']} | {row['truth']} | {row['events']} | {row['right']} of {row['seconds']} |")
    typer.echo(f"\n{right} of {seconds} seconds right ({right / seconds:.1%}); always answering background: {quiet / seconds:.1%}.")


def _run(path: Path, model: ModelSettings, latency: int | None) -> FoundSpans:
    """Run one file as `streamav run --speed max` does."""
    from streamav import app

    found = FoundSpans()
    settings = Settings(
        source=SourceSettings(id="recording", uri=str(path), speed="max"),
        model=model,
        detection=DetectionSettings(latency_segments=latency),
    )
    summary = asyncio.run(app.run(app.build(settings, [found])))
    found.seconds = round(summary.media_s)
    return found


def _text(spans: Sequence[Span]) -> str:
    return "; ".join(f"{span.label} {span.onset_s:g}-{span.offset_s:g}" for span in spans) or "none"
