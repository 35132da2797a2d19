"""Chooses which event messages a subscriber shows.

It is pure: it takes messages and reads no clock.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from streamav.publish.message import EventMessage

__all__ = ["EventFilter"]


@dataclass(frozen=True, slots=True, kw_only=True)
class EventFilter:
    """What a message must be; an empty choice allows everything."""

    sources: frozenset[str] = frozenset()
    labels: frozenset[str] = frozenset()
    zones: frozenset[str] = frozenset()
    """One of them must be among the zones that the event has touched."""
    states: frozenset[str] = frozenset()
    """new, update, end."""
    min_score: float = 0.0
    """Least `top_score`: the greatest score of the event so far, 0 to 1."""
    confirmed: bool = False
    """True: only messages of events that are confirmed."""
    since_ts: float | None = None
    """Only events that began at this time or later, UTC, seconds since 1970; None for all."""

    def passes(self, message: EventMessage) -> bool:
        """Return whether a message is to be shown."""
        return (
            (not self.sources or message.source in self.sources)
            and (not self.labels or message.label in self.labels)
            and (not self.zones or not self.zones.isdisjoint(message.zones))
            and (not self.states or message.type in self.states)
            and message.top_score >= self.min_score
            and (message.confirmed or not self.confirmed)
            and (self.since_ts is None or message.start_ts >= self.since_ts)
        )
