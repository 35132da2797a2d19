"""What one subscriber has received: which messages are news, how late they were, and a summary.

It knows no connection and reads no clock. Its memory is bounded, whatever is sent to it: of the events it keeps outlines of the newest,
of the latencies the newest.
"""

from __future__ import annotations

import statistics
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from streamav.publish.consumer import Consumer
from streamav.publish.message import MessageError, decode

if TYPE_CHECKING:
    from collections.abc import Callable

    from streamav.publish.message import EventMessage

__all__ = ["MOST_LATENCIES", "Latencies", "Subscriber"]

MOST_LATENCIES = 10_000
"""Latencies that median and 95th percentile are taken of, the newest ones (our choice)."""
_OUTLINE = {"id", "seq", "source", "label", "start_time", "end_time", "start_ts", "end_ts", "media_start_s", "media_end_s"}
_OUTLINE |= {"duration_s", "top_score", "confirmed", "end_reason", "location"}


class Latencies:
    """How late messages were, in seconds: all are counted, the newest are kept."""

    def __init__(self) -> None:
        self._newest: deque[float] = deque(maxlen=MOST_LATENCIES)
        self._count = 0
        self._greatest: float | None = None

    def add(self, latency_s: float) -> None:
        """Take one more."""
        self._newest.append(latency_s)
        self._count += 1
        self._greatest = latency_s if self._greatest is None else max(self._greatest, latency_s)

    def summary(self) -> dict[str, float | int | None]:
        """Return count and maximum of all, median and 95th percentile (inclusive) of the newest; None without any."""
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
    """Takes messages as they arrive."""

    show: Callable[[EventMessage, bytes, float | None], None]
    """Called with each message that says something new, its bytes, and its latency in seconds."""
    count: int | None = None
    """End after so many messages; None for no end."""
    consumer: Consumer[dict[str, Any]] = field(default_factory=lambda: Consumer(_outline))
    shown: int = 0
    invalid: int = 0
    """Messages that break the contract."""
    arrival: Latencies = field(default_factory=Latencies)
    """For each message about an event that goes on: end of its newest segment to its arrival here, on UTC."""
    publisher: Latencies = field(default_factory=Latencies)
    """The same as the publisher says it, up to the hand-over to its client."""

    @property
    def done(self) -> bool:
        """True when no more is wanted."""
        return self.count is not None and self.shown >= self.count

    def take(self, data: bytes, now_s: float) -> str | None:
        """Take one message that arrived at *now_s* (seconds since 1970); return what is wrong with it, or None."""
        try:
            message = decode(data)
        except MessageError as exc:
            self.invalid += 1
            return str(exc)
        if not self.consumer.take(message):
            return None
        latency_s = None
        if message.active:  # an end comes later than its last segment by the pause that ended it
            latency_s = now_s - (message.start_ts + message.duration_s)
            self.arrival.add(latency_s)
            self.publisher.add(message.latency_s)
        self.shown += 1
        self.show(message, data, latency_s)
        return None

    def summary(self, seconds: float) -> dict[str, object]:
        """Return what was seen in so many seconds as JSON values."""
        return {
            "seconds": round(seconds, 3),
            "messages": self.shown,
            "duplicates": self.consumer.dropped,
            "invalid": self.invalid,
            "arrival_latency_s": self.arrival.summary(),
            "publisher_latency_s": self.publisher.summary(),
            "events": self.consumer.events,
        }


def _outline(message: EventMessage) -> dict[str, Any]:
    """Return of the last message of an event what a comparison with the truth needs: of bounded size, without free texts."""
    return message.model_dump(include=_OUTLINE)
