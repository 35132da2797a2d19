"""The rule for subscribers: keep the greatest `seq` of each `id`, drop everything else.

Pure: it is told messages and reads no clock. Nothing more is needed to be exact under duplicates, reordering and loss.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from streamav.publish.message import EventMessage

__all__ = ["Consumer"]


class Consumer:
    """What a subscriber knows about events; bounded, the longest untouched event is forgotten first."""

    def __init__(self, max_events: int = 10_000) -> None:
        """Take how many events are remembered."""
        self._max_events = max_events
        self._events: OrderedDict[str, EventMessage] = OrderedDict()
        self.dropped = 0
        """Messages that were older than, or the same as, one already known."""

    @property
    def events(self) -> list[EventMessage]:
        """The newest message of each event, in the order of their ids, which is the order of their starts."""
        return [self._events[key] for key in sorted(self._events)]

    def take(self, message: EventMessage) -> bool:
        """Take a message; give False when it says nothing new and must be dropped."""
        known = self._events.get(message.id)
        if known is not None and message.seq <= known.seq:
            self.dropped += 1
            return False
        self._events[message.id] = message
        self._events.move_to_end(message.id)
        if len(self._events) > self._max_events:
            self._events.popitem(last=False)
        return True
