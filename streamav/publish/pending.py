"""What there is to say to one broker: the sink puts it in, the session that stands takes it out.

It outlives the connections. It belongs to the thread of the event loop, so nothing here is locked; it opens and sends nothing.
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
"""Values of QoS 0 that wait at most (our choice: 15 s of the scores of 64 sources)."""
REPORT_DROPS_S = 60.0
"""Lost messages are told at most so often, seconds (contract, section 9)."""

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class MqttCounters:
    """What the sink has done since it was made."""

    connected: bool = False
    connects: int = 0
    """Connections that the broker accepted."""
    attempts: int = 0
    published: int = 0
    """Messages about events that the broker has acknowledged."""
    failed: int = 0
    """Publishes that ended in an error; those of events were tried again."""
    queue_depth: int = 0
    dropped: int = 0
    """Messages about events that the full outbox lost."""
    merged: int = 0
    """Updates that the full outbox left out because a later message says the same."""
    probe_failures: int = 0
    """Connects after which our own probe did not come back."""


@dataclass(slots=True)
class Pending:
    """Messages about events in order, the newest of every other value, and whether the sink wants to end."""

    broker: str
    """What the log calls it."""
    ledger: Ledger
    outbox: Outbox
    monotonic: Callable[[], float]
    """Clock that only goes on, seconds."""
    counters: MqttCounters = field(default_factory=MqttCounters)
    changed: dict[str, bytes] = field(default_factory=dict)
    """Retained values that the broker does not have yet, by topic; lost with the connection, since the next greeting sends them all."""
    ended: list[str] = field(default_factory=list)
    """Events whose ends the broker has; the journal does not know yet."""
    fleeting: deque[tuple[str, bytes]] = field(default_factory=lambda: deque(maxlen=MOST_FLEETING))
    """Topics and values of QoS 0, oldest first; gone without a connection, and the oldest with a slow one."""
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when there is something to do."""
    closing: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the session shall end once nothing waits."""
    said_farewell: bool = False
    """True once the broker knows that the service is gone."""
    _told_info: bytes = b""
    _told_drops: tuple[int, float] = (0, float("-inf"))

    def put(self, parcels: Sequence[Parcel], values: Sequence[Retained]) -> None:
        """Take messages about events, and retained values that changed."""
        for parcel in parcels:
            self.outbox.put(parcel)
        for value in values:
            self.changed[value.topic] = value.payload
        self.count()
        self.wake.set()

    def put_fleeting(self, topic: str, payload: bytes) -> None:
        """Take a value of QoS 0; without a connection it is gone."""
        if self.counters.connected:
            self.fleeting.append((topic, payload))
            self.wake.set()

    def begin(self) -> Sequence[Retained]:
        """Begin with a fresh connection: return every retained value but the status, in the order in which they are sent."""
        self.changed.clear()
        self.fleeting.clear()
        info = self.ledger.info()
        self._told_info = info.payload
        return [info, *self.ledger.retained()]

    def follow_info(self) -> None:
        """Say what computes once it changes (contract, section 3.1); to be called with each event and with telemetry."""
        info = self.ledger.info()
        if info.payload != self._told_info:
            self._told_info = info.payload
            self.put([], [info])

    def count(self) -> None:
        """Bring the counters up to date, and say at most once a minute that messages were lost."""
        self.counters.queue_depth = len(self.outbox)
        self.counters.dropped = self.outbox.dropped
        self.counters.merged = self.outbox.merged
        told, when_s = self._told_drops
        if self.outbox.dropped > told and self.monotonic() - when_s >= REPORT_DROPS_S:
            _log.warning("the outbox is full, whole events are lost messages=%d", self.outbox.dropped - told)
            self._told_drops = (self.outbox.dropped, self.monotonic())
