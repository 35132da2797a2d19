"""Returns the confirmed events of a whole live run over one file."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path

from streamav import app
from streamav.config import DetectionSettings, ModelSettings, Settings, SourceSettings
from streamav.evaluation.recordings import Span
from streamav.types import SEGMENT_NS, Event, EventPhase, FinalScores, SourceState, Telemetry

__all__ = ["FoundSpans", "found_by_run"]


@dataclass(slots=True)
class FoundSpans:
    """A sink that keeps the confirmed events of one source."""

    spans: list[Span] = field(default_factory=list)

    async def start(self) -> None: ...

    def event(self, event: Event, latency_s: float) -> None:
        if event.phase is EventPhase.END and event.confirmed and event.end_ns is not None:
            self.spans.append(Span(event.label, event.start_ns / SEGMENT_NS, event.end_ns / SEGMENT_NS, event.top_score))

    def source_state(self, source: str, state: SourceState, reason: str) -> None: ...

    def telemetry(self, source: str, telemetry: Telemetry) -> None: ...

    def scores(self, source: str, scores: FinalScores) -> None: ...

    async def close(self) -> None: ...


def found_by_run(recording: Path, model: Path, detection: DetectionSettings) -> FoundSpans:
    """Run a file as `streamav run --speed max` does."""
    found = FoundSpans()
    settings = Settings(
        source=SourceSettings(id="recording", uri=str(recording), speed="max"), model=ModelSettings(name=str(model)), detection=detection
    )
    asyncio.run(app.run(app.build(settings, [found])))
    return found
