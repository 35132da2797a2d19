"""Follows the clock of a live source: how far the machine's monotonic clock is ahead of the media clock, by when media arrive.

Pure: times in, an offset out. Nothing arrives before it has happened, so of all arrivals the least delayed one tells the
truth, and no delay can make it too small. The least of five minutes is that of the source's clock plus the shortest way
here; it moves when the source's clock runs fast or slow, and stays where it is through jitter and bursts.

    arrival - media   .  :.  . .:      :::::...    . :  .       a burst: late, all of it above the least
    followed          --------------------------------------
"""

from __future__ import annotations

from collections import deque
from typing import Final

__all__ = ["ArrivalOffset"]

_STRETCH_NS: Final = 30_000_000_000
_STRETCHES: Final = 10
"""The least of 4.5 to 5 minutes counts: a camera that is 100 ppm slow is followed 30 ms late at most."""
_RISE_PPM: Final = 200
"""A source's clock is off by some 100 ppm at worst. A least delay that grows faster is a slow network, not a slow clock."""


class ArrivalOffset:
    """Arrival minus media time of what was delayed least, ns; it falls at once and rises by at most 200 ppm."""

    def __init__(self) -> None:
        """Begin without any arrival."""
        self._least: deque[int] = deque(maxlen=_STRETCHES)
        self._stretch = 0
        self._offset_ns: int | None = None
        self._moved_ns = 0

    def push(self, now_ns: int, media_ns: int) -> int:
        """Note that media up to *media_ns* arrived at *now_ns* by the monotonic clock, and return the offset."""
        offset_ns, stretch = now_ns - media_ns, now_ns // _STRETCH_NS
        if not self._least or stretch != self._stretch:
            self._least.append(offset_ns)
            self._stretch = stretch
        self._least[-1] = min(self._least[-1], offset_ns)
        least_ns = min(self._least)
        if self._offset_ns is not None:
            least_ns = min(least_ns, self._offset_ns + (now_ns - self._moved_ns) * _RISE_PPM // 1_000_000)
        self._offset_ns, self._moved_ns = least_ns, now_ns
        return least_ns
