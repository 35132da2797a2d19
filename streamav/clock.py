"""Holds the clocks of the machine and a wait. Every part that needs time receives a clock, so that tests can pass their own.

It does not handle media time.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from threading import Event

__all__ = ["Clock", "SystemClock"]


class Clock(Protocol):
    """Two clocks and a wait; all methods are thread-safe."""

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
        """Block the thread for *seconds*; when *stop* is set, the wait ends at once."""
        return stop.wait(max(0.0, seconds))
