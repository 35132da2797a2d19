"""Holds the right of a worker to publish for its sources; it ends by itself, by the worker's own clock.

    worker       t1 report ------> controller          the report holds t1, the worker's own time
    worker       <------ order("lease from t1") ...    the lease ends at t1 + length, by the worker's clock

The controller knows that t1 was before the arrival of the report. So when it waits for the length of a lease after the last report that
it received, the lease is over, however late the order came, and whatever the clocks of the machines say. The clock counts
the time during which the process or the machine was frozen or suspended.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["LEASE_S", "MARGIN_S", "Lease", "boot_ns"]

LEASE_S = 6.0
"""Length of a lease, s: several lost or late calls do not end it, and a dead node's sources run elsewhere well within 15 s."""
MARGIN_S = 0.5
"""What the controller waits beyond the length, s: far more than clocks differ in rate over a lease."""


def boot_ns() -> int:
    """Return the time since the machine started, ns, with the time in which it was suspended (CLOCK_BOOTTIME, Linux)."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


class Lease:
    """A lease as its worker holds it. Once it is over it stays over, until another epoch begins. All methods are thread-safe."""

    def __init__(self, epoch: int, clock_ns: Callable[[], int] = boot_ns) -> None:
        """Begin without the right to publish.

        Args:
            epoch: number of this lease; a later lease of any worker has a greater one.
            clock_ns: clock of the worker.
        """
        self.epoch = epoch
        self._clock_ns = clock_ns
        self._end_ns: int | None = None
        self._over = False
        self._lock = threading.Lock()

    def renew(self, anchor_ns: int, length_s: float) -> None:
        """Extend the lease to *length_s* after *anchor_ns*, a time of our own clock that the controller has seen in a report."""
        with self._lock:
            self._check()
            if not self._over:
                self._end_ns = max(self._end_ns or 0, anchor_ns + round(length_s * 1e9))
                self._check()

    def holds(self) -> bool:
        """Return whether the worker may publish now."""
        with self._lock:
            self._check()
            return not self._over and self._end_ns is not None

    @property
    def over(self) -> bool:
        """True once the lease has begun and ended."""
        with self._lock:
            self._check()
            return self._over

    def _check(self) -> None:
        if self._end_ns is not None and self._clock_ns() >= self._end_ns:
            self._over = True
