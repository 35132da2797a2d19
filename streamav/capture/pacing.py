"""Waits so that a file plays at its own pace. It handles no media."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from threading import Event

    from streamav.clock import Clock

__all__ = ["Pacer"]


class Pacer:
    """Waits until the time of an item has come, counted from the first item.

    It makes up for a slow consumer: late items are passed on without a wait, until the consumer has caught up.
    """

    def __init__(self, clock: Clock, stop: Event) -> None:
        """Keep the clock; the pace starts with the first call of wait_until()."""
        self._clock = clock
        self._stop = stop
        self._zero_ns: int | None = None

    def wait_until(self, time_ns: int) -> None:
        """Return when media time *time_ns* has come, or *stop* is set."""
        now_ns = self._clock.monotonic_ns()
        if self._zero_ns is None:
            self._zero_ns = now_ns - time_ns
        early_ns = self._zero_ns + time_ns - now_ns
        if early_ns > 0:
            self._clock.wait(early_ns / 1e9, self._stop)
