"""Builds the messages that announce sources to Home Assistant as devices (MQTT contract, section 10).

It is pure: it uses no connection and no clock. Home Assistant refuses a whole device for one unknown key at the root, so only the keys of
the contract stand there. Versions before 2025.10 ignore `default_entity_id` and make the entity id of the names of device and entity, so
both give the same ids.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, get_args

from streamav import __version__
from streamav.privacy_modes import PRIVACY_CHOICES
from streamav.types import PublishedState

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from streamav.publish.topics import Topics

__all__ = ["Announcement", "Devices", "shared_entity"]

Component = dict[str, object]
_PRIVACY: Component = {"p": "select", "options": list(PRIVACY_CHOICES), "icon": "mdi:incognito"}
_PROBABILITY: Component = {"p": "number", "min": 0, "max": 1, "step": 0.01, "mode": "box", "icon": "mdi:gauge"}
_LATENCY: Component = {"p": "number", "min": 1, "max": 10, "step": 1, "icon": "mdi:timer-sand"}
_SWITCH: Component = {"p": "switch", "icon": "mdi:ear-hearing"}


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
        self,
        topics: Topics,
        prefix: str,
        sources: Mapping[str, Sequence[str]],
        *,
        names: Mapping[str, str] | None = None,
        commands: bool = False,
        snapshot: bool = False,
    ) -> None:
        """Store what is announced.

        Args:
            topics: topics below the base of the service.
            prefix: discovery prefix of Home Assistant.
            sources: source id -> labels that become entities.
            names: label -> name that people gave it; another label is named by its own words.
            commands: whether the service takes commands: switches and numbers become entities.
            snapshot: whether snapshots are published: an image becomes an entity.
        """
        self._topics = topics
        self._prefix = prefix
        self._sources = {source: list(labels) for source, labels in sources.items()}
        self._names = dict(names or {})
        self._commands = commands
        self._snapshot = snapshot
        base = topics.base.replace("/", "_")
        self._name = "streamav" if base == "streamav" else f"streamav_{base}"

    @property
    def sources(self) -> list[str]:
        """Ids of the sources that are announced."""
        return list(self._sources)

    @property
    def birth(self) -> str:
        """Topic where Home Assistant publishes `online` when it starts."""
        return f"{self._prefix}/status"

    @property
    def root(self) -> str:
        """Beginning of the topics of all devices."""
        return f"{self._prefix}/device/"

    def follow(self, source: str, labels: Sequence[str]) -> None:
        """Use these labels of a source from now on."""
        self._sources[source] = list(labels)

    def forget(self, source: str) -> None:
        """Stop announcing a source."""
        self._sources.pop(source, None)

    def announcements(self) -> list[Announcement]:
        """Return the messages of all devices; the service comes first, because the others refer to it."""
        return [self._service(), *self.of_sources()]

    def of_sources(self) -> list[Announcement]:
        """Return the messages of the sources alone, as a worker of a cluster sends them."""
        return [self._source(source, labels) for source, labels in self._sources.items()]

    def _service(self) -> Announcement:
        device = "streamav service" if self._name == "streamav" else f"streamav service {self._topics.base}"
        connection: Component = {
            "p": "binary_sensor",
            "unique_id": f"{self._name}_service_connection",
            **_named("binary_sensor", device, "Connection"),
            "device_class": "connectivity",
            "entity_category": "diagnostic",
            "qos": 1,
            "state_topic": self._topics.status,
            "payload_on": "online",
            "payload_off": "offline",
        }
        # The connection says itself whether the service is there, so it is always available.
        available = {"availability": [{"topic": self._topics.status}]}
        parts = {
            "connection": connection,
            "backend": self._sensor("service", device, "backend", "Engine", self._topics.info) | available | {"icon": "mdi:engine"},
            "version": self._sensor("service", device, "version", "Version", self._topics.info) | available | {"icon": "mdi:tag"},
        }
        return Announcement(self._config("service"), parts, self._root("service", {"name": device}))

    def _source(self, source: str, labels: Sequence[str]) -> Announcement:
        key, name = self._key(source), self._device(source)
        telemetry = self._topics.telemetry(source)
        parts: dict[str, Component] = {
            "event": {
                "p": "event",
                "unique_id": f"{self._name}_{key}_event",
                "default_entity_id": _entity_id("event", name),
                "name": None,  # it is what the device is for, so it has the device's name
                "icon": "mdi:ear-hearing",
                "qos": 1,
                "state_topic": self._topics.ha_event(source),
                "event_types": list(labels),
            },
            **{f"class_{label}": self._class(source, label) for label in labels},
            "level": self._sensor(key, name, "level", "Sound level", telemetry, "rms_dbfs") | _measured("dBFS", 1, "mdi:volume-high"),
            "latency": self._sensor(key, name, "latency", "Latency", telemetry, "latency_s")
            | _measured("s", 2, "mdi:timer-outline", "duration"),
            "fps": self._sensor(key, name, "fps", "Frames per second", telemetry) | _measured("fps", 1, "mdi:filmstrip"),
            "state": {
                "p": "sensor",
                "unique_id": f"{self._name}_{key}_state",
                **_named("sensor", name, "State"),
                "icon": "mdi:cctv",
                "device_class": "enum",
                "options": list(get_args(PublishedState)),
                "entity_category": "diagnostic",
                "qos": 1,
                "availability": [{"topic": self._topics.status}],  # a lost source must still be able to say so
                "state_topic": self._topics.source_status(source),
            },
            **(self._image(source) if self._snapshot else {}),
            **(self._settings(source, labels) if self._commands else {}),
        }
        root = self._root(key, {"name": name, "via_device": f"{self._name}_service"})
        return Announcement(self._config(key), parts, {**root, "availability": self._available(source), "availability_mode": "all"})

    def _key(self, source: str) -> str:
        """Return the part of a device's ids that names its source; `service` itself is the id of the service's device."""
        return f"{source}_" if source.rstrip("_") == "service" else source

    def _device(self, source: str) -> str:
        """Return the name of a source's device. With another base than `streamav` it holds the base, so two services use no name twice."""
        return f"streamav {source}" if self._name == "streamav" else f"streamav {self._topics.base} {source}"

    def _available(self, source: str) -> list[dict[str, str]]:
        return [{"topic": self._topics.status}, {"topic": self._topics.availability(source)}]

    def _image(self, source: str) -> dict[str, Component]:
        return {
            "snapshot": {
                "p": "image",
                "unique_id": f"{self._name}_{self._key(source)}_snapshot",
                **_named("image", self._device(source), "Last event"),
                "qos": 1,
                "image_topic": self._topics.snapshot(source),
                "content_type": "image/jpeg",
            }
        }

    def _settings(self, source: str, labels: Sequence[str]) -> dict[str, Component]:
        """Return switches, numbers and choices of a source and of its classes; they work also while the source is switched off or lost."""
        parts = {
            "enabled": self._setting(source, "enabled", "Detection", _SWITCH),
            "threshold": self._setting(source, "threshold", "Threshold", _PROBABILITY),
            "latency_set": self._setting(source, "latency", "Segments until final", _LATENCY),
            "privacy": self._setting(source, "privacy", "Privacy", _PRIVACY),
        }
        for label in labels:
            parts[f"enabled_{label}"] = self._setting(source, f"class/{label}/enabled", "detection", _SWITCH, label)
            parts[f"threshold_{label}"] = self._setting(source, f"class/{label}/threshold", "threshold", _PROBABILITY, label)
        return parts

    def _setting(self, source: str, setting: str, name: str, kind: Component, label: str | None = None) -> Component:
        """Return the component of a setting of a source, or of one of its labels."""
        before, words = ("", "") if label is None else (f"{self._words(label)} ", f"{label} ")
        return {
            **kind,
            "unique_id": f"{self._name}_{self._key(source)}_{setting.replace('/', '_')}_set",
            "default_entity_id": _entity_id(str(kind["p"]), self._device(source), words + name),
            "name": before + name,
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
            "unique_id": f"{self._name}_{self._key(source)}_{label}",
            "default_entity_id": _entity_id("binary_sensor", self._device(source), label),
            "name": self._words(label),
            "device_class": "sound",
            "qos": 1,
            "state_topic": self._topics.class_state(source, label),
            "json_attributes_topic": self._topics.class_attributes(source, label),
        }

    def _words(self, label: str) -> str:
        """Return the name of a label: the name that people gave it, else the words of its slug."""
        return self._names.get(label) or label.replace("_", " ").capitalize()

    def _sensor(self, key: str, device: str, sensor: str, name: str, topic: str, value: str = "") -> Component:
        """Return a sensor that shows a value of a JSON object; *value* is the key of the value, empty for the key of the sensor."""
        return {
            "p": "sensor",
            "unique_id": f"{self._name}_{key}_{sensor}",
            **_named("sensor", device, name),
            "entity_category": "diagnostic",
            "qos": 1,
            "state_topic": topic,
            "value_template": f"{{{{ value_json.{value or sensor} }}}}",
        }

    def _root(self, device: str, more: Mapping[str, object]) -> dict[str, object]:
        described = {"ids": [f"{self._name}_{device}"], "mf": "streamav", "mdl": "VSCG audio-visual", "sw": __version__}
        return {
            "dev": {**described, **more},
            "o": {"name": "streamav", "sw": __version__},
            "qos": 1,
        }

    def _config(self, device: str) -> str:
        return f"{self.root}{self._name}_{device}/config"


