"""Keeps what one subscriber has received: which messages are new, their latency, and a summary.

It uses no connection and reads no clock. Its memory is bounded for any input: it keeps outlines of the newest events, and the newest
latencies.
"""

from __future__ import annotations

import math
import statistics
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from streamav.publish.consumer import MOST_EVENTS, Consumer
from streamav.publish.event_filter import EventFilter
from streamav.publish.message import MessageError, decode

if TYPE_CHECKING:
    from collections.abc import Callable

    from streamav.publish.message import EventMessage

__all__ = ["MOST_LATENCIES", "Latencies", "Subscriber"]

MOST_LATENCIES = 10_000
"""How many of the newest latencies the median and the 95th percentile are computed from (our choice)."""
_AHEAD_S = 0.5
"""How far two machines' clocks may differ before a message counts as ahead of time (our choice), s."""
_OUTLINE = {"id", "seq", "source", "label", "start_time", "end_time", "start_ts", "end_ts", "media_start_s", "media_end_s"}
_OUTLINE |= {"duration_s", "top_score", "confirmed", "end_reason", "location"}


class Latencies:
    """Latencies of messages in seconds: all are counted, only the newest are kept."""

    def __init__(self) -> None:
        self._newest: deque[float] = deque(maxlen=MOST_LATENCIES)
        self._count = 0
        self._greatest: float | None = None

    def add(self, latency_s: float) -> None:
        """Add one latency in seconds; a value that is not finite, as absurd times of a message give, is ignored."""
        if not math.isfinite(latency_s):
            return
        self._newest.append(latency_s)
        self._count += 1
        self._greatest = latency_s if self._greatest is None else max(self._greatest, latency_s)

    def summary(self) -> dict[str, float | int | None]:
        """Return count and maximum of all, median and 95th percentile (inclusive) of the newest; None for each without any latency."""
        if self._greatest is None:
            return {"count": 0, "p50": None, "p95": None, "max": None}
        values = list(self._newest)
        p95 = statistics.quantiles(values, n=20, method="inclusive")[-1] if len(values) > 1 else values[0]
        return {
            "count": self._count,
            "p50": round(statistics.median(values), 4),
            "p95": round(p95, 4),
            "max": round(self._greatest, 4),
        }


@dataclass
class Subscriber:
    """Checks and counts messages as they arrive."""

    show: Callable[[EventMessage, bytes, float | None], None]
    """Called with each new message, its bytes, and its latency in seconds.

    None for an ended event, and for a file that runs faster than real time."""
    count: int | None = None
    """Number of messages to show before the end; None for no end."""
    consumer: Consumer[dict[str, Any]] = field(default_factory=lambda: Consumer(_outline))
    wanted: EventFilter = field(default_factory=EventFilter)
    """Which messages are shown and counted; the others only move the rule of `seq` on."""
    shown: int = 0
    left_out: int = 0
    """Messages that `wanted` left out."""
    invalid: int = 0
    """Messages that break the contract."""
    discarded: int = 0
    """Messages that came faster than they could be read, and were lost here."""
    connects: int = 0
    """Connections that the broker accepted."""
    obstacle: str = ""
    """Why the last attempt to connect failed, as a sentence; empty after a success."""
    arrival: Latencies = field(default_factory=Latencies)
    """For each message about an open event: from the end of its newest segment to its arrival here, in UTC."""
    _ids: dict[str, None] = field(default_factory=dict)
    publisher: Latencies = field(default_factory=Latencies)
    """For the same messages: `latency_s` as the message holds it, up to the hand-over of the message to the publisher."""

    @property
    def done(self) -> bool:
        """True when `count` messages have been shown."""
        return self.count is not None and self.shown >= self.count

    def take(self, data: bytes, now_s: float) -> str | None:
        """Take one message that arrived at *now_s* (seconds since 1970); return its error as a sentence, or None."""
        try:
            message = decode(data)
        except MessageError as exc:
            self.invalid += 1
            return str(exc)
        if not self.consumer.take(message):
            return None
        if not self.wanted.passes(message):
            self.left_out += 1
            return None
        latency_s = None
        if message.active:  # an `end` arrives later than its last segment, by the length of the pause that ended the event
            since_s = now_s - (message.start_ts + message.duration_s)
            if since_s > -_AHEAD_S:  # a file that runs faster than real time is ahead of the clock: it has no latency
                latency_s = since_s
                self.arrival.add(latency_s)
            self.publisher.add(message.latency_s)
        self.shown += 1
        self._ids[message.id] = None
        if len(self._ids) > MOST_EVENTS:
            del self._ids[next(iter(self._ids))]
        self.show(message, data, latency_s)
        return None

    def summary(self, seconds: float) -> dict[str, object]:
        """Return what was received in *seconds*, as JSON values."""
        return {
            "seconds": round(seconds, 3),
            "messages": self.shown,
            "duplicates": self.consumer.dropped,
            "invalid": self.invalid,
            "discarded": self.discarded,
            "left_out": self.left_out,
            "arrival_latency_s": self.arrival.summary(),
            "publisher_latency_s": self.publisher.summary(),
            "events": [one for one in self.consumer.events if one["id"] in self._ids],
        }


def _outline(message: EventMessage) -> dict[str, Any]:
    """Return the keys of a message that a comparison with the truth needs; their size is bounded, free texts are left out."""
    return message.model_dump(include=_OUTLINE)
