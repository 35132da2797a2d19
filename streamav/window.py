"""Keeps the features of the last ten segments and returns them as a window for each new segment.

Pure: it uses no clock, network or source. It holds features, never media.

    segments  0  1  2  3  4  5  6  7  8 | 9  10  11        the first nine fill it: windows are short, their scores provisional
    windows         0..2                | 0..9
                       0..3   ...       |   1..10
                                        |       2..11
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from streamav.errors import ShapeError
from streamav.types import WINDOW_SEGMENTS, Window

if TYPE_CHECKING:
    from streamav.types import SegmentFeatures

__all__ = ["LEAST_SEGMENTS", "WindowRing"]

LEAST_SEGMENTS = 2
"""Segments of the shortest window that a live run scores: the least that is as accurate as a full one (scripts/window_fill)."""


class WindowRing:
    """A ring of the last ten segments of one source."""

    def __init__(self, least: int = WINDOW_SEGMENTS) -> None:
        """Start empty; a window holds at least *least* segments, 1 to 10, unless the source ends before."""
        self._least = least
        self._ring: deque[SegmentFeatures] = deque(maxlen=WINDOW_SEGMENTS)

    @property
    def full(self) -> bool:
        """True once ten segments have arrived since the start or the last reset."""
        return len(self._ring) == WINDOW_SEGMENTS

    def push(self, features: SegmentFeatures) -> Window | None:
        """Take the next segment and return the window that ends with it, or None while it would be too short.

        Raises:
            ShapeError: when the index is not the next one; call reset() first, or fill the gap.
        """
        if self._ring and features.index != self._ring[-1].index + 1:
            msg = f"the segment after {self._ring[-1].index} must be the next one, got {features.index}; reset() the ring at a gap"
            raise ShapeError(msg)
        self._ring.append(features)
        return Window(segments=tuple(self._ring)) if len(self._ring) >= self._least else None

    def reset(self) -> None:
        """Forget all segments, as when the source is lost: the next window needs ten new segments."""
        self._ring.clear()

    def close(self) -> Window | None:
        """Return the one window of a source that ended before the shortest window was full, else None; the ring is empty afterwards."""
        short = Window(segments=tuple(self._ring)) if 0 < len(self._ring) < self._least else None
        self._ring.clear()
        return short
