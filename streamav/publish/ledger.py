"""Keeps what the broker should hold now: states of sources and classes, last events, and which events are open.

It is pure: it decides what to publish (docs/mqtt.md, life of an event). It does not decide when to publish, does not check that a message
arrives, reads no clock and uses no connection.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

from streamav import __version__
from streamav.publish.message import describe
from streamav.publish.outbox import Parcel
from streamav.publish.payloads import AttributesPayload, HaEventPayload, InfoModelEntry, InfoPayload, ScoresPayload, TelemetryPayload
from streamav.tracker.identity import TIME_LETTERS, ulid
from streamav.types import EndReason, EventPhase, SourceState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from streamav.publish.homeassistant import Announcement, Devices
    from streamav.publish.message import EventMessage, ModelEntry
    from streamav.publish.topics import Topics
    from streamav.types import Event, FinalScores, Telemetry

__all__ = ["Ledger", "Retained", "scores_payload", "telemetry_payload"]

_Kept = TypeVar("_Kept")
_MOST_KEPT = 500
"""Events whose clips and snapshots are remembered: a clip is written some seconds after its event."""
_UNAVAILABLE = frozenset({SourceState.LOST, SourceState.DISABLED})


@dataclass(frozen=True, slots=True)
class Retained:
    """A value that the broker keeps for later subscribers; only the newest value of a topic counts."""

    topic: str
    payload: bytes
    note: str = ""
    """What a later start must know of the value besides its topic."""
    first: bool = False
    """True for a value that must be sent even where another one of its topic follows."""
    epoch: int | None = None
    """Epoch of the lease under which a worker of a cluster publishes the state of a source; None without a cluster."""


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
    """Turns events and states of the pipeline into parcels for the outbox and retained values."""

    def __init__(
        self,
        topics: Topics,
        model: Callable[[], ModelEntry],
        sources: Mapping[str, Sequence[str]],
        *,
        provisional: bool,
        devices: Devices | None = None,
        listed: Sequence[str] | None = None,
    ) -> None:
        """Start without events.

        Args:
            topics: topics below the base of the service.
            model: returns which model and backend compute now.
            sources: source id -> labels that may be published.
            provisional: whether unconfirmed events are published.
            devices: what is announced to Home Assistant; None for nothing.
            listed: sources that `info` names; None for *sources*.
        """
        self._listed = listed
        self._epochs: dict[str, int] = {}
        self._worker_devices: dict[str, list[Announcement]] = {}
        self._topics = topics
        self._model = model
        self._provisional = provisional
        self._devices = devices
        self._settings: dict[str, list[Retained]] = {}
        self._open: dict[str, _Open] = {}
        self._on: dict[tuple[str, str], str] = {}
        self._states = dict.fromkeys(sources, SourceState.WARMING_UP)
        self._classes = {(source, label): self._class_values(source, label, None) for source, labels in sources.items() for label in labels}
        self._last: dict[str, Retained] = {}
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

    def add(self, source: str, labels: Sequence[str], epoch: int, devices: Devices | None = None) -> list[Retained]:
        """Take a source over, which another process may have published before; return its retained values, the labels off.

        Args:
            source: its id.
            labels: labels that it may publish.
            epoch: epoch of its lease.
            devices: the device of this source for Home Assistant; None for nothing.
        """
        self._epochs[source] = epoch
        mine = [] if devices is None else devices.of_sources()
        self._worker_devices[source] = mine
        return [*(Retained(one.topic, one.payload, one.note) for one in mine), *self.begin(source, labels)]

    def begin(self, source: str, labels: Sequence[str]) -> list[Retained]:
        """Take one more source, or one that begins anew; return its retained values, the labels off, and those of labels that are gone."""
        gone = {label for place, label in self._classes if place == source} - set(labels)
        values = [self.cleared(value.topic) for label in sorted(gone) for value in self._classes.pop((source, label))]
        if self._devices is not None:
            self._devices.follow(source, labels)
        self._states[source] = SourceState.WARMING_UP
        values += [value for label in labels for value in self._class(source, label, None)]
        return values + self._state_values(source, SourceState.WARMING_UP)

    def forget(self, source: str) -> list[Retained]:
        """Forget a source that is gone for good; return that it is not available, then the values that clear all its topics."""
        before = self.topics()
        self.release(source)
        self._settings.pop(source, None)
        if self._devices is not None:
            self._devices.forget(source)
        offline = Retained(self._topics.availability(source), b"offline", first=True)
        return [offline, *(self.cleared(topic) for topic in sorted(before - self.topics()))]

    def knows(self, source: str) -> bool:
        """Return whether something is published for a source."""
        return source in self._states

    def release(self, source: str) -> None:
        """Forget a source that another process publishes from now on; nothing is published for it any more."""
        self._worker_devices.pop(source, None)
        self._states.pop(source, None)
        self._last.pop(source, None)
        self._epochs.pop(source, None)
        for key in [key for key in self._classes if key[0] == source]:
            del self._classes[key]
            self._on.pop(key, None)
        for event_id in [key for key, known in self._open.items() if known.event.source == source]:
            del self._open[event_id]

    def topics(self) -> frozenset[str]:
        """Return every topic at which the broker may hold a retained value of this run."""
        last = {topic for source in self._states for topic in (self._topics.last_event(source), self._topics.snapshot(source))}
        values = [*self.announced(), *self.retained()]
        return frozenset({self._topics.status, self._topics.info, *(value.topic for value in values), *last})

    def cleared(self, topic: str) -> Retained:
        """Return the value that makes the broker forget what it keeps at a topic."""
        return Retained(topic, b"")

    def announced(self, before: Mapping[str, str] | None = None) -> list[Retained]:
        """Return the devices for Home Assistant; *before* holds the notes of earlier messages by topic."""
        found = []
        mine = [one for devices in self._worker_devices.values() for one in devices]
        for one in mine if self._devices is None else self._devices.announcements():
            removal = one.removing((before or {}).get(one.topic, ""))
            found += [] if removal is None else [Retained(one.topic, removal, one.note, first=True)]
            found.append(Retained(one.topic, one.payload, one.note))
        return found

    def info(self) -> Retained:
        """Return the info value of the service: version, model, backend, sources."""
        model = self._model()
        said = InfoPayload(
            version=__version__,
            model=InfoModelEntry(name=model.name, version=model.version, sha256=model.sha256),
            backend=model.backend,
            sources=tuple(sorted(self._states if self._listed is None else self._listed)),
        )
        return Retained(self._topics.info, said.to_bytes())

    def retained(self) -> list[Retained]:
        """Return all retained values of classes and sources (not status and info), in the order in which they are sent after a connect."""
        values = [value for pair in self._classes.values() for value in pair]
        for source, state in self._states.items():
            values += self._state_values(source, state)
        values += [value for settings in self._settings.values() for value in settings]
        return values + list(self._last.values())

    def settings(self, source: str) -> list[Retained]:
        """Return the values of the settings of a source."""
        return list(self._settings.get(source, ()))

    def follow_settings(self, source: str, values: Sequence[Retained], labels: Iterable[str]) -> list[Retained]:
        """Store the values of all settings of a source, and its labels; return the retained values that change.

        What is gone, such as a zone or a label that a new configuration lacks, is cleared.
        """
        before, self._settings[source] = self._settings.get(source, []), list(values)
        now = {value.topic for value in values}
        changed = [*values, *(self.cleared(value.topic) for value in before if value.topic not in now)]
        known = {label for place, label in self._classes if place == source}
        for label in set(labels) - known:
            changed += self._class(source, label, None)
        for label in known - set(labels):
            changed += [self.cleared(value.topic) for value in self._classes.pop((source, label))]
        if known != set(labels) and self._devices is not None:
            self._devices.follow(source, list(labels))
        return changed

    def farewell(self) -> list[Retained]:
        """Return the retained values of a service that ends: every class off, every source unavailable."""
        values = [value for source, label in self._classes for value in self._class_values(source, label, None)]
        return values + [Retained(self._topics.availability(source), b"offline") for source in self._states]

    def source_state(self, source: str, state: SourceState) -> list[Retained]:
        """Store a change of a source's state and return the retained values it changes."""
        self._states[source] = SourceState(state.published)
        return self._state_values(source, self._states[source])

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
        """Take where the clip or the snapshot of an event can be fetched; return the parcels to queue and the retained values that change.

        The next message of an open event names it. An event that has ended gets the one update that may follow its end, with its clip.
        """
        event_id = self._renamed.get(event_id, event_id)
        known = self._media.get(event_id, _Media())
        _bounded(self._media, event_id, _Media(clip_url or known.clip_url, snapshot_url or known.snapshot_url))
        if clip_url is None or (ended := self._ended.pop(event_id, None)) is None:
            return [], []
        message = self._with_media(ended.model_copy(update={"type": EventPhase.UPDATE.value, "seq": ended.seq + 1}))
        last = self._last.get(message.source)
        is_last = last is not None and last.payload == ended.to_bytes()
        return [self._parcel(message)], [self._remember_last(message)] if is_last else []

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
        if message.active or not message.confirmed or message.source not in self._states:
            return []
        return [self._remember_last(message)]

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
            return list(self._class(*key, message))
        values = [self._remember_last(message)]
        if self._on.get(key, event.id) == event.id:  # no later event of the same label keeps the class on
            self._on.pop(key, None)
            values = [*self._class(*key, None), *values]
        return values

    def _class(self, source: str, label: str, message: EventMessage | None) -> tuple[Retained, Retained]:
        values = self._classes[source, label] = self._class_values(source, label, message)
        return values

    def _class_values(self, source: str, label: str, message: EventMessage | None) -> tuple[Retained, Retained]:
        """Return attributes and state of a class; the attributes are sent first, so that they are current when the state changes."""
        attributes = AttributesPayload(
            score=0.0 if message is None else message.score,
            event_id=None if message is None else message.id,
            since=None if message is None else message.start_time,
            zone=message.zones[0] if message is not None and message.zones else None,
        )
        state = b"OFF" if message is None else b"ON"
        return (
            Retained(self._topics.class_attributes(source, label), attributes.to_bytes()),
            Retained(self._topics.class_state(source, label), state),
        )

    def _state_values(self, source: str, state: SourceState) -> list[Retained]:
        available = b"offline" if state in _UNAVAILABLE else b"online"
        return [
            Retained(self._topics.source_status(source), state.value.encode(), epoch=self._epochs.get(source)),
            Retained(self._topics.availability(source), available),
        ]

    def _remember_last(self, message: EventMessage) -> Retained:
        value = self._last[message.source] = Retained(self._topics.last_event(message.source), message.to_bytes())
        return value

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


