"""Holds what is to be published to one broker: the sink puts it in, the session of the open connection takes it out.

It lasts longer than one connection. Only the thread of the event loop uses it, so it has no locks. It opens and sends nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from streamav.publish.ledger import Ledger, Retained
    from streamav.publish.outbox import Outbox, Parcel

__all__ = ["MqttCounters", "Pending"]

MOST_FLEETING = 1000
"""Most values of QoS 0 that wait (our choice: 15 s of the scores of 64 sources)."""
REPORT_DROPS_S = 60.0
"""Shortest time between two log lines about lost messages, seconds (contract, section 9)."""

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class MqttCounters:
    """What the sink has done since it was built."""

    connected: bool = False
    connects: int = 0
    """Connections that the broker accepted."""
    attempts: int = 0
    published: int = 0
    """Messages about events that the broker has acknowledged."""
    failed: int = 0
    """Publishes of messages about events that ended in an error and were tried again."""
    queue_depth: int = 0
    dropped: int = 0
    """Messages about events that the full outbox dropped."""
    merged: int = 0
    """Updates that the full outbox removed because a later message holds the same."""
    probe_failures: int = 0
    """Connects after which the broker did not deliver our own probe."""


@dataclass(slots=True)
class Pending:
    """Messages about events in order, the newest of every other value, and whether the sink is closing."""

    broker: str
    """Name of the broker in the log."""
    ledger: Ledger
    outbox: Outbox
    monotonic: Callable[[], float]
    """Monotonic clock, seconds."""
    counters: MqttCounters = field(default_factory=MqttCounters)
    changed: dict[str, bytes] = field(default_factory=dict)
    """Topic -> retained value that the broker does not have yet; cleared at each connect, because the greeting sends all of them."""
    ended: list[str] = field(default_factory=list)
    """Ids of events whose end the broker has acknowledged but the journal still holds."""
    fleeting: deque[tuple[str, bytes]] = field(default_factory=lambda: deque(maxlen=MOST_FLEETING))
    """Topics and values of QoS 0, oldest first; discarded without a connection, the oldest also when the connection is slow."""
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when there is something to do."""
    closing: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the session must end as soon as nothing waits."""
    said_farewell: bool = False
    """True after the session has published that the service is offline."""
    _told_info: bytes = b""
    _told_drops: tuple[int, float] = (0, float("-inf"))

    def put(self, parcels: Sequence[Parcel], values: Sequence[Retained]) -> None:
        """Queue messages about events, and store retained values that changed."""
        for parcel in parcels:
            self.outbox.put(parcel)
        for value in values:
            self.changed[value.topic] = value.payload
        self.count()
        self.wake.set()

    def put_fleeting(self, topic: str, payload: bytes) -> None:
        """Queue a value of QoS 0; without a connection it is discarded."""
        if self.counters.connected:
            self.fleeting.append((topic, payload))
            self.wake.set()

    def begin(self) -> Sequence[Retained]:
        """Start on a new connection: return every retained value except the status, in the order in which they are sent."""
        self.changed.clear()
        self.fleeting.clear()
        info = self.ledger.info()
        self._told_info = info.payload
        return [info, *self.ledger.retained()]

    def follow_info(self) -> None:
        """Publish the info value when it has changed (contract, section 3.1); called with each event and with telemetry."""
        info = self.ledger.info()
        if info.payload != self._told_info:
            self._told_info = info.payload
            self.put([], [info])

    def count(self) -> None:
        """Update the counters, and log lost messages at most once a minute."""
        self.counters.queue_depth = len(self.outbox)
        self.counters.dropped = self.outbox.dropped
        self.counters.merged = self.outbox.merged
        told, when_s = self._told_drops
        if self.outbox.dropped > told and self.monotonic() - when_s >= REPORT_DROPS_S:
            _log.warning("the outbox is full, whole events were dropped messages=%d", self.outbox.dropped - told)
            self._told_drops = (self.outbox.dropped, self.monotonic())
