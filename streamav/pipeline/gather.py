"""Says how long a second that has come may wait for those of other sources, so that they are run as one batch.

Pure: it is told when seconds came, and knows no queue and no clock. A source whose second is overdue is not waited for:
after its first missing second a stalled one costs the others nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from streamav.types import SEGMENT_NS

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["DueTimes"]

_JITTER_NS = 20_000_000
"""So much later than expected may a second come and still be waited for (our choice)."""


class DueTimes:
    """When the next second of each source is due: one second after its last one came."""

    def __init__(self, bound_ns: int) -> None:
        """Begin without knowing any source.

        Args:
            bound_ns: longest wait, counted from when the first second of a batch came; 0 for none.
        """
        self._bound_ns = bound_ns
        self._due_ns: dict[str, int] = {}

    def came(self, source: str, given_ns: int) -> None:
        """Note that a second of *source* came."""
        self._due_ns[source] = given_ns + SEGMENT_NS

    def wait_ns(self, first_ns: int, now_ns: int, absent: Iterable[str]) -> int:
        """Give how long to wait from now on; 0 when nobody is due.

        Args:
            first_ns: when the first second of the batch came.
            now_ns: the time.
            absent: sources without a second in the batch.
        """
        end_ns = first_ns + self._bound_ns
        if now_ns >= end_ns:
            return 0
        due = (self._due_ns[source] for source in absent if source in self._due_ns)
        latest_ns = max((one for one in due if one <= end_ns and one + _JITTER_NS > now_ns), default=now_ns - _JITTER_NS)
        return max(0, min(end_ns, latest_ns + _JITTER_NS) - now_ns)
