"""Decides what is published about each event, and which events are open.

It is pure (docs/mqtt.md, life of an event); `retained` holds the values that the broker keeps. It does not decide when to publish, does
not check that a message arrives, reads no clock and uses no connection.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

from streamav.publish.message import describe
from streamav.publish.outbox import Parcel
from streamav.publish.payloads import HaEventPayload
from streamav.tracker.identity import TIME_LETTERS, ulid
from streamav.types import EndReason, EventPhase

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from streamav.publish.message import EventMessage, ModelEntry
    from streamav.publish.retained import Retained, RetainedValues
    from streamav.publish.topics import Topics
    from streamav.types import Event

__all__ = ["Ledger"]

_Kept = TypeVar("_Kept")
_MOST_KEPT = 500
"""Events whose clips and snapshots are remembered: a clip is written some seconds after its event."""


@dataclass(slots=True)
class _Open:
    """An event that has not ended."""

    event: Event
    taken_s: float
    latency_s: float
    sequence: int
    told: bool
    model: ModelEntry
    """What computed the newest message; a reminder repeats it, also when another engine runs by then."""


@dataclass(frozen=True, slots=True)
class _Media:
    """Where the files of an event can be fetched."""

    clip_url: str | None = None
    snapshot_url: str | None = None


class Ledger:
    """Turns the events of the pipeline into parcels for the outbox, and changes the retained values that depend on them."""

    def __init__(self, topics: Topics, model: Callable[[], ModelEntry], retained: RetainedValues, *, provisional: bool) -> None:
        """Start without events.

        Args:
            topics: topics below the base of the service.
            model: returns which model and backend compute now.
            retained: what the broker should keep.
            provisional: whether unconfirmed events are published.
        """
        self.retained = retained
        """What the broker should keep."""
        self._topics = topics
        self._model = model
        self._provisional = provisional
        self._open: dict[str, _Open] = {}
        self._on: dict[tuple[str, str], str] = {}
        self._used: frozenset[str] = frozenset()
        self._word = ""
        self._renamed: dict[str, str] = {}
        self._media: dict[str, _Media] = {}
        self._ended: dict[str, EventMessage] = {}

    def avoid(self, used: Iterable[str], word: str) -> None:
        """Set ids that no event may use, because an earlier run has ended them with `restart`.

        A file that is run again gives the same ids. An event with such an id gets another one that depends on *word*, drawn at each start.
        """
        self._used, self._word = frozenset(used), word

    def farewell(self) -> list[Retained]:
        """Return the retained values of a service that ends: every class off, every source unavailable."""
        return self.retained.farewell()

    def forget(self, source: str) -> list[Retained]:
        """Forget a source that is gone for good; return that it is not available, then the values that clear all its topics."""
        self._forget_events(source)
        return self.retained.forget(source)

    def release(self, source: str) -> None:
        """Forget a source that another process publishes from now on; nothing is published for it any more."""
        self._forget_events(source)
        self.retained.release(source)

    def _forget_events(self, source: str) -> None:
        for key in [key for key in self._on if key[0] == source]:
            del self._on[key]
        for event_id in [key for key, known in self._open.items() if known.event.source == source]:
            del self._open[event_id]

    def event(self, event: Event, latency_s: float, now_s: float) -> tuple[list[Parcel], list[Retained]]:
        """Take one message of the tracker; return the parcels to queue and the retained values that change.

        Args:
            event: the message.
            latency_s: from the end of its newest segment to now, seconds.
            now_s: time of any monotonic clock, seconds.
        """
        model = self._model()
        if event.id in self._used:
            other = event.id[:TIME_LETTERS] + ulid(0, f"{event.id}|{self._word}")[TIME_LETTERS:]
            _bounded(self._renamed, event.id, other)
            event = replace(event, id=other)
        known = self._open.get(event.id)
        was_confirmed = known is not None and known.event.confirmed
        told = known is not None and known.told
        sequence = known.sequence if known is not None else 0
        if not (self._provisional or event.confirmed or told):
            self._remember(event, _Open(event, now_s, latency_s, sequence, told=False, model=model))
            return [], []
        wire = event
        if not told and event.phase is EventPhase.UPDATE and not self._provisional:
            wire = replace(event, phase=EventPhase.NEW)  # the first published message of this event
        parcels = []
        if not told and event.phase is EventPhase.END and not self._provisional:
            opening = replace(event, phase=EventPhase.NEW, end_ns=None, end_reason=None, newest_end_ns=event.end_ns or event.newest_end_ns)
            sequence += 1
            parcels.append(self._parcel(self._described(opening, model, latency_s, sequence)))
        sequence = sequence + 1 if known is not None or parcels or not self._provisional else max(1, event.sequence)
        message = self._described(wire, model, latency_s, sequence)
        parcels.append(self._parcel(message))
        if event.confirmed and not was_confirmed:
            parcels.append(self._companion(message))
        self._remember(event, _Open(event, now_s, latency_s, sequence, told=True, model=model))
        return parcels, self._consequences(event, message)

    def media(self, event_id: str, *, clip_url: str | None = None, snapshot_url: str | None = None) -> tuple[list[Parcel], list[Retained]]:
        """Take the address of the clip or the snapshot of an event; return the parcels to queue and the retained values that change.

        The next message of an open event names it. An event that has ended gets the one update that may follow its end, with its clip.
        """
        event_id = self._renamed.get(event_id, event_id)
        known = self._media.get(event_id, _Media())
        _bounded(self._media, event_id, _Media(clip_url or known.clip_url, snapshot_url or known.snapshot_url))
        if clip_url is None or (ended := self._ended.pop(event_id, None)) is None:
            return [], []
        message = self._with_media(ended.model_copy(update={"type": EventPhase.UPDATE.value, "seq": ended.seq + 1}))
        is_last = self.retained.last(message.source) == ended.to_bytes()
        return [self._parcel(message)], [self.retained.remember_last(message)] if is_last else []

    def _described(self, event: Event, model: ModelEntry, latency_s: float, sequence: int) -> EventMessage:
        """Return the message that describes an event, with its clip and snapshot where they can be fetched already."""
        message = self._with_media(describe(event, model, latency_s, sequence))
        if message.type == EventPhase.END.value and message.confirmed and message.clip_url is None:
            _bounded(self._ended, message.id, message)
        return message

    def _with_media(self, message: EventMessage) -> EventMessage:
        media = self._media.get(message.id)
        if media is None:
            return message
        return message.model_copy(
            update={"clip_url": media.clip_url, "has_clip": media.clip_url is not None, "snapshot_url": media.snapshot_url}
        )

    def left_open(self, message: EventMessage) -> tuple[list[Parcel], list[Retained]]:
        """Take the `end` of an event that an earlier run left open; return the parcels to queue and the retained values that change."""
        return [self._parcel(message)], self.waiting(message)

    def waiting(self, message: EventMessage) -> list[Retained]:
        """Take a message of an earlier run that is still to be delivered; return the retained values that change."""
        if message.active or not message.confirmed or not self.retained.knows(message.source):
            return []
        return [self.retained.remember_last(message)]

    def reminders(self, now_s: float, waiting: frozenset[str]) -> list[Parcel]:
        """Return an update for each published event that is open, except events that have messages waiting in the outbox."""
        parcels = []
        for event_id, known in self._open.items():
            if known.told and event_id not in waiting:
                known.sequence += 1
                update = replace(known.event, phase=EventPhase.UPDATE)
                latency_s = known.latency_s + now_s - known.taken_s
                parcels.append(self._parcel(self._described(update, known.model, latency_s, known.sequence)))
        return parcels

    def _remember(self, event: Event, known: _Open) -> None:
        if event.end_ns is not None:
            self._open.pop(event.id, None)
        else:
            self._open[event.id] = known

    def _consequences(self, event: Event, message: EventMessage) -> list[Retained]:
        """Return the retained values that a message about an event changes; an event that is not confirmed changes none."""
        key = (event.source, event.label)
        if not event.confirmed or event.end_reason is EndReason.RETRACTED:
            return []
        if event.end_ns is None:
            if self._on.get(key) == event.id:
                return []
            self._on[key] = event.id
            return list(self.retained.set_class(*key, message))
        values = [self.retained.remember_last(message)]
        if self._on.get(key, event.id) == event.id:  # no later event of the same label keeps the class on
            self._on.pop(key, None)
            values = [*self.retained.set_class(*key, None), *values]
        return values

    def _parcel(self, message: EventMessage) -> Parcel:
        return Parcel(event_id=message.id, topic=self._topics.event(message.source), payload=message.to_bytes(), message=message)

    def _companion(self, message: EventMessage) -> Parcel:
        """Return the small message for Home Assistant's event entity, which is sent once for each confirmed event."""
        said = HaEventPayload(
            event_type=message.label,
            id=message.id,
            source=message.source,
            score=message.score,
            start_time=message.start_time,
            zones=message.zones,
            snapshot_url=message.snapshot_url,
        )
        return Parcel(event_id=message.id, topic=self._topics.ha_event(message.source), payload=said.to_bytes(), message=None)


def _bounded(kept: dict[str, _Kept], key: str, value: _Kept) -> None:
    """Store a value; the oldest is forgotten when there are more than 500."""
    kept[key] = value
    if len(kept) > _MOST_KEPT:
        del kept[next(iter(kept))]
