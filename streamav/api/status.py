"""Keeps what a run is doing now: the state of each source, its newest figures, its open events and its counts.

The loop writes and the thread of the API reads; every value is replaced as a whole, so no lock is needed. The memory is bounded by the
number of sources and labels.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from streamav.privacy_modes import privacy_word
from streamav.redaction import redact
from streamav.remedies import remedy
from streamav.types import EndReason, EventPhase, SourceState

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streamav.api.facts import KnownSource
    from streamav.types import Event, Telemetry

__all__ = ["Status"]

_NS = 1_000_000_000
_DECIMALS = 4


@dataclass(slots=True)
class _Now:
    """What is known of a source now."""

    state: SourceState = SourceState.WARMING_UP
    reason: str = "started"
    since_s: float = field(default_factory=time.time)
    telemetry: Telemetry | None = None
    open: dict[str, str] = field(default_factory=dict)
    """Event id -> label, of the events that have not ended."""
    confirmed: set[str] = field(default_factory=set)
    """Ids of the open events that are confirmed."""
    counts: dict[str, int] = field(default_factory=dict)
    """Label -> confirmed events since the start."""
    retracted: int = 0
    last: dict[str, Any] | None = None


class Status:
    """What all sources are doing now."""

    def __init__(self, sources: Sequence[KnownSource]) -> None:
        """Begin with sources that have just started."""
        self.known = {one.id: one for one in sources}
        """What is known of each source; replaced as a whole."""
        self._now = {one.id: _Now() for one in sources}

    def add_source(self, known: KnownSource) -> None:
        """Add a source, or start it again."""
        self._now = {**self._now, known.id: _Now()}
        self.known = {**self.known, known.id: known}

    def drop_source(self, source: str) -> None:
        """Forget a source."""
        self.known = {name: one for name, one in self.known.items() if name != source}
        self._now = {name: one for name, one in self._now.items() if name != source}

    def event(self, event: Event) -> None:
        """Take one message about an event."""
        now = self._now[event.source]
        if event.confirmed and event.id not in now.confirmed:
            now.counts[event.label] = now.counts.get(event.label, 0) + 1
            now.last = {"id": event.id, "label": event.label, "start_time": _rfc3339((event.epoch_ns + event.start_ns) / _NS)}
        if event.phase is EventPhase.END:
            now.open.pop(event.id, None)
            now.confirmed.discard(event.id)
            now.retracted += event.end_reason is EndReason.RETRACTED
        else:
            now.open[event.id] = event.label
            if event.confirmed:
                now.confirmed.add(event.id)

    def source_state(self, source: str, state: SourceState, reason: str) -> None:
        """Take a change of a source's state."""
        now = self._now[source]
        now.state, now.reason, now.since_s = state, redact(reason), time.time()

    def telemetry(self, source: str, telemetry: Telemetry) -> None:
        """Take the newest figures of a source."""
        self._now[source].telemetry = telemetry

    # Read by the thread of the API

    @property
    def states(self) -> dict[str, SourceState]:
        """State of each source."""
        return {name: now.state for name, now in self._now.items()}

    @property
    def delivering(self) -> bool:
        """True when at least one source delivers sound and pictures."""
        return any(state in {SourceState.ONLINE, SourceState.DEGRADED} for state in self.states.values())

    @property
    def open_events(self) -> int:
        """How many events have not ended."""
        return sum(len(now.open) for now in self._now.values())

    def sources(self) -> list[dict[str, Any]]:
        """Return every source as JSON values."""
        known, now = self.known, self._now
        return [self._source(one, now[name]) for name, one in known.items() if name in now]

    def counts(self) -> dict[str, dict[str, int]]:
        """Return the confirmed events since the start, by source and label."""
        return {name: dict(now.counts) for name, now in self._now.items()}

    @property
    def retracted(self) -> int:
        """How many events were announced and retracted since the start."""
        return sum(now.retracted for now in self._now.values())

    @staticmethod
    def _source(known: KnownSource, now: _Now) -> dict[str, Any]:
        return {
            "id": known.id,
            "state": now.state.value,
            "reason": now.reason,
            "remedy": remedy(now.state, now.reason),
            "since": _rfc3339(now.since_s),
            "live": known.live,
            "latency_segments": known.latency_segments,
            "privacy": privacy_word(known.detection().privacy),
            "labels": [{"label": label, **asdict(one)} for label, one in known.thresholds().items()],
            "telemetry": None if now.telemetry is None else _figures(now.telemetry),
            "open_events": [{"id": identifier, "label": label} for identifier, label in list(now.open.items())],
            "last_event": now.last,
            "confirmed_events": sum(list(now.counts.values())),
        }


def _figures(telemetry: Telemetry) -> dict[str, Any]:
    return {key: round(value, _DECIMALS) if isinstance(value, float) else value for key, value in asdict(telemetry).items()}


def _rfc3339(epoch_s: float) -> str:
    return datetime.fromtimestamp(epoch_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
