"""Measures a run: which moment of the world a media time is, how late events are, how fast the machine is.

It changes nothing: no stage behaves differently because of what is measured here.
"""

from __future__ import annotations

import resource
import sys
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Clock", "Meter", "RunSummary", "SystemClock", "WorldTime"]

NS = 1_000_000_000
_KEPT_LATENCIES = 20_000
"""Newest latencies that the percentiles are taken of: hours of one source."""


class Clock(Protocol):
    """The two clocks of a run."""

    def monotonic_ns(self) -> int:
        """Give the time since some fixed moment; it never goes back."""

    def utc_ns(self) -> int:
        """Give UTC, ns since 1970; it may jump."""


class SystemClock:
    """The machine's clocks."""

    def monotonic_ns(self) -> int:
        """Give `time.monotonic_ns()`."""
        return time.monotonic_ns()

    def utc_ns(self) -> int:
        """Give `time.time_ns()`."""
        return time.time_ns()


class WorldTime:
    """Maps the media clock of one source to the clocks of the machine.

    Nothing arrives before it has happened, so where a source keeps the world's pace the smallest delay seen so far is
    nearest to the truth. A file that is read as fast as possible is taken to begin when it was opened.
    """

    def __init__(self, clock: Clock, *, paced: bool) -> None:
        """Begin without knowing anything.

        Args:
            clock: the machine's clocks.
            paced: True when media time passes as fast as the world's (live, or a file at its own pace).
        """
        self._clock = clock
        self._paced = paced
        self._offset_ns: int | None = None
        self._epoch_ns: int | None = None

    def arrived(self, end_ns: int) -> None:
        """Note that media up to *end_ns* is here."""
        offset_ns = self._clock.monotonic_ns() - end_ns
        if self._offset_ns is None or (self._paced and offset_ns < self._offset_ns):
            self._offset_ns = offset_ns

    def epoch_ns(self) -> int:
        """Give UTC of the media clock's zero; fixed by the first call, so that a jump of the wall clock moves no event."""
        if self._epoch_ns is None:
            offset_ns = 0 if self._offset_ns is None else self._offset_ns
            self._epoch_ns = self._clock.utc_ns() - self._clock.monotonic_ns() + offset_ns
        return self._epoch_ns

    def latency_s(self, end_ns: int, given_ns: int) -> float:
        """Give the time from the end of a second until now.

        Args:
            end_ns: its end on the media clock.
            given_ns: when it was complete, monotonic: counts where media time has no pace of its own.
        """
        since_ns = given_ns if not self._paced or self._offset_ns is None else self._offset_ns + end_ns
        return max(0.0, (self._clock.monotonic_ns() - since_ns) / NS)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSummary:
    """What a run came to."""

    media_s: float
    """Seconds of media that were looked at."""
    wall_s: float
    events: int
    """Events that were confirmed."""
    retracted: int
    """Events that were announced and taken back."""
    dropped_segments: int
    thinned_segments: int
    """Segments of which fewer frames were looked at because the machine was behind."""
    latency_p50_s: float | None
    """End of a second until its events are handed over; None when nothing was scored."""
    latency_p95_s: float | None
    realtime_factor: float | None
    """Processing time over media time; below 1 keeps up."""
    peak_memory_mb: float
    """Greatest resident memory of this process, 10^6 bytes."""


class Meter:
    """Counters of one source."""

    def __init__(self) -> None:
        """Begin at zero."""
        self.segments = 0
        self.thinned = 0
        self.events = 0
        self.retracted = 0
        self.busy_ns = 0
        self.latencies_s: deque[float] = deque(maxlen=_KEPT_LATENCIES)
        self._mark = (0, 0)

    def lately(self) -> float:
        """Give the real-time factor since the last call."""
        segments, busy_ns = self.segments - self._mark[0], self.busy_ns - self._mark[1]
        self._mark = (self.segments, self.busy_ns)
        return busy_ns / NS / segments if segments else 0.0


def summary(meters: Iterable[Meter], wall_s: float, dropped: int) -> RunSummary:
    """Add up the meters of all sources."""
    meters = list(meters)
    latencies = [value for meter in meters for value in meter.latencies_s]
    segments = sum(meter.segments for meter in meters)
    p50, p95 = (float(value) for value in np.percentile(latencies, (50, 95))) if latencies else (None, None)
    return RunSummary(
        media_s=float(segments),
        wall_s=wall_s,
        events=sum(meter.events for meter in meters),
        retracted=sum(meter.retracted for meter in meters),
        dropped_segments=dropped,
        thinned_segments=sum(meter.thinned for meter in meters),
        latency_p50_s=p50,
        latency_p95_s=p95,
        realtime_factor=sum(meter.busy_ns for meter in meters) / NS / segments if segments else None,
        peak_memory_mb=_peak_memory_mb(),
    )


def _peak_memory_mb() -> float:
    """Give the greatest resident memory of this process.

    Linux tells it in /proc/self/status in KiB; getrusage, which other systems have, may hold the peak of the process that
    started this one (there it counts KiB, on macOS bytes).
    """
    status = Path("/proc/self/status")
    if status.exists():
        found = [line.split()[1] for line in status.read_text(encoding="ascii", errors="replace").splitlines() if line.startswith("VmHWM:")]
        if found:
            return int(found[0]) * 1024 / 1e6
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6
