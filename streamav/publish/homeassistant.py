"""Builds the messages that announce sources to Home Assistant as devices (MQTT contract, section 10).

It is pure: it uses no connection and no clock. Home Assistant refuses a whole device for one unknown key at the root, so only the keys of
the contract stand there.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from streamav import __version__
from streamav.privacy_modes import PRIVACY_CHOICES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from streamav.publish.topics import Topics

__all__ = ["Announcement", "Devices"]

Component = dict[str, object]
_PRIVACY: Component = {"p": "select", "options": list(PRIVACY_CHOICES), "icon": "mdi:incognito"}
_PROBABILITY: Component = {"p": "number", "min": 0, "max": 1, "step": 0.01, "mode": "box"}


@dataclass(frozen=True, slots=True)
class Announcement:
    """The discovery message of one device."""

    topic: str
    parts: Mapping[str, Component]
    root: Mapping[str, object]

    @property
    def payload(self) -> bytes:
        """The message: JSON, retained, QoS 1."""
        return _json({**self.root, "cmps": self.parts})

    @property
    def note(self) -> str:
        """Name and platform of each component, so that a later message can remove those that are gone."""
        return _json({name: part["p"] for name, part in self.parts.items()}).decode()

    def removing(self, note: str) -> bytes | None:
        """Return the message that removes components of an earlier message, given its note; None when all of them are still there.

        Home Assistant removes a component that is reduced to its platform. The full message follows, without that component.
        """
        try:
            before = json.loads(note) if note else {}
        except ValueError:
            return None
        gone = {name: {"p": platform} for name, platform in before.items() if name not in self.parts}
        return _json({**self.root, "cmps": {**self.parts, **gone}}) if gone else None


class Devices:
    """The devices of one service: the service itself, and each source."""

    def __init__(
        self, topics: Topics, prefix: str, sources: Mapping[str, Sequence[str]], *, commands: bool = False, snapshot: bool = False
    ) -> None:
        """Store what is announced.

        Args:
            topics: topics below the base of the service.
            prefix: discovery prefix of Home Assistant.
            sources: source id -> labels that become entities.
            commands: whether the service takes commands: switches and numbers become entities.
            snapshot: whether snapshots are published: an image becomes an entity.
        """
        self._topics = topics
        self._prefix = prefix
        self._sources = {source: list(labels) for source, labels in sources.items()}
        self._commands = commands
        self._snapshot = snapshot
        base = topics.base.replace("/", "_")
        self._name = "streamav" if base == "streamav" else f"streamav_{base}"

    @property
    def birth(self) -> str:
        """Topic where Home Assistant publishes `online` when it starts."""
        return f"{self._prefix}/status"

    def follow(self, source: str, labels: Sequence[str]) -> None:
        """Use these labels of a source from now on."""
        self._sources[source] = list(labels)

    def forget(self, source: str) -> None:
        """Announce a source no more."""
        self._sources.pop(source, None)

    def announcements(self) -> list[Announcement]:
        """Return the messages of all devices; the service comes first, because the others refer to it."""
        return [self._service(), *self.of_sources()]

    def of_sources(self) -> list[Announcement]:
        """Return the messages of the sources alone, as a worker of a cluster sends them."""
        return [self._source(source, labels) for source, labels in self._sources.items()]

    def _service(self) -> Announcement:
        parts: dict[str, Component] = {
            "connection": {
                "p": "binary_sensor",
                "unique_id": f"{self._name}_service_connection",
                "name": "Connection",
                "device_class": "connectivity",
                "entity_category": "diagnostic",
                "qos": 1,
                "state_topic": self._topics.status,
                "payload_on": "online",
                "payload_off": "offline",
            },
            "backend": self._sensor("service", "backend", "Engine", self._topics.info, "backend"),
            "version": self._sensor("service", "version", "Version", self._topics.info, "version"),
        }
        for key in ("backend", "version"):  # the connection says itself whether the service is there, so it is always available
            parts[key]["availability"] = [{"topic": self._topics.status}]
        root = self._root("service", {"name": "streamav service" if self._name == "streamav" else f"streamav service {self._topics.base}"})
        return Announcement(self._config("service"), parts, root)

    def _source(self, source: str, labels: Sequence[str]) -> Announcement:
        name = f"{self._name}_{source}"
        parts: dict[str, Component] = {
            "event": {
                "p": "event",
                "unique_id": f"{name}_event",
                "default_entity_id": f"event.{name}".lower().replace("-", "_"),
                "name": "Event",
                "icon": "mdi:ear-hearing",
                "qos": 1,
                "state_topic": self._topics.ha_event(source),
                "event_types": list(labels),
            },
            **{f"class_{label}": self._class(source, label) for label in labels},
            "level": self._sensor(source, "level", "Sound level", self._topics.telemetry(source), "rms_dbfs", unit="dBFS"),
            "latency": self._sensor(source, "latency", "Latency", self._topics.telemetry(source), "latency_s", unit="s"),
            "fps": self._sensor(source, "fps", "Frames per second", self._topics.telemetry(source), "fps", unit="fps"),
            "state": {
                "p": "sensor",
                "unique_id": f"{name}_state",
                "name": "State",
                "entity_category": "diagnostic",
                "qos": 1,
                "availability": [{"topic": self._topics.status}],  # a lost source must still be able to say so
                "state_topic": self._topics.source_status(source),
            },
            **(self._image(source) if self._snapshot else {}),
            **(self._settings(source, labels) if self._commands else {}),
        }
        root = self._root(source, {"name": f"streamav {source}", "via_device": f"{self._name}_service"})
        return Announcement(self._config(source), parts, {**root, "availability": self._available(source), "availability_mode": "all"})

    def _available(self, source: str) -> list[dict[str, str]]:
        return [{"topic": self._topics.status}, {"topic": self._topics.availability(source)}]

    def _image(self, source: str) -> dict[str, Component]:
        return {
            "snapshot": {
                "p": "image",
                "unique_id": f"{self._name}_{source}_snapshot",
                "name": "Last event",
                "qos": 1,
                "image_topic": self._topics.snapshot(source),
                "content_type": "image/jpeg",
            }
        }

    def _settings(self, source: str, labels: Sequence[str]) -> dict[str, Component]:
        """Return switches, numbers and choices of a source and of its classes; they work also while the source is switched off or lost."""
        parts = {
            "enabled": self._setting(source, "enabled", "Detection", {"p": "switch", "icon": "mdi:ear-hearing"}),
            "threshold": self._setting(source, "threshold", "Threshold", _PROBABILITY),
            "latency_set": self._setting(source, "latency", "Segments until final", {"p": "number", "min": 1, "max": 10, "step": 1}),
            "privacy": self._setting(source, "privacy", "Privacy", _PRIVACY),
        }
        for label in labels:
            name = _words(label)
            parts[f"enabled_{label}"] = self._setting(source, f"class/{label}/enabled", f"{name} detection", {"p": "switch"})
            parts[f"threshold_{label}"] = self._setting(source, f"class/{label}/threshold", f"{name} threshold", _PROBABILITY)
        return parts

    def _setting(self, source: str, setting: str, name: str, kind: Component) -> Component:
        return {
            **kind,
            "unique_id": f"{self._name}_{source}_{setting.replace('/', '_')}_set",
            "name": name,
            "entity_category": "config",
            "qos": 1,
            "availability": [{"topic": self._topics.status}],
            "state_topic": self._topics.setting(source, setting),
            "command_topic": self._topics.command(source, setting),
        }

    def _class(self, source: str, label: str) -> Component:
        off = {"topic": self._topics.setting(source, f"class/{label}/enabled"), "payload_available": "ON", "payload_not_available": "OFF"}
        # A class that is switched off is not available. Its entity stays, because a removed one would lose what the user made of it.
        when = {"availability": [*self._available(source), off], "availability_mode": "all"} if self._commands else {}
        return {
            "p": "binary_sensor",
            **when,
            "unique_id": f"{self._name}_{source}_{label}",
            "default_entity_id": f"binary_sensor.{source}_{label}".lower().replace("-", "_"),
            "name": _words(label),
            "device_class": "sound",
            "qos": 1,
            "state_topic": self._topics.class_state(source, label),
            "json_attributes_topic": self._topics.class_attributes(source, label),
        }

    def _sensor(self, device: str, key: str, name: str, topic: str, value: str, *, unit: str | None = None) -> Component:
        part: Component = {
            "p": "sensor",
            "unique_id": f"{self._name}_{device}_{key}",
            "name": name,
            "entity_category": "diagnostic",
            "qos": 1,
            "state_topic": topic,
            "value_template": f"{{{{ value_json.{value} }}}}",
        }
        if unit is not None:
            part |= {"unit_of_measurement": unit, "state_class": "measurement"}
        return part

    def _root(self, device: str, more: Mapping[str, object]) -> dict[str, object]:
        described = {"ids": [f"{self._name}_{device}"], "mf": "streamav", "mdl": "VSCG audio-visual", "sw": __version__}
        return {
            "dev": {**described, **more},
            "o": {"name": "streamav", "sw": __version__},
            "qos": 1,
        }

    def _config(self, device: str) -> str:
        return f"{self._prefix}/device/{self._name}_{device}/config"


def _words(label: str) -> str:
    return label.replace("_", " ").capitalize()


def _json(value: Mapping[str, object]) -> bytes:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
