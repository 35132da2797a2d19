"""The MQTT sink: one task owns the connection, and what the broker has not acknowledged is kept within bounds.

It decides neither what an event is nor what its bytes are (message, ledger), and does not know the client library (client).
Order after every connect: status online, info, class and source states, updates of events that go on, then the outbox.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from contextlib import suppress
from dataclasses import dataclass
from random import SystemRandom
from typing import TYPE_CHECKING, Protocol

from streamav.backoff import Backoff
from streamav.publish.client import ConnectionFailedError, Credentials, open_client
from streamav.publish.journal import Journal, StateFolder, default_state_dir
from streamav.publish.ledger import Ledger, telemetry_payload
from streamav.publish.message import SCHEMA, ended_by_restart
from streamav.publish.outbox import Outbox
from streamav.publish.patience import Failure, Patience
from streamav.publish.topics import Topics

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path
    from random import Random

    from streamav.config import MqttSettings
    from streamav.publish.ledger import Retained
    from streamav.publish.message import MessageContext
    from streamav.publish.outbox import Parcel
    from streamav.types import Event, SourceState, Telemetry

__all__ = ["Connection", "MqttCounters", "MqttIdentity", "MqttSink"]

FAREWELL_S = 2.0
"""What `offline` may take when something has gone wrong, seconds (our choice)."""
REPORT_DROPS_S = 60.0
"""Lost messages are told at most so often, seconds (contract, section 9)."""

_log = logging.getLogger(__name__)


class Connection(Protocol):
    """What the sink needs of a connection that stands; every method raises ConnectionFailedError when it does not."""

    async def publish(self, topic: str, payload: bytes, *, qos: int, retain: bool, schema: str | None = None) -> None:
        """Publish; at QoS 1 return when it is acknowledged."""

    async def subscribe(self, topic: str) -> bool:
        """Subscribe; False when refused."""

    async def unsubscribe(self, topic: str) -> None:
        """Unsubscribe."""

    def messages(self) -> AsyncIterator[tuple[str, bytes]]:
        """Yield what arrives."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MqttIdentity:
    """Who publishes."""

    version: str
    """Version of streamav."""
    context: MessageContext
    sources: Mapping[str, Sequence[str]]
    """For each source id the labels that it may publish."""


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


