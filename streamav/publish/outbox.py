"""Keeps, within bounds, what waits for the broker; what must go is whole events, never half of one.

It knows no connection, clock or thread: the one task that publishes asks for the head and says when the broker has acknowledged it.
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
"""Counted for each parcel beside topic and payload: roughly what the Python objects around them take (an estimate)."""


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Parcel:
    """One message on its way to the broker; two parcels are never equal."""

    event_id: str
    topic: str
    payload: bytes
    message: EventMessage | None
    """What the payload says, or None for a companion message about the event."""

    @property
    def size(self) -> int:
        """Bytes it is counted with."""
        return len(self.topic) + len(self.payload) + PARCEL_OVERHEAD_BYTES

    @property
    def is_update(self) -> bool:
        """True when a later message of the same event says all that this one says."""
        return self.message is not None and self.message.type == "update"

    @property
    def is_end(self) -> bool:
        """True when the event is over with this message."""
        return self.message is not None and self.message.type == "end"


class Outbox:
    """A queue bounded in messages and bytes.

    When it is full, first the updates go that a later message of the same event makes superfluous, then the oldest event of which nothing
    was published yet, as a whole. An event whose beginning is out keeps its end as long as anything else can go.
    """

    def __init__(self, max_messages: int, max_bytes: int) -> None:
        """Take the bounds."""
        self._max_messages = max_messages
        self._max_bytes = max_bytes
        self._parcels: deque[Parcel] = deque()
        self._bytes = 0
        self._announced: set[str] = set()
        self.merged = 0
        """Updates left out because a later message says the same and more."""
        self.dropped = 0
        """Messages lost."""

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
        """Events of which a message waits."""
        return frozenset(parcel.event_id for parcel in self._parcels)

    def announce(self, event_ids: Iterable[str]) -> None:
        """Say of which events an earlier run has published the beginning."""
        self._announced.update(event_ids)

    def put(self, parcel: Parcel) -> None:
        """Append a parcel, and make room for it where needed."""
        self._parcels.append(parcel)
        self._bytes += parcel.size
        if self._full:
            self._merge_updates()
        while self._full and len(self._parcels) > 1:
            self._drop_one_event()
        if self._full:  # a single parcel beyond the bound in bytes
            self._remove(set(self._parcels))

    def acknowledge(self, parcel: Parcel) -> None:
        """Remove a parcel that the broker has; it may have been dropped while it was on its way."""
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
        """Leave out updates that a later message of the same event supersedes."""
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
        """Drop the oldest event that nobody has heard of; among those, one that is over before one that goes on."""
        ended = {parcel.event_id for parcel in self._parcels if parcel.is_end}
        ids = list(dict.fromkeys(parcel.event_id for parcel in self._parcels))
        unheard = [event_id for event_id in ids if event_id not in self._announced]
        complete = [event_id for event_id in unheard if event_id in ended]
        victims = complete[:1] or unheard[:1]
        doomed = {parcel for parcel in self._parcels if parcel.event_id in victims}
        if not doomed:  # only events that were announced: their ends go last
            doomed = {next((parcel for parcel in self._parcels if not parcel.is_end), self._parcels[0])}
        self._remove(doomed)

    def _remove(self, doomed: set[Parcel]) -> None:
        self.dropped += len(doomed)
        self._keep(doomed)

    def _keep(self, without: set[Parcel]) -> None:
        if without:
            self._parcels = deque(parcel for parcel in self._parcels if parcel not in without)
            self._bytes = sum(parcel.size for parcel in self._parcels)
