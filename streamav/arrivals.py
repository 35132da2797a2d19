"""Follows the clock of a live source: by how much the machine's monotonic clock is ahead of the media clock.

Pure: it takes times and returns an offset. No item arrives before it was recorded, so the arrival with the least delay is the
most exact one, and no delay can make it too small. The least delay of five minutes is the offset of the source's clock plus the
shortest transport time. It changes when the source's clock runs fast or slow, and is not changed by jitter and bursts.

    arrival - media   .  :.  . .:      :::::...    . :  .       a burst: late, all of it above the least delay
    followed          --------------------------------------
"""

from __future__ import annotations

from collections import deque
from typing import Final

__all__ = ["ArrivalOffset"]

_STRETCH_NS: Final = 30_000_000_000
_STRETCHES: Final = 10
"""The least delay of 4.5 to 5 minutes is used: a camera that is 100 ppm slow is followed at most 30 ms late."""
_RISE_PPM: Final = 200
"""A source's clock is off by about 100 ppm at worst. A least delay that grows faster means a slower network, not a slow clock."""


class ArrivalOffset:
    """Arrival minus media time of the least delayed item, ns. It falls at once and rises by at most 200 ppm."""

    def __init__(self) -> None:
        """Start without any arrival."""
        self._least: deque[int] = deque(maxlen=_STRETCHES)
        self._stretch = 0
        self._offset_ns: int | None = None
        self._moved_ns = 0

    def push(self, now_ns: int, media_ns: int) -> int:
        """Record that media up to *media_ns* arrived at *now_ns* by the monotonic clock, and return the offset."""
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