class MqttSink:
    """Publishes to one broker; implements protocols.Sink. Its methods belong to the thread of the event loop."""

    def __init__(
        self,
        settings: MqttSettings,
        identity: MqttIdentity,
        state_dir: Path | None = None,
        *,
        random: Random | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        connect: Callable[[str], AbstractAsyncContextManager[Connection]] | None = None,
        close_limit_s: float = 5.0,
    ) -> None:
        """Make a sink that does nothing yet.

        Args:
            settings: broker and behaviour.
            identity: who publishes.
            state_dir: folder for journal and client id; None for the user's own.
            random: where chance comes from (pauses, client id).
            monotonic: clock that only goes on, seconds.
            connect: opens a connection under a client id; None for a real one.
            close_limit_s: what closing may take, seconds.

        Raises:
            SettingsError: when password file or certificates cannot be used.
        """
        self.counters = MqttCounters()
        self._settings = settings
        self._identity = identity
        self._monotonic = monotonic
        self._close_limit_s = close_limit_s
        self._topics = Topics(settings.base)
        self._random = random if random is not None else SystemRandom()
        self._connect = connect if connect is not None else self._real_connect(Credentials(settings))
        connection_name = f"{settings.host}_{settings.port}_{settings.base}"
        self._folder = StateFolder(state_dir if state_dir is not None else default_state_dir(), connection_name, self._random)
        self._journal = Journal(None)
        self._client_id = settings.client_id or ""
        self._ledger = Ledger(self._topics, identity.context, identity.sources, provisional=settings.provisional)
        self._outbox = Outbox(settings.outbox.messages, settings.outbox.bytes)
        self._changed: dict[str, bytes] = {}
        self._telemetry: dict[str, bytes] = {}
        self._ended: list[str] = []  # the broker has their ends; the journal does not know yet
        self._wake = asyncio.Event()
        self._closing = asyncio.Event()
        self._said_farewell = False
        self._probe_text = b""
        self._probed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._told_drops = (0, float("-inf"))
        self._told_backend = identity.context.computed_by

    # ---- what the loop calls -------------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Take up what the last run left open and begin to connect; returns at once."""
        owned = self._folder.acquire()
        self._client_id = self._settings.client_id or self._folder.client_id()
        self._journal = Journal(self._folder.journal_path if owned else None)
        left_open = self._journal.load()
        self._outbox.announce(message.id for message in left_open)
        for message in left_open:
            parcels, values = self._ledger.left_open(ended_by_restart(message))
            self._queue(parcels, values)
        self._task = asyncio.create_task(self._run(), name="mqtt")

    def event(self, event: Event, latency_s: float) -> None:
        """Queue one message about an event."""
        self._queue(*self._ledger.event(event, latency_s, self._monotonic()))
        self._follow_backend()

    def source_state(self, source: str, state: SourceState, reason: str) -> None:
        """Publish a change of a source's state; the reason stays in the log, the topic holds one word."""
        _log.debug("source state source=%s state=%s reason=%s", source, state.value, reason)
        self._queue([], self._ledger.source_state(source, state))

    def telemetry(self, source: str, telemetry: Telemetry) -> None:
        """Publish telemetry at QoS 0; without a connection it is gone."""
        self._follow_backend()
        if self.counters.connected:
            self._telemetry[self._topics.telemetry(source)] = telemetry_payload(telemetry)
            self._wake.set()

    async def close(self) -> None:
        """Send what waits, say offline, disconnect; all within the limit."""
        self._closing.set()
        self._wake.set()
        if self._task is not None:
            _, pending = await asyncio.wait([self._task], timeout=self._close_limit_s)
            for task in pending:
                task.cancel()
                await asyncio.wait([task], timeout=FAREWELL_S + 1.0)
            self._task = None
        if len(self._outbox):
            _log.warning(
                "messages were not delivered; open events will be ended as restart at the next start messages=%d", len(self._outbox)
            )
        self._folder.release()

    # ---- the one task --------------------------------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        """Connect, work until the connection is lost, wait, and again; a sink that is closed while away tries once more."""
        settings = self._settings
        backoff = Backoff(settings.backoff.min_s, settings.backoff.max_s, self._random)
        patience = Patience(f"{settings.host}:{settings.port}", self._client_id, backoff)
        while not self._said_farewell:
            last = self._closing.is_set()
            pause_s = await self._attempt(patience)
            if last:
                return
            with suppress(TimeoutError):
                await asyncio.wait_for(self._closing.wait(), pause_s)

    async def _attempt(self, patience: Patience) -> float:
        """Connect once and work; give the pause before the next attempt, seconds."""
        self.counters.attempts += 1
        began_s: float | None = None
        try:
            async with self._connect(self._client_id) as connection:
                began_s = self._monotonic()
                await self._work(connection)
                return 0.0
        except ConnectionFailedError as exc:
            failure = exc.failure
        except Exception as exc:  # noqa: BLE001 - no fault of publishing may end the run
            _log.exception("publishing failed by a fault of streamav, connecting again")
            failure = Failure(reason=f"internal fault {type(exc).__name__}")
        finally:
            self.counters.connected = False
        now_s = self._monotonic()
        return patience.failed(failure, now_s, None if began_s is None else now_s - began_s)

    async def _work(self, connection: Connection) -> None:
        """Do everything that is done while connected; whatever happens, the last word is offline."""
        try:
            async with asyncio.TaskGroup() as tasks:
                helpers = [tasks.create_task(self._read(connection))]
                await self._greet(connection)
                helpers.append(tasks.create_task(self._probe(connection)))
                await self._pump(connection)
                await self._say_farewell(connection)
                for helper in helpers:
                    helper.cancel()
        except ExceptionGroup as group:
            failures, others = group.split(ConnectionFailedError)
            if failures is None or others is not None:
                raise
            raise _most_telling(failures) from None
        finally:
            # Leaving the block disconnects cleanly, and then the broker throws the will away: so offline is said here.
            if not self._said_farewell:
                with suppress(ConnectionFailedError, TimeoutError):
                    async with asyncio.timeout(FAREWELL_S):
                        await self._retain(connection, self._topics.status, b"offline")

    async def _greet(self, connection: Connection) -> None:
        """Bring the broker up to date; the outbox comes after it."""
        await self._retain(connection, self._topics.status, b"online")
        self._changed.clear()
        self._telemetry.clear()
        self._told_backend = self._identity.context.computed_by
        await self._retain(connection, self._topics.info, self._info())
        for value in self._ledger.retained():
            await self._retain(connection, value.topic, value.payload)
        self.counters.connected = True
        self.counters.connects += 1
        _log.info("broker connected broker=%s:%d queued=%d", self._settings.host, self._settings.port, len(self._outbox))
        for parcel in self._ledger.reminders(self._monotonic(), self._outbox.event_ids):
            await self._publish_event(connection, parcel)

    async def _pump(self, connection: Connection) -> None:
        """Publish one after the other, events before the states they lead to, until the sink is closed and nothing waits."""
        while True:
            self._wake.clear()
            while (parcel := self._outbox.head) is not None:
                await self._publish_event(connection, parcel)
                self._outbox.acknowledge(parcel)
                if parcel.is_end:
                    self._ended.append(parcel.event_id)
                self._count()
            await self._publish_changes(connection)
            while self._ended:
                await asyncio.to_thread(self._journal.clear, self._ended.pop())
            if self._closing.is_set() and self._outbox.head is None and not self._changed:
                return
            await self._wake.wait()

    async def _publish_event(self, connection: Connection, parcel: Parcel) -> None:
        """Publish a message about an event, after noting in the journal that it may be out."""
        if parcel.message is not None:
            await asyncio.to_thread(self._journal.note, parcel.message)
        try:
            await connection.publish(parcel.topic, parcel.payload, qos=1, retain=False, schema=SCHEMA if parcel.message else None)
        except ConnectionFailedError:
            self.counters.failed += 1
            raise
        self.counters.published += 1

    async def _publish_changes(self, connection: Connection) -> None:
        """Publish retained values that changed, and telemetry."""
        while self._changed:
            topic = next(iter(self._changed))
            payload = self._changed.pop(topic)  # lost with the connection: the next greeting sends what is true then
            await self._retain(connection, topic, payload)
        while self._telemetry:
            topic, payload = self._telemetry.popitem()
            await connection.publish(topic, payload, qos=0, retain=False)

    async def _say_farewell(self, connection: Connection) -> None:
        """Leave the broker in the state of a service that is not there."""
        for value in self._ledger.farewell():
            await self._retain(connection, value.topic, value.payload)
        await self._retain(connection, self._topics.status, b"offline")
        self._said_farewell = True

    async def _retain(self, connection: Connection, topic: str, payload: bytes) -> None:
        await connection.publish(topic, payload, qos=1, retain=True)

    async def _read(self, connection: Connection) -> None:
        """Notice the probe, and above all the loss of the connection while there is nothing to publish."""
        async for topic, payload in connection.messages():
            if topic == self._topics.probe and payload == self._probe_text:
                self._probed.set()

    async def _probe(self, connection: Connection) -> None:
        """Find out whether what we publish arrives: a broker that denies it says nothing to the publisher."""
        self._probed.clear()
        self._probe_text = f"{self._random.getrandbits(64):016x}".encode()
        granted = await connection.subscribe(self._topics.probe)
        await connection.publish(self._topics.probe, self._probe_text, qos=1, retain=False)
        try:
            if not granted:
                raise TimeoutError  # noqa: TRY301 - a refusal and silence mean the same
            await asyncio.wait_for(self._probed.wait(), self._settings.timeout_s)
        except TimeoutError:
            self.counters.probe_failures += 1
            _log.warning(
                "the broker accepts our messages but did not give the probe back: its access list must let us write %s/# and read %s",
                self._settings.base,
                self._topics.probe,
            )
        await connection.unsubscribe(self._topics.probe)

    # ---- small things --------------------------------------------------------------------------------------------------------------------

    def _queue(self, parcels: list[Parcel], values: list[Retained]) -> None:
        for parcel in parcels:
            self._outbox.put(parcel)
        for value in values:
            self._changed[value.topic] = value.payload
        self._count()
        self._wake.set()

    def _count(self) -> None:
        """Bring the counters up to date, and say at most once a minute that messages were lost."""
        self.counters.queue_depth = len(self._outbox)
        self.counters.dropped = self._outbox.dropped
        self.counters.merged = self._outbox.merged
        told, when_s = self._told_drops
        if self._outbox.dropped > told and self._monotonic() - when_s >= REPORT_DROPS_S:
            _log.warning("the outbox is full, whole events are lost messages=%d", self._outbox.dropped - told)
            self._told_drops = (self._outbox.dropped, self._monotonic())

    def _follow_backend(self) -> None:
        """Say what computes once it changes (contract, section 3.1); asked with each event and with telemetry, every ten seconds."""
        backend = self._identity.context.computed_by
        if backend != self._told_backend:
            self._told_backend = backend
            self._changed[self._topics.info] = self._info()
            self._wake.set()

    def _info(self) -> bytes:
        context = self._identity.context
        info = {
            "version": self._identity.version,
            "model": {"name": context.model_name, "version": context.version, "sha256": context.sha256},
            "backend": context.computed_by,
            "sources": sorted(self._identity.sources),
        }
        return json.dumps(info, ensure_ascii=False, separators=(",", ":")).encode()

    def _real_connect(self, credentials: Credentials) -> Callable[[str], AbstractAsyncContextManager[Connection]]:
        return lambda client_id: open_client(self._settings, credentials, client_id, self._topics.status)


def _most_telling(group: ExceptionGroup[ConnectionFailedError]) -> ConnectionFailedError:
    """Give the failure that says most of those that came together: a reason of the broker's before a plain loss."""
    failures: list[ConnectionFailedError] = []
    for exc in group.exceptions:
        failures += [_most_telling(exc)] if isinstance(exc, ExceptionGroup) else [exc]
    return max(failures, key=lambda exc: (exc.failure.fatal, exc.failure.thrown_out))
