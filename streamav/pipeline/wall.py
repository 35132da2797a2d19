"""Follows the wall clock: by how much UTC is ahead of the machine's monotonic clock.

It decides on times alone; `read_wall_offset_ns` reads the clocks. UTC steps when NTP sets the clock for the first time, when a
person sets it, and when the machine resumes from a suspend, during which the monotonic clock stands still. NTP slews it otherwise,
also over a leap second.

    utc - monotonic      ______|       a step is followed at once
    followed             ______|/---   a small difference at NTP's own rate, so that the times of two events keep their distance
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from streamav.clock import Clock

__all__ = ["WallOffset", "read_wall_offset_ns"]

_STEP_NS: Final = 100_000_000
"""A larger difference is a step. NTP steps from 128 ms on, and slews below (RFC 5905, STEPT)."""
_SLEW_PPM: Final = 500
"""NTP slews by at most this rate (RFC 5905, MAXFREQ)."""
_READ_NS: Final = 1_000_000
_READS: Final = 3
"""A pair of readings that takes longer than 1 ms was interrupted, so it is read again, at most three times."""


class WallOffset:
    """UTC minus the monotonic clock, ns."""

    def __init__(self) -> None:
        """Start without any reading."""
        self._followed: tuple[int, int] | None = None  # offset, monotonic time of the reading

    def follow(self, now_ns: int, offset_ns: int) -> int:
        """Take the difference of the clocks at *now_ns*, monotonic, and return the offset to use, ns."""
        if self._followed is None:
            self._followed = (offset_ns, now_ns)
            return offset_ns
        used_ns, read_ns = self._followed
        off_ns, most_ns = offset_ns - used_ns, max(0, now_ns - read_ns) * _SLEW_PPM // 1_000_000
        if abs(off_ns) > _STEP_NS:
            most_ns = abs(off_ns)
        used_ns += max(-most_ns, min(most_ns, off_ns))
        self._followed = (used_ns, now_ns)
        return used_ns


def read_wall_offset_ns(clock: Clock) -> tuple[int, int]:
    """Return the monotonic time and UTC minus it, both in ns, from the least interrupted of up to three pairs of readings."""
    best: tuple[int, int, int] | None = None
    for _ in range(_READS):
        before_ns = clock.monotonic_ns()
        utc_ns = clock.utc_ns()
        took_ns = clock.monotonic_ns() - before_ns
        if best is None or took_ns < best[0]:
            best = (took_ns, before_ns, utc_ns - before_ns)
        if took_ns <= _READ_NS:
            break
    _, now_ns, offset_ns = best if best is not None else (0, 0, 0)
    return now_ns, offset_ns