def shared_entity(devices: Devices) -> tuple[str, list[str]] | None:
    """Return the first id that two entities of one platform would have, and their sources; Home Assistant drops the second of them.

    An id is made of the source and the label, and both may contain what joins them: front with door_knock, front_door with knock.
    """
    owners: dict[tuple[object, object], str] = {}
    for source, announcement in zip(devices.sources, devices.of_sources(), strict=True):
        for part in announcement.parts.values():
            other = owners.setdefault((part["p"], part["unique_id"]), source)
            if other != source:
                return str(part["unique_id"]), [other, source]
    return None


def _measured(unit: str, decimals: int, icon: str, kind: str | None = None) -> Component:
    """Return what makes a sensor a measurement, which Home Assistant draws as a curve."""
    shown = {"unit_of_measurement": unit, "state_class": "measurement", "suggested_display_precision": decimals, "icon": icon}
    return shown if kind is None else {**shown, "device_class": kind}


def _named(platform: str, device: str, name: str) -> Component:
    return {"default_entity_id": _entity_id(platform, device, name), "name": name}


def _entity_id(platform: str, *names: str) -> str:
    """Return the entity id that Home Assistant makes of these names: lower case, one underscore in place of anything else."""
    return f"{platform}.{re.sub('[^a-z0-9]+', '_', ' '.join(names).lower()).strip('_')}"


def _json(value: Mapping[str, object]) -> bytes:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
