"""Names the topics of the MQTT contract.

Pure: it knows no payload, quality of service or connection (docs/mqtt.md, topics).
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Topics"]


@dataclass(frozen=True, slots=True)
class Topics:
    """Topics below one base; every level matches `[a-zA-Z0-9_-]+` as long as base, sources and labels do (checked by the settings)."""

    base: str = "streamav"

    @property
    def status(self) -> str:
        """Service: online or offline; the will goes here."""
        return f"{self.base}/status"

    @property
    def info(self) -> str:
        """Service: version, model, backend, sources."""
        return f"{self.base}/info"

    @property
    def probe(self) -> str:
        """Where the service proves that it may publish and subscribe."""
        return f"{self.base}/doctor/probe"

    @property
    def any_event(self) -> str:
        """Filter for the events of all sources."""
        return f"{self.base}/+/event"

    def source_status(self, source: str) -> str:
        """One of the words of SourceState."""
        return f"{self.base}/{source}/status"

    def availability(self, source: str) -> str:
        """Source: online or offline, for Home Assistant."""
        return f"{self.base}/{source}/availability"

    def event(self, source: str) -> str:
        """Messages of `streamav.event/1`."""
        return f"{self.base}/{source}/event"

    def ha_event(self, source: str) -> str:
        """Small companion message for Home Assistant's event entity."""
        return f"{self.base}/{source}/ha_event"

    def class_state(self, source: str, label: str) -> str:
        """ON or OFF, from confirmed events only."""
        return f"{self.base}/{source}/class/{label}/state"

    def class_attributes(self, source: str, label: str) -> str:
        """What stands behind the state."""
        return f"{self.base}/{source}/class/{label}/attributes"

    def last_event(self, source: str) -> str:
        """The last confirmed event that ended."""
        return f"{self.base}/{source}/last_event"

    def telemetry(self, source: str) -> str:
        """How the source is doing."""
        return f"{self.base}/{source}/telemetry"

    def scores(self, source: str) -> str:
        """Final scores of each segment, for debugging."""
        return f"{self.base}/{source}/scores"
