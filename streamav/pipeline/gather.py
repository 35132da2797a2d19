"""Computes how long a segment may wait for the segments of other sources, so that they are run as one batch.

Pure: it takes the times at which segments arrived, and uses no queue and no clock. It does not wait for a source whose segment is
overdue: after its first missing segment, a stalled source costs the others nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from streamav.types import SEGMENT_NS

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["DueTimes"]

_JITTER_NS = 20_000_000
"""A segment may arrive this much later than expected and is still waited for (our choice)."""


class DueTimes:
    """Computes when the next segment of each source is due: one second after its last segment arrived."""

    def __init__(self, bound_ns: int) -> None:
        """Start without any source.

        Args:
            bound_ns: longest wait, counted from the arrival of the first segment of a batch; 0 for none.
        """
        self._bound_ns = bound_ns
        self._due_ns: dict[str, int] = {}

    def came(self, source: str, given_ns: int) -> None:
        """Record that a segment of *source* arrived at *given_ns*."""
        self._due_ns[source] = given_ns + SEGMENT_NS

    def wait_ns(self, first_ns: int, now_ns: int, absent: Iterable[str]) -> int:
        """Return how long to wait from now on, ns; 0 when no segment is due.

        Args:
            first_ns: arrival of the first segment of the batch.
            now_ns: the time.
            absent: sources without a segment in the batch.
        """
        end_ns = first_ns + self._bound_ns
        if now_ns >= end_ns:
            return 0
        due = (self._due_ns[source] for source in absent if source in self._due_ns)
        latest_ns = max((one for one in due if one <= end_ns and one + _JITTER_NS > now_ns), default=now_ns - _JITTER_NS)
        return max(0, min(end_ns, latest_ns + _JITTER_NS) - now_ns)
