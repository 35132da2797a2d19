"""Publishes on one open connection, in a fixed order, until the sink is closed or the connection is lost.

Order: status online, info, class and source states, updates of open events, then the outbox; status offline is the last message.
It does not connect, does not try again, and does not use the client library.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

from streamav.publish.client import ConnectionFailedError
from streamav.publish.message import SCHEMA

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from streamav.publish.journal import Journal
    from streamav.publish.outbox import Parcel
    from streamav.publish.pending import Pending
    from streamav.publish.topics import Topics

__all__ = ["FAREWELL_S", "Connection", "Session"]

FAREWELL_S = 2.0
"""Longest time for publishing `offline` after an error, seconds (our choice)."""

_log = logging.getLogger(__name__)


class Connection(Protocol):
    """What a session needs of an open connection; every method raises ConnectionFailedError when the connection is lost."""

    async def publish(self, topic: str, payload: bytes, *, qos: int, retain: bool, schema: str | None = None) -> None:
        """Publish a message; at QoS 1 return after the broker has acknowledged it."""

    async def subscribe(self, topic: str) -> bool:
        """Subscribe to a topic; return False when the broker refuses."""

    async def unsubscribe(self, topic: str) -> None:
        """Unsubscribe from a topic."""

    def messages(self) -> AsyncIterator[tuple[str, bytes]]:
        """Yield topic and payload of each message that arrives."""


class Session:
    """Publishes everything that is pending on one connection."""

    def __init__(self, connection: Connection, pending: Pending, journal: Journal, topics: Topics, probe_limit_s: float) -> None:
        """Store the connection and what is to be published on it.

        Args:
            connection: an open connection.
            pending: what waits to be published; the session empties it.
            journal: gets each message before it is published, and each event that has ended.
            topics: topics of the service.
            probe_limit_s: longest time until the broker delivers our own probe, seconds.
        """
        self._connection = connection
        self._pending = pending
        self._journal = journal
        self._topics = topics
        self._probe_limit_s = probe_limit_s
        self._probed = asyncio.Event()

    async def run(self, probe_text: bytes) -> None:
        """Publish until the sink is closed; publish `offline` at the end, also after an error.

        Args:
            probe_text: payload of the probe, different in each session.

        Raises:
            ConnectionFailedError: when the connection is lost.
        """
        try:
            async with asyncio.TaskGroup() as tasks:
                beside = [tasks.create_task(self._read(probe_text))]
                await self._greet()
                beside.append(tasks.create_task(self._probe(probe_text)))
                await self._pump()
                await self._say_farewell()
                for task in beside:
                    task.cancel()
        except ExceptionGroup as group:
            failures, others = group.split(ConnectionFailedError)
            if failures is None or others is not None:
                raise
            raise _most_telling(failures) from None
        finally:
            # Leaving the connection disconnects cleanly, and the broker then discards the will, so `offline` is published here.
            if not self._pending.said_farewell:
                with suppress(ConnectionFailedError, TimeoutError):
                    async with asyncio.timeout(FAREWELL_S):
                        await self._retain(self._topics.status, b"offline")

    async def _greet(self) -> None:
        """Publish all retained values and the updates of open events; the outbox follows after it."""
        counters = self._pending.counters
        await self._retain(self._topics.status, b"online")
        for value in self._pending.begin():
            await self._retain(value.topic, value.payload)
        counters.connected = True
        counters.connects += 1
        _log.info("broker connected broker=%s queued=%d", self._pending.broker, len(self._pending.outbox))
        for parcel in self._pending.ledger.reminders(self._pending.monotonic(), self._pending.outbox.event_ids):
            await self._publish_event(parcel)

    async def _pump(self) -> None:
        """Publish one message after the other until the sink is closed and nothing waits; events go before the states they change."""
        pending = self._pending
        while True:
            pending.wake.clear()
            await self._empty_outbox()
            await self._publish_changes()
            while pending.ended:
                await asyncio.to_thread(self._journal.clear, pending.ended.pop())
            if pending.closing.is_set() and pending.outbox.head is None and not pending.changed:
                return
            await pending.wake.wait()

    async def _empty_outbox(self) -> None:
        pending = self._pending
        while (parcel := pending.outbox.head) is not None:
            await self._publish_event(parcel)
            pending.outbox.acknowledge(parcel)
            if parcel.is_end:
                pending.ended.append(parcel.event_id)
            pending.count()

    async def _publish_event(self, parcel: Parcel) -> None:
        """Publish a message about an event, after writing it to the journal."""
        if parcel.message is not None:
            await asyncio.to_thread(self._journal.note, parcel.message)
        try:
            schema = SCHEMA if parcel.message else None
            await self._connection.publish(parcel.topic, parcel.payload, qos=1, retain=False, schema=schema)
        except ConnectionFailedError:
            self._pending.counters.failed += 1
            raise
        self._pending.counters.published += 1

    async def _publish_changes(self) -> None:
        """Publish retained values that changed, and the values of QoS 0."""
        changed, fleeting = self._pending.changed, self._pending.fleeting
        while changed:
            topic = next(iter(changed))
            payload = changed.pop(topic)
            await self._retain(topic, payload)
        while fleeting:
            topic, payload = fleeting.popleft()
            await self._connection.publish(topic, payload, qos=0, retain=False)

    async def _say_farewell(self) -> None:
        """Publish the retained values of a service that has ended: classes off, sources unavailable, status offline."""
        for value in self._pending.ledger.farewell():
            await self._retain(value.topic, value.payload)
        await self._retain(self._topics.status, b"offline")
        self._pending.said_farewell = True

    async def _retain(self, topic: str, payload: bytes) -> None:
        await self._connection.publish(topic, payload, qos=1, retain=True)

    async def _read(self, probe_text: bytes) -> None:
        """Read incoming messages to see the probe, and to notice the loss of the connection while there is nothing to publish."""
        async for topic, payload in self._connection.messages():
            if topic == self._topics.probe and payload == probe_text:
                self._probed.set()

    async def _probe(self, text: bytes) -> None:
        """Check that the broker delivers what we publish; a broker that denies a message does not report it to the publisher."""
        granted = await self._connection.subscribe(self._topics.probe)
        await self._connection.publish(self._topics.probe, text, qos=1, retain=False)
        try:
            if not granted:
                raise TimeoutError  # noqa: TRY301 - a refusal means the same as no answer
            await asyncio.wait_for(self._probed.wait(), self._probe_limit_s)
        except TimeoutError:
            self._pending.counters.probe_failures += 1
            _log.warning(
                "the broker accepts our messages but did not deliver the probe: its access list must let us write %s/# and read %s",
                self._topics.base,
                self._topics.probe,
            )
        await self._connection.unsubscribe(self._topics.probe)


def _most_telling(group: ExceptionGroup[ConnectionFailedError]) -> ConnectionFailedError:
    """Return the most informative failure of a group: a fatal one first, then one where the broker closed the connection."""
    failures: list[ConnectionFailedError] = []
    for exc in group.exceptions:
        failures += [_most_telling(exc)] if isinstance(exc, ExceptionGroup) else [exc]
    return max(failures, key=lambda exc: (exc.failure.fatal, exc.failure.thrown_out))
