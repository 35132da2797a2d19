"""Builds the topics of the MQTT contract (docs/mqtt.md, topics).

It is pure: it builds no payload and uses no connection.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Topics"]


@dataclass(frozen=True, slots=True)
class Topics:
    """Topics below one base. Every level matches `[a-zA-Z0-9_-]+` when base, sources and labels do; the settings check that."""

    base: str = "streamav"
    worker: str = ""
    """Name of one worker of a cluster, whose own status and info are below `cluster`; empty for the service itself."""

    @property
    def _service(self) -> str:
        return f"{self.base}/cluster/{self.worker}" if self.worker else self.base

    @property
    def status(self) -> str:
        """Status of the service, or of one worker, online or offline; the will is published here."""
        return f"{self._service}/status"

    @property
    def info(self) -> str:
        """Version, model, backend and sources of the service, or of one worker."""
        return f"{self._service}/info"

    @property
    def probe(self) -> str:
        """Topic with which the service checks that it may publish and subscribe."""
        return f"{self.base}/doctor/probe"

    @property
    def purge_mark(self) -> str:
        """Topic with which `streamav mqtt purge` checks that it may read everything below the base."""
        return f"{self.base}/doctor/purge/mark"

    @property
    def any_event(self) -> str:
        """Filter for the events of all sources."""
        return f"{self.base}/+/event"

    @property
    def stats(self) -> str:
        """Statistics of the service."""
        return f"{self._service}/stats"

    @property
    def kept(self) -> str:
        """A retained word of the running session: a broker that still has the word has all values that were sent before it."""
        return f"{self._service}/doctor/kept"

    @property
    def restate(self) -> str:
        """Command to send all retained values again."""
        return f"{self.base}/restate/set"

    @property
    def answer(self) -> str:
        """Answers to commands that concern no source; the topics below it may be asked for as response topics."""
        return f"{self.base}/answer"

    def source_answer(self, source: str) -> str:
        """Return the topic of the answers to a source's commands."""
        return f"{self.base}/{source}/answer"

    def setting(self, source: str, name: str) -> str:
        """Return the topic where the value of a setting is echoed; *name* may have levels, such as class/bark/enabled."""
        return f"{self.base}/{source}/{name}/state"

    def command(self, source: str, name: str) -> str:
        """Return the topic of the command that sets a setting."""
        return f"{self.base}/{source}/{name}/set"

    def source_status(self, source: str) -> str:
        """Return the topic of a source's state: one of the words of SourceState."""
        return f"{self.base}/{source}/status"

    def availability(self, source: str) -> str:
        """Return the topic of a source's availability, online or offline, for Home Assistant."""
        return f"{self.base}/{source}/availability"

    def event(self, source: str) -> str:
        """Return the topic of `streamav.event/1` messages."""
        return f"{self.base}/{source}/event"

    def ha_event(self, source: str) -> str:
        """Return the topic of the small companion message for Home Assistant's event entity."""
        return f"{self.base}/{source}/ha_event"

    def class_state(self, source: str, label: str) -> str:
        """Return the topic of a class's state, ON or OFF, from confirmed events only."""
        return f"{self.base}/{source}/class/{label}/state"

    def class_attributes(self, source: str, label: str) -> str:
        """Return the topic of the attributes that belong to a class's state: score, event id, since, zone."""
        return f"{self.base}/{source}/class/{label}/attributes"

    def last_event(self, source: str) -> str:
        """Return the topic of the last confirmed event that ended."""
        return f"{self.base}/{source}/last_event"

    def snapshot(self, source: str) -> str:
        """Return the topic of the JPEG picture of the last confirmed event."""
        return f"{self.base}/{source}/snapshot"

    def telemetry(self, source: str) -> str:
        """Return the topic of a source's telemetry."""
        return f"{self.base}/{source}/telemetry"

    def scores(self, source: str) -> str:
        """Return the topic of the final scores of each segment, for debugging."""
        return f"{self.base}/{source}/scores"
