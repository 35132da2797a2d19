"""Holds the clocks of the machine and a wait. Every part that needs time receives a clock, so that tests can pass their own.

It does not handle media time.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from threading import Event

__all__ = ["Clock", "SteadyClock", "SystemClock"]

STEADY_S: Final = 600.0
"""The wall clock must have run for this long without a step before its age removes anything, seconds (our choice)."""
STEP_S: Final = 60.0
"""A larger change of the wall clock against the monotonic one is a step, seconds (our choice)."""


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


class SteadyClock:
    """Tells whether the wall clock can be trusted with the age of files: a clock that is wrong for a moment must delete nothing."""

    def __init__(self) -> None:
        """Start without any reading."""
        self._offset_s: float | None = None
        self._since_s = 0.0

    def lasts(self, wall_s: float, monotonic_s: float) -> bool:
        """Take a reading of both clocks; return whether the wall clock has made no step for `STEADY_S`."""
        offset_s = wall_s - monotonic_s
        if self._offset_s is None or abs(offset_s - self._offset_s) > STEP_S:
            self._since_s = monotonic_s
        self._offset_s = offset_s
        return monotonic_s - self._since_s >= STEADY_S
