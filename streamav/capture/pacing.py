"""Time for sources: the clock they are given, and the waiting that plays a file at its own pace.

It knows no media. The clock is monotonic; nothing here reads the time of day.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from threading import Event

__all__ = ["Clock", "Pacer", "SystemClock"]


class Clock(Protocol):
    """A clock that never goes back, and the way to wait by it."""

    def now_ns(self) -> int:
        """Give the time since some fixed moment, ns."""

    def wait(self, seconds: float, stop: Event) -> bool:
        """Wait for so many seconds or until *stop* is set; True when it is set."""


class SystemClock:
    """The machine's monotonic clock."""

    def now_ns(self) -> int:
        """Give `time.monotonic_ns()`."""
        return time.monotonic_ns()

    def wait(self, seconds: float, stop: Event) -> bool:
        """Block the thread; a set *stop* ends it at once."""
        return stop.wait(max(0.0, seconds))


class Pacer:
    """Holds items back until their time has come, counted from the first one.

    A consumer that is slow for a while is not waited for again: what is late is given at once, until it has caught up.
    """

    def __init__(self, clock: Clock, stop: Event) -> None:
        """Keep the clock; the pace begins with the first call of wait_until()."""
        self._clock = clock
        self._stop = stop
        self._zero_ns: int | None = None

    def wait_until(self, time_ns: int) -> None:
        """Return when media time *time_ns* has come, or *stop* is set."""
        now_ns = self._clock.now_ns()
        if self._zero_ns is None:
            self._zero_ns = now_ns - time_ns
        early_ns = self._zero_ns + time_ns - now_ns
        if early_ns > 0:
            self._clock.wait(early_ns / 1e9, self._stop)
