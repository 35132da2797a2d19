"""The rule for subscribers: keep the greatest `seq` of each `id`, drop everything else.

Pure: it is told messages and reads no clock. Nothing more is needed to be exact under duplicates, reordering and loss.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    from streamav.publish.message import EventMessage

__all__ = ["MOST_EVENTS", "Consumer"]

MOST_EVENTS = 10_000
"""Events that are remembered unless said otherwise (our choice: about three hours of one new event a second)."""

Kept = TypeVar("Kept")


class Consumer(Generic[Kept]):
    """What a subscriber knows about events; bounded, the event whose last news is oldest is forgotten first."""

    def __init__(self, keep: Callable[[EventMessage], Kept], max_events: int = MOST_EVENTS) -> None:
        """Take what is kept of the newest message of an event, and how many events are remembered."""
        self._keep = keep
        self._max_events = max_events
        self._events: OrderedDict[str, tuple[int, Kept]] = OrderedDict()
        self.dropped = 0
        """Messages that were older than, or the same as, one already known."""

    @property
    def events(self) -> list[Kept]:
        """What is kept of each event, in the order of their ids, which is the order of their starts."""
        return [self._events[key][1] for key in sorted(self._events)]

    def take(self, message: EventMessage) -> bool:
        """Take a message; return False when it says nothing new and must be dropped."""
        known = self._events.get(message.id)
        if known is not None and message.seq <= known[0]:
            self.dropped += 1
            return False
        self._events[message.id] = message.seq, self._keep(message)
        self._events.move_to_end(message.id)
        if len(self._events) > self._max_events:
            self._events.popitem(last=False)
        return True
