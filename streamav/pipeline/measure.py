"""Measures a run: the latency of events, the speed of the machine, its memory.

It changes nothing: no stage depends on a measurement of this module.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from streamav.memory import peak_memory_mb

if TYPE_CHECKING:
    from collections.abc import Sequence


__all__ = ["Meter", "RunSummary", "SourceSummary"]

NS = 1_000_000_000
_KEPT_LATENCIES = 3_600
"""Number of newest latencies from which the percentiles are computed: an hour of one source."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceSummary:
    """Results of one source."""

    id: str
    media_s: float
    """Seconds of media that were processed."""
    events: int
    """Events that were confirmed."""
    retracted: int
    """Events that were announced and retracted."""
    dropped_segments: int
    thinned_segments: int
    """Segments of which fewer frames were processed because the machine could not process all."""
    looked_frames_per_second: float | None
    """Frames that were processed of a segment, on average; None when there was no segment."""
    latency_p50_s: float | None
    """From the end of a segment to the hand-over of its events; None when nothing was scored."""
    latency_p95_s: float | None
    error: str | None
    """The error that ended it early."""

    @classmethod
    def of(cls, name: str, meter: Meter, dropped: int, error: Exception | None) -> SourceSummary:
        """Build the summary of a source from its meter."""
        p50, p95, _ = _percentiles(list(meter.latencies_s))
        return cls(
            id=name,
            media_s=float(meter.segments),
            events=meter.events,
            retracted=meter.retracted,
            dropped_segments=dropped,
            thinned_segments=meter.thinned,
            looked_frames_per_second=meter.looked_frames / meter.segments if meter.segments else None,
            latency_p50_s=p50,
            latency_p95_s=p95,
            error=None if error is None else str(error) or type(error).__name__,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSummary:
    """Results of a run, all sources together."""

    media_s: float
    """Seconds of media that were processed."""
    wall_s: float
    events: int
    """Events that were confirmed."""
    retracted: int
    """Events that were announced and retracted."""
    dropped_segments: int
    thinned_segments: int
    """Segments of which fewer frames were processed because the machine could not process all."""
    latency_p50_s: float | None
    """From the end of a segment to the hand-over of its events; None when nothing was scored."""
    latency_p95_s: float | None
    latency_p99_s: float | None
    realtime_factor: float | None
    """Processing time over media time, of one source; the run keeps up below 1 divided by the number of sources."""
    peak_memory_mb: float
    """Largest resident memory of this process, 10^6 bytes."""
    sources: tuple[SourceSummary, ...]
    """Results of each source."""


class Meter:
    """Counters of one source."""

    def __init__(self) -> None:
        """Start at zero."""
        self.segments = 0
        self.thinned = 0
        self.looked_frames = 0
        self.events = 0
        self.retracted = 0
        self.busy_ns = 0
        self.latencies_s: deque[float] = deque(maxlen=_KEPT_LATENCIES)
        self._mark = (0, 0, 0)

    def lately(self) -> tuple[float, float]:
        """Return the real-time factor and the processed frames of a segment, since the last call."""
        now = (self.segments, self.busy_ns, self.looked_frames)
        segments, busy_ns, frames = (new - old for new, old in zip(now, self._mark, strict=True))
        self._mark = now
        return (busy_ns / NS / segments, frames / segments) if segments else (0.0, 0.0)


def summary(sources: Sequence[SourceSummary], meters: Sequence[Meter], wall_s: float) -> RunSummary:
    """Return the summary of all sources together."""
    p50, p95, p99 = _percentiles([value for meter in meters for value in meter.latencies_s])
    segments = sum(meter.segments for meter in meters)
    return RunSummary(
        media_s=float(segments),
        wall_s=wall_s,
        events=sum(one.events for one in sources),
        retracted=sum(one.retracted for one in sources),
        dropped_segments=sum(one.dropped_segments for one in sources),
        thinned_segments=sum(one.thinned_segments for one in sources),
        latency_p50_s=p50,
        latency_p95_s=p95,
        latency_p99_s=p99,
        realtime_factor=sum(meter.busy_ns for meter in meters) / NS / segments if segments else None,
        peak_memory_mb=peak_memory_mb(),
        sources=tuple(sources),
    )


def _percentiles(latencies: list[float]) -> tuple[float | None, float | None, float | None]:
    """Return the 50th, 95th and 99th percentile."""
    if not latencies:
        return None, None, None
    p50, p95, p99 = (float(value) for value in np.percentile(latencies, (50, 95, 99)))
    return p50, p95, p99
