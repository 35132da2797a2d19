"""Implements the rule for subscribers: of each `id` keep the newest run, and in it the greatest `seq`; drop every other message.

A file that is run again gives the same ids, but its messages map its zero to a later time. It is pure: it takes messages and reads no
clock. The rule is enough to be exact under duplicates, reordering and loss.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    from streamav.publish.message import EventMessage

__all__ = ["MOST_EVENTS", "Consumer"]

MOST_EVENTS = 10_000
"""Most events that are kept, by default (our choice: about three hours at one new event per second)."""

_SAME_RUN_S = 0.01
"""Times in messages are rounded to 1 ms; the zeros of two runs of a file differ by more than this."""

Kept = TypeVar("Kept")


class Consumer(Generic[Kept]):
    """Keeps the newest message of each event. Its size is bounded: the event whose last message is oldest is removed first."""

    def __init__(self, keep: Callable[[EventMessage], Kept], max_events: int = MOST_EVENTS) -> None:
        """Store the function that returns what to keep of a message, and the largest number of events."""
        self._keep = keep
        self._max_events = max_events
        self._events: OrderedDict[str, tuple[int, float, Kept]] = OrderedDict()
        self.dropped = 0
        """Messages of an older run, and messages that were older than a known message of the same event, or equal to it."""

    @property
    def events(self) -> list[Kept]:
        """What is kept of each event, sorted by id, which is the order of their starts."""
        return [self._events[key][2] for key in sorted(self._events)]

    def take(self, message: EventMessage) -> bool:
        """Take a message; return False when it holds nothing new and the caller must drop it."""
        known = self._events.get(message.id)
        zero_s = message.start_ts - message.media_start_s
        if known is not None:
            later_s = zero_s - known[1]
            if later_s < -_SAME_RUN_S or (later_s <= _SAME_RUN_S and message.seq <= known[0]):
                self.dropped += 1
                return False
        self._events[message.id] = message.seq, zero_s, self._keep(message)
        self._events.move_to_end(message.id)
        if len(self._events) > self._max_events:
            self._events.popitem(last=False)
        return True