def telemetry_payload(telemetry: Telemetry) -> bytes:
    """Return the JSON of the telemetry topic."""
    return TelemetryPayload(
        fps=round(telemetry.frames_per_second, 2),
        rms_dbfs=None if telemetry.level_dbfs is None else round(telemetry.level_dbfs, 1),
        latency_s=round(telemetry.latency_s, 3),
        av_skew_ms=telemetry.skew_ms,
        rtf=round(telemetry.realtime_factor, 4),
        dropped=telemetry.dropped_segments,
        looked_fps=round(telemetry.looked_frames_per_second, 2),
        thinned=telemetry.thinned_segments,
    ).to_bytes()


def scores_payload(scores: FinalScores) -> bytes:
    """Return the JSON of the scores topic."""
    return ScoresPayload(
        ts=(scores.epoch_ns + scores.start_ns) // 1_000_000 / 1000,
        media_start_s=scores.start_ns // 1_000_000 / 1000,
        scores={label: round(float(value), 4) for label, value in scores.labels.items()},
        background=round(float(scores.background), 4),
        is_event_score=round(float(scores.relevance), 4),
        av_similarity=round(float(scores.agreement), 4),
        rms_dbfs=None if scores.level_dbfs is None else round(float(scores.level_dbfs), 1),
        place=None if scores.place is None else (round(scores.place[0], 4), round(scores.place[1], 4)),
    ).to_bytes()


def _bounded(kept: dict[str, _Kept], key: str, value: _Kept) -> None:
    """Store a value; the oldest is forgotten when there are more than 500."""
    kept[key] = value
    if len(kept) > _MOST_KEPT:
        del kept[next(iter(kept))]
