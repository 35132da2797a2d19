"""Holds the values that the broker should keep for later subscribers: states of sources and classes, settings, last events.

It is pure: it returns what changes, and neither sends it nor checks that it arrives.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from streamav import __version__
from streamav.publish.payloads import AttributesPayload, InfoModelEntry, InfoPayload
from streamav.types import SourceState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from streamav.publish.homeassistant import Announcement, Devices
    from streamav.publish.message import EventMessage, ModelEntry
    from streamav.publish.topics import Topics

__all__ = ["Retained", "RetainedValues"]

_UNAVAILABLE = frozenset({SourceState.LOST, SourceState.DISABLED})


@dataclass(frozen=True, slots=True)
class Retained:
    """A value that the broker keeps for later subscribers; only the newest value of a topic counts."""

    topic: str
    payload: bytes
    note: str = ""
    """What a later start must know of the value besides its topic."""
    first: bool = False
    """True for a value that must be sent even if a later value of its topic follows."""
    epoch: int | None = None
    """Epoch of the lease under which a worker of a cluster publishes the state of a source; None without a cluster."""


class RetainedValues:
    """The retained values of a service: states of sources and classes, settings, last events, devices and info."""

    def __init__(
        self,
        topics: Topics,
        model: Callable[[], ModelEntry],
        sources: Mapping[str, Sequence[str]],
        *,
        devices: Devices | None = None,
        listed: Sequence[str] | None = None,
    ) -> None:
        """Start with every class off and every source warming up.

        Args:
            topics: topics below the base of the service.
            model: returns which model and backend compute now.
            sources: source id -> labels that may be published.
            devices: what is announced to Home Assistant; None for nothing.
            listed: sources that `info` names; None for *sources*.
        """
        self._topics, self._model, self._devices, self._listed = topics, model, devices, listed
        self._epochs: dict[str, int] = {}
        self._worker_devices: dict[str, list[Announcement]] = {}
        self._settings: dict[str, list[Retained]] = {}
        self._states = dict.fromkeys(sources, SourceState.WARMING_UP)
        self._classes = {(source, label): self._class_values(source, label, None) for source, labels in sources.items() for label in labels}
        self._last: dict[str, Retained] = {}

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
        """Add a source, or start it again; return its retained values with all labels off, and values that clear labels that are gone."""
        gone = {label for place, label in self._classes if place == source} - set(labels)
        values = [self.cleared(value.topic) for label in sorted(gone) for value in self._classes.pop((source, label))]
        if self._devices is not None:
            self._devices.follow(source, labels)
        self._states[source] = SourceState.WARMING_UP
        values += [value for label in labels for value in self.set_class(source, label, None)]
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

    def topics(self) -> frozenset[str]:
        """Return every topic at which the broker may hold a retained value of this run."""
        last = {topic for source in self._states for topic in (self._topics.last_event(source), self._topics.snapshot(source))}
        values = [*self.announced(), *self.values()]
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

    def values(self) -> list[Retained]:
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
            changed += self.set_class(source, label, None)
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

    def set_class(self, source: str, label: str, message: EventMessage | None) -> tuple[Retained, Retained]:
        """Set a class on, by the message about its event, or off (None); return attributes and state."""
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

    def remember_last(self, message: EventMessage) -> Retained:
        """Set the last event of a source, and return the value."""
        value = self._last[message.source] = Retained(self._topics.last_event(message.source), message.to_bytes())
        return value

    def last(self, source: str) -> bytes | None:
        """Return the message about the last event of a source; None before the first."""
        value = self._last.get(source)
        return None if value is None else value.payload
