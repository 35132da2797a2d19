"""Keeps the messages that wait for the broker, within bounds. When it is full it drops whole events rather than parts of one.

It uses no connection, clock or thread. The one delivery of a connection sends the parcels in order and removes each when the broker has
answered it.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from streamav.publish.limits import DEFAULT_WINDOW

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

    from streamav.publish.message import EventMessage

__all__ = ["Outbox", "Parcel"]

PARCEL_OVERHEAD_BYTES = 200
"""Bytes counted for each parcel in addition to topic and payload: an estimate of the size of the Python objects around them."""
MOST_GONE = 10_000
"""Most events whose later messages are dropped because the beginning was; more than sources times labels (our choice)."""


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Parcel:
    """One message that waits for the broker; two parcels are never equal."""

    event_id: str
    topic: str
    payload: bytes
    message: EventMessage | None
    """The message in the payload; None for a companion message about the event."""
    number: int = 0
    """Place in the order of all parcels, given by the outbox; 0 before."""

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
    nothing was sent yet, as a whole: also the messages that still come. The `end` of an event whose beginning is on its way or published
    is dropped only when nothing else is left.
    """

    def __init__(self, max_messages: int, max_bytes: int) -> None:
        """Store the bounds."""
        self._max_messages = max_messages
        self._max_bytes = max_bytes
        self._parcels: deque[Parcel] = deque()
        self._bytes = 0
        self._number = 0
        self._on_their_way: dict[Parcel, None] = {}
        self._announced: set[str] = set()
        self._gone: dict[str, None] = {}
        self.merged = 0
        """Updates removed because a later message holds the same and more."""
        self.dropped = 0
        """Messages that were lost."""

    def __len__(self) -> int:
        return len(self._parcels)

    def __iter__(self) -> Iterator[Parcel]:
        """Yield the waiting parcels, oldest first."""
        return iter(self._parcels)

    @property
    def bytes(self) -> int:
        """Bytes that wait."""
        return self._bytes

    @property
    def head(self) -> Parcel | None:
        """The oldest parcel; it stays until it is acknowledged."""
        return self._parcels[0] if self._parcels else None

    @property
    def following(self) -> Parcel | None:
        """The oldest parcel that is not on its way; None when there is none."""
        return next((parcel for parcel in self._parcels if parcel not in self._on_their_way), None)

    @property
    def on_their_way(self) -> Sequence[Parcel]:
        """The parcels that were sent and not answered, oldest first."""
        return list(self._on_their_way)

    @property
    def event_ids(self) -> frozenset[str]:
        """Ids of the events that have a waiting message."""
        return frozenset(parcel.event_id for parcel in self._parcels)

    def is_gone(self, event_id: str) -> bool:
        """Return whether the beginning of an event was dropped, so that its later messages are dropped too."""
        return event_id in self._gone

    def announce(self, event_ids: Iterable[str]) -> None:
        """Mark the events whose beginning an earlier run has published."""
        self._announced.update(event_ids)

    def restore(self, parcels: Iterable[Parcel]) -> None:
        """Put the parcels that an earlier run left in front of all others.

        The first ones may have been on their way, and an event without its `new` is published in part: both count as announced.
        """
        later = list(self._parcels)
        self._parcels.clear()
        self._bytes = 0
        seen: set[str] = set()
        for parcel in parcels:
            if len(self._parcels) < DEFAULT_WINDOW or (
                parcel.event_id not in seen and (parcel.message is None or parcel.message.type != "new")
            ):
                self._announced.add(parcel.event_id)
            seen.add(parcel.event_id)
            self._append(parcel)
            self._number = max(self._number, parcel.number)
        for parcel in later:
            self._append(self._numbered(parcel))

    def put(self, parcel: Parcel) -> tuple[Parcel | None, list[Parcel]]:
        """Append a parcel and make room for it; return it as it is stored (None when it was lost), and the parcels that were removed."""
        if parcel.event_id in self._gone:
            if parcel.is_end:
                del self._gone[parcel.event_id]
            self.dropped += 1
            return None, []
        mine = self._numbered(parcel)
        self._append(mine)
        removed: list[Parcel] = []
        if self._full:
            removed += self._merge_updates()
        while self._full and len(self._parcels) > 1:
            removed += self._drop_one_event()
        if self._full:  # a single parcel is larger than the bound in bytes
            removed += self._drop(set(self._parcels))
        return (None if mine in removed else mine), [one for one in removed if one is not mine]

    def sending(self, parcel: Parcel) -> None:
        """Note that a parcel is on its way: from now on it stays until it is answered, and its event, which subscribers may know, too."""
        self._on_their_way[parcel] = None
        if parcel.message is not None:
            self._announced.add(parcel.event_id)

    def acknowledge(self, parcel: Parcel) -> None:
        """Remove a parcel that the broker has acknowledged or refused; it may not be in the outbox."""
        self._on_their_way.pop(parcel, None)
        if parcel.is_end:
            self._announced.discard(parcel.event_id)
        elif parcel.message is not None:
            self._announced.add(parcel.event_id)
        if parcel in self._parcels:  # brokers answer in order, so it is found at once
            self._parcels.remove(parcel)
            self._bytes -= parcel.size

    def lost(self) -> None:
        """Note that the connection is lost: what was on its way is sent again."""
        self._on_their_way.clear()

    @property
    def _full(self) -> bool:
        return len(self._parcels) > self._max_messages or self._bytes > self._max_bytes

    def _numbered(self, parcel: Parcel) -> Parcel:
        self._number += 1
        return replace(parcel, number=self._number)

    def _append(self, parcel: Parcel) -> None:
        self._parcels.append(parcel)
        self._bytes += parcel.size

    def _merge_updates(self) -> set[Parcel]:
        """Remove updates that a later message of the same event replaces; return them."""
        later: set[str] = set()
        superseded: set[Parcel] = set()
        for parcel in reversed(self._parcels):
            if parcel.is_update and parcel.event_id in later and parcel not in self._on_their_way:
                superseded.add(parcel)
            elif parcel.message is not None:
                later.add(parcel.event_id)
        self.merged += len(superseded)
        self._keep_others(superseded)
        return superseded

    def _drop_one_event(self) -> set[Parcel]:
        """Drop the oldest event of which nothing was sent; an ended event is dropped before an open one. Return its parcels."""
        ended = {parcel.event_id for parcel in self._parcels if parcel.is_end}
        ids = list(dict.fromkeys(parcel.event_id for parcel in self._parcels))
        unheard = [event_id for event_id in ids if event_id not in self._announced]
        complete = [event_id for event_id in unheard if event_id in ended]
        victims = complete[:1] or unheard[:1]
        doomed = {parcel for parcel in self._parcels if parcel.event_id in victims}
        if not doomed:  # all events are announced: their ends are dropped last
            free = [parcel for parcel in self._parcels if parcel not in self._on_their_way] or list(self._parcels)
            doomed = {next((parcel for parcel in free if not parcel.is_end), free[0])}
        for event_id in victims:
            if event_id not in ended:
                self._gone[event_id] = None
        while len(self._gone) > MOST_GONE:
            del self._gone[next(iter(self._gone))]
        return self._drop(doomed)

    def _drop(self, doomed: set[Parcel]) -> set[Parcel]:
        self.dropped += len(doomed)
        self._keep_others(doomed)
        return doomed

    def _keep_others(self, without: Collection[Parcel]) -> None:
        if without:
            self._parcels = deque(parcel for parcel in self._parcels if parcel not in without)
            self._bytes = sum(parcel.size for parcel in self._parcels)
