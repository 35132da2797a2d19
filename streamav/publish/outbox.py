"""Keeps the messages that wait for the broker, within bounds. When it is full it drops whole events rather than parts of one.

It uses no connection, clock or thread. The one task that publishes reads the head and removes it when the broker has acknowledged it.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from streamav.publish.message import EventMessage

__all__ = ["Outbox", "Parcel"]

PARCEL_OVERHEAD_BYTES = 200
"""Bytes counted for each parcel in addition to topic and payload: an estimate of the size of the Python objects around them."""


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Parcel:
    """One message that waits for the broker; two parcels are never equal."""

    event_id: str
    topic: str
    payload: bytes
    message: EventMessage | None
    """The message in the payload; None for a companion message about the event."""

    @property
    def size(self) -> int:
        """Bytes that count towards the bound."""
        return len(self.topic) + len(self.payload) + PARCEL_OVERHEAD_BYTES

    @property
    def is_update(self) -> bool:
        """True when a later message of the same event holds everything that this one holds."""
        return self.message is not None and self.message.type == "update"

    @property
    def is_end(self) -> bool:
        """True when this message ends the event."""
        return self.message is not None and self.message.type == "end"


class Outbox:
    """A queue bounded in messages and bytes.

    When it is full, it first removes updates that a later message of the same event replaces. Then it drops the oldest event of which
    nothing was published yet, as a whole. The `end` of an event whose beginning is published is dropped only when nothing else is left.
    """

    def __init__(self, max_messages: int, max_bytes: int) -> None:
        """Store the bounds."""
        self._max_messages = max_messages
        self._max_bytes = max_bytes
        self._parcels: deque[Parcel] = deque()
        self._bytes = 0
        self._announced: set[str] = set()
        self.merged = 0
        """Updates removed because a later message holds the same and more."""
        self.dropped = 0
        """Messages that were lost."""

    def __len__(self) -> int:
        return len(self._parcels)

    @property
    def bytes(self) -> int:
        """Bytes that wait."""
        return self._bytes

    @property
    def head(self) -> Parcel | None:
        """The oldest parcel; it stays until it is acknowledged."""
        return self._parcels[0] if self._parcels else None

    @property
    def event_ids(self) -> frozenset[str]:
        """Ids of the events that have a waiting message."""
        return frozenset(parcel.event_id for parcel in self._parcels)

    def announce(self, event_ids: Iterable[str]) -> None:
        """Mark the events whose beginning an earlier run has published."""
        self._announced.update(event_ids)

    def put(self, parcel: Parcel) -> None:
        """Append a parcel, and make room for it when needed."""
        self._parcels.append(parcel)
        self._bytes += parcel.size
        if self._full:
            self._merge_updates()
        while self._full and len(self._parcels) > 1:
            self._drop_one_event()
        if self._full:  # a single parcel is larger than the bound in bytes
            self._remove(set(self._parcels))

    def acknowledge(self, parcel: Parcel) -> None:
        """Remove a parcel that the broker has acknowledged; it may have been dropped in the meantime."""
        if parcel.is_end:
            self._announced.discard(parcel.event_id)
        elif parcel.message is not None:
            self._announced.add(parcel.event_id)
        if self._parcels and self._parcels[0] is parcel:
            self._parcels.popleft()
            self._bytes -= parcel.size

    @property
    def _full(self) -> bool:
        return len(self._parcels) > self._max_messages or self._bytes > self._max_bytes

    def _merge_updates(self) -> None:
        """Remove updates that a later message of the same event replaces."""
        later: set[str] = set()
        superseded: set[Parcel] = set()
        for parcel in reversed(self._parcels):
            if parcel.is_update and parcel.event_id in later:
                superseded.add(parcel)
            elif parcel.message is not None:
                later.add(parcel.event_id)
        self.merged += len(superseded)
        self._keep(superseded)

    def _drop_one_event(self) -> None:
        """Drop the oldest event of which nothing was published; an ended event is dropped before an open one."""
        ended = {parcel.event_id for parcel in self._parcels if parcel.is_end}
        ids = list(dict.fromkeys(parcel.event_id for parcel in self._parcels))
        unheard = [event_id for event_id in ids if event_id not in self._announced]
        complete = [event_id for event_id in unheard if event_id in ended]
        victims = complete[:1] or unheard[:1]
        doomed = {parcel for parcel in self._parcels if parcel.event_id in victims}
        if not doomed:  # all events are announced: their ends are dropped last
            doomed = {next((parcel for parcel in self._parcels if not parcel.is_end), self._parcels[0])}
        self._remove(doomed)

    def _remove(self, doomed: set[Parcel]) -> None:
        self.dropped += len(doomed)
        self._keep(doomed)

    def _keep(self, without: set[Parcel]) -> None:
        if without:
            self._parcels = deque(parcel for parcel in self._parcels if parcel not in without)
            self._bytes = sum(parcel.size for parcel in self._parcels)
