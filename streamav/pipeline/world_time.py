"""Maps the media clock of one source to the clocks of the machine: monotonic time for latencies, UTC for events.

It uses no item and no segment, only their times.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from streamav.arrivals import ArrivalOffset
from streamav.pipeline.wall import WallOffset, read_wall_offset_ns

if TYPE_CHECKING:
    from streamav.clock import Clock

__all__ = ["WorldTime"]

_NS = 1_000_000_000


class WorldTime:
    """Maps the media clock of one source to the clocks of the machine.

    The clock of a live source differs from the machine's by up to 10 s a day, so it is followed (`ArrivalOffset`), and so is the wall
    clock (`WallOffset`). A file is mapped once: at its own pace by its least delay until then, as fast as possible by the time at
    which it was opened.
    One thread reports arrivals and losses; other threads may read at the same time.
    """

    def __init__(self, clock: Clock, *, paced: bool, live: bool) -> None:
        """Start without any arrival.

        Args:
            clock: the machine's clocks.
            paced: True when media time passes in real time (live, or a file at its own pace).
            live: True when the source has its own clock.
        """
        self._clock = clock
        self._paced, self._live = paced, live
        self._arrivals = ArrivalOffset()
        self._offset_ns: int | None = None
        self._wall = WallOffset()
        self._epoch_ns: int | None = None

    def arrived(self, end_ns: int) -> None:
        """Record that media up to *end_ns* has arrived."""
        now_ns = self._clock.monotonic_ns()
        if self._live:
            self._offset_ns = self._arrivals.push(now_ns, end_ns)
        elif self._offset_ns is None or (self._paced and now_ns - end_ns < self._offset_ns):
            self._offset_ns = now_ns - end_ns

    def lost(self) -> None:
        """Record that a live source was lost. On return its clock may have any value, so it is read again."""
        self._arrivals = ArrivalOffset()

    def epoch_ns(self) -> int:
        """Return UTC of the media clock's zero, ns since 1970.

        For a file it is fixed by the first call. For a live source it follows the source's clock and the wall clock.
        """
        if self._epoch_ns is not None:
            return self._epoch_ns
        epoch_ns = self._wall.follow(*read_wall_offset_ns(self._clock)) + (self._offset_ns or 0)
        if not self._live:
            self._epoch_ns = epoch_ns
        return epoch_ns

    def latency_s(self, end_ns: int, given_ns: int) -> float:
        """Return the time from the end of a segment until now, s.

        Args:
            end_ns: end of the segment on the media clock.
            given_ns: monotonic time at which it was complete; used where media time does not pass in real time.
        """
        lag_ns, by_media = self.lag_ns(given_ns)
        return max(0, lag_ns - (end_ns if by_media else 0)) / _NS

    def lag_ns(self, given_ns: int) -> tuple[int, bool]:
        """Return the ns since the media clock's zero and True, or since *given_ns* and False where media time is not real time."""
        offset_ns = self._offset_ns
        if not self._paced or offset_ns is None:
            return self._clock.monotonic_ns() - given_ns, False
        return self._clock.monotonic_ns() - offset_ns, True
