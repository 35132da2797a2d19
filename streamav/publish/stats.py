"""Counts what the service has done, for the topic `stats`.

It uses no connection; the sink asks about once a minute.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from streamav import __version__
from streamav.memory import peak_memory_mb
from streamav.publish.payloads import OutboxEntry, SourceEntry, StatsPayload
from streamav.types import EndReason, EventPhase, SourceState

if TYPE_CHECKING:
    from collections.abc import Iterable

    from streamav.publish.pending import MqttCounters
    from streamav.types import Event, Telemetry

__all__ = ["STATS_S", "Stats"]

STATS_S: Final = 60.0
"""Time between two messages, seconds (as Frigate; our choice)."""


@dataclass(slots=True)
class _Counts:
    state: SourceState = SourceState.WARMING_UP
    events: int = 0
    retracted: int = 0
    telemetry: Telemetry | None = None


@dataclass(slots=True)
class Stats:
    """Statistics of one service."""

    sources: Iterable[str]
    began_s: float
    _counts: dict[str, _Counts] = field(init=False)
    _told_s: float = field(init=False)

    def __post_init__(self) -> None:
        """Begin at zero."""
        self._counts = {source: _Counts() for source in self.sources}
        self._told_s = self.began_s - STATS_S  # the first telemetry comes with the first statistics

    def begin(self, source: str) -> None:
        """Begin to count a source, from zero."""
        self._counts[source] = _Counts()

    def forget(self, source: str) -> None:
        """Stop counting a source."""
        self._counts.pop(source, None)

    def event(self, event: Event) -> None:
        """Count an event at its end."""
        if event.phase is EventPhase.END and event.source in self._counts:
            self._counts[event.source].events += event.confirmed
            self._counts[event.source].retracted += event.end_reason is EndReason.RETRACTED

    def state(self, source: str, state: SourceState) -> None:
        """Note the state of a source."""
        if source in self._counts:
            self._counts[source].state = state

    def take(self, source: str, telemetry: Telemetry) -> None:
        """Note the telemetry of a source."""
        if source in self._counts:
            self._counts[source].telemetry = telemetry

    def due(self, now_s: float) -> bool:
        """Return whether the statistics are to be sent now, and count the minute from now on if so."""
        if now_s - self._told_s < STATS_S:
            return False
        self._told_s = now_s
        return True

    def payload(self, now_s: float, counters: MqttCounters) -> bytes:
        """Return the JSON of the topic."""
        outbox = OutboxEntry(
            waiting=counters.queue_depth,
            published=counters.published,
            dropped=counters.dropped,
            refused=counters.refused,
            connects=counters.connects,
        )
        return StatsPayload(
            version=__version__,
            uptime_s=round(now_s - self.began_s, 1),
            peak_memory_mb=round(peak_memory_mb(), 1),
            sources={source: _entry(counts) for source, counts in self._counts.items()},
            outbox=outbox,
        ).to_bytes()


def _entry(counts: _Counts) -> SourceEntry:
    told = counts.telemetry
    return SourceEntry(
        status=counts.state.published,
        events=counts.events,
        retracted=counts.retracted,
        dropped=0 if told is None else told.dropped_segments,
        rtf=None if told is None else round(told.realtime_factor, 4),
        latency_s=None if told is None else round(told.latency_s, 3),
    )
