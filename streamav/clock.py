"""The clocks of the machine, and how to wait by them; every part that needs time is given one, so that tests can give theirs.

It knows no media.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from threading import Event

__all__ = ["Clock", "SystemClock"]


class Clock(Protocol):
    """Two clocks and a wait; safe to use from several threads."""

    def monotonic_ns(self) -> int:
        """Return the time since some fixed moment, ns; it never goes back."""

    def utc_ns(self) -> int:
        """Return UTC, ns since 1970; it may jump."""

    def wait(self, seconds: float, stop: Event) -> bool:
        """Wait for *seconds* by the monotonic clock, or until *stop* is set; return True when it is set."""


class SystemClock:
    """The machine's clocks."""

    def monotonic_ns(self) -> int:
        """Return `time.monotonic_ns()`."""
        return time.monotonic_ns()

    def utc_ns(self) -> int:
        """Return `time.time_ns()`."""
        return time.time_ns()

    def wait(self, seconds: float, stop: Event) -> bool:
        """Block the thread; a set *stop* ends the wait at once."""
        return stop.wait(max(0.0, seconds))
