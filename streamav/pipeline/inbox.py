"""Hands the segments of one source from its capture thread to the inference worker; its size is bounded.

It does not depend on either thread. When it is full, it drops its oldest segment and counts it (live), or makes put() wait (replay).
Several inboxes share one condition, so that the worker can wait for the first one that gets a segment.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from streamav.types import Segment, SourceContent, StateChange

if TYPE_CHECKING:
    from threading import Condition

__all__ = ["Finished", "Given", "Inbox"]


@dataclass(frozen=True, slots=True)
class Finished:
    """Marks the end of a source; no item follows."""

    error: Exception | None = None
    """The error that ended it; None at the end of a file, or after close()."""


Note = StateChange | SourceContent | Finished
"""What may stand between the segments of a source."""


@dataclass(frozen=True, slots=True)
class Given:
    """One item taken from an inbox."""

    item: Segment | Note
    given_ns: int
    """Monotonic time at which it was put in, ns."""
    backlog: int
    """Segments that still wait behind it."""


class Inbox:
    """A bounded queue of segments with notes between them. The notes are few, keep their place and are never dropped."""

    def __init__(self, ready: Condition, bound: int, *, waits: bool) -> None:
        """Create an empty inbox.

        Args:
            ready: notified at every change; shared by the inboxes of one worker.
            bound: segments that may wait, at least 1.
            waits: True makes put() wait while the inbox is full; False drops the oldest segment.
        """
        self._ready = ready
        self._bound = bound
        self._waits = waits
        self._things: deque[tuple[Segment | Note, int]] = deque()
        self._segments = 0
        self._closed = False
        self.dropped = 0
        """Segments dropped since the start."""

    def put(self, segment: Segment, now_ns: int) -> bool:
        """Add a segment; return False when the inbox was closed and did not take it."""
        with self._ready:
            while self._waits and self._segments >= self._bound and not self._closed:
                self._ready.wait()
            if self._closed:
                return False
            if self._segments >= self._bound:
                self._drop()
            self._things.append((segment, now_ns))
            self._segments += 1
            self._ready.notify_all()
            return True

    def tell(self, note: Note, now_ns: int) -> None:
        """Add a note behind all segments. Notes do not count against the bound."""
        with self._ready:
            self._things.append((note, now_ns))
            self._ready.notify_all()

    def take(self) -> Given | None:
        """Return the oldest item, or None; never wait. The caller holds the condition."""
        if not self._things:
            return None
        item, given_ns = self._things.popleft()
        self._segments -= isinstance(item, Segment)
        self._ready.notify_all()
        return Given(item, given_ns, self._segments)

    def close(self) -> None:
        """Refuse further segments; the items inside stay."""
        with self._ready:
            self._closed = True
            self._ready.notify_all()

    def _drop(self) -> None:
        position = next(place for place, (item, _) in enumerate(self._things) if isinstance(item, Segment))
        del self._things[position]
        self._segments -= 1
        self.dropped += 1
