"""The MQTT sink: publishes events and states of a run, and connects to one broker again and again as long as the run lasts.

It does not decide what an event is (tracker) or what its bytes are (message, ledger). The modules pending and outbox bound what waits for
the broker. The module session decides what is sent on an open connection.
"""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import suppress
from dataclasses import dataclass, field
from random import SystemRandom
from typing import TYPE_CHECKING

from streamav.backoff import Backoff
from streamav.publish.client import open_client
from streamav.publish.commander import Commander
from streamav.publish.commands import setting_states
from streamav.publish.credentials import Credentials
from streamav.publish.failures import ConnectionFailedError
from streamav.publish.homeassistant import Devices
from streamav.publish.ledger import Ledger
from streamav.publish.message import ended_by_restart
from streamav.publish.outbox import Outbox
from streamav.publish.patience import Failure, Patience
from streamav.publish.payloads import scores_payload, telemetry_payload
from streamav.publish.pending import Pending
from streamav.publish.permit import PermittedConnection, check_permit
from streamav.publish.retained import RetainedValues
from streamav.publish.session import FAREWELL_S, Birth, Session
from streamav.publish.state_folder import StateFolder, default_state_dir
from streamav.publish.stats import Stats
from streamav.publish.topics import Topics

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path
    from random import Random

    from streamav.config import MqttSettings
    from streamav.control import Controls, SourcePlan
    from streamav.publish.connection import Connection
    from streamav.publish.message import EventMessage, ModelEntry
    from streamav.publish.pending import MqttCounters
    from streamav.publish.retained import Retained
    from streamav.types import Event, FinalScores, SourceState, Telemetry

__all__ = ["MqttIdentity", "MqttSink"]

MOST_BIRTH_PAUSE_S = 5.0
"""Longest random pause before devices are announced again, seconds (contract, section 10.3)."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class MqttIdentity:
    """The identity of the service that publishes."""

    model: Callable[[], ModelEntry]
    """Returns which model and backend compute now."""
    sources: Mapping[str, Sequence[str]]
    """Source id -> labels that the source may publish."""
    names: Mapping[str, str] = field(default_factory=dict)
    """Label -> name that people gave it, for Home Assistant."""
    controls: Controls | None = None
    """What the sources detect, and the way to change it; None where commands are not possible."""
    listed: Sequence[str] | None = None
    """Sources that `info` names; None for those above."""
    worker: str = ""
    """Name of one worker of a cluster; empty for a service of its own."""
    permit: Callable[[], bool] | None = None
    """Asked before every message and every connection: False publishes nothing (a lease that is over). None permits all."""


class MqttSink:
    """Publishes to one broker; implements protocols.Sink. Call its methods in the thread of the event loop only."""

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
        """Build a sink; it does not connect before `start`.

        Args:
            settings: broker and behaviour.
            identity: model and sources of the service.
            state_dir: folder for the journal and the client id; None for the user's own.
            random: random generator for pauses and client id; None for the one of the operating system.
            monotonic: monotonic clock, seconds.
            connect: opens a connection under a client id; None for a real one.
            close_limit_s: longest time that closing may take, seconds.

        Raises:
            SettingsError: when the password file or the certificates cannot be used.
        """
        self._settings = settings
        self._monotonic = monotonic
        self._close_limit_s = close_limit_s
        self._topics = Topics(settings.base, identity.worker)
        self._permit = identity.permit
        self._names = identity.names
        self._random = random if random is not None else SystemRandom()
        self._connect = connect if connect is not None else self._real_connect(Credentials(settings))
        connection_name = f"{settings.host}_{settings.port}_{settings.base}"
        self._folder = StateFolder(state_dir if state_dir is not None else default_state_dir(), connection_name, self._random)
        self._client_id = settings.client_id or ""
        commands = settings.commands and identity.controls is not None
        devices = self._devices(identity.sources, commands=commands) if settings.homeassistant else None
        self._birth = None if devices is None else Birth(devices.birth, devices.root, lambda: self._random.uniform(0.0, MOST_BIRTH_PAUSE_S))
        announced = None if identity.worker else devices  # a worker announces each source when it takes it over
        retained = RetainedValues(self._topics, identity.model, identity.sources, devices=announced, listed=identity.listed)
        self._ledger = Ledger(self._topics, identity.model, retained, provisional=settings.provisional)
        outbox = Outbox(settings.outbox.messages, settings.outbox.bytes)
        self._pending = Pending(f"{settings.host}:{settings.port}", self._ledger, outbox, monotonic)
        self._commander: Commander | None = None
        self._controls = identity.controls if settings.commands else None
        if self._controls is not None:
            self._commander = Commander(self._controls, self._topics, self._ledger, self._pending, monotonic)
            self._controls.listen(self._changed)
            for source in self._controls.sources:
                self._changed(self._controls.plan(source))
        self._stats = Stats(identity.sources, monotonic())
        self._task: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def counters(self) -> MqttCounters:
        """What the sink has done since it was made."""
        return self._pending.counters

    # Called by the event loop

    async def start(self) -> None:
        """Take over what the last run left, queue the `end` of its open events, and start to connect; return at once."""
        self._loop = asyncio.get_running_loop()
        owned = self._folder.acquire()
        self._client_id = self._settings.client_id or self._folder.client_id()
        pending, ledger = self._pending, self._ledger
        saved = await asyncio.to_thread(pending.load, self._folder.store_path if owned else None)
        pending.restore(saved)
        for parcel in saved.parcels:
            pending.put([], [] if parcel.message is None else ledger.waiting(parcel.message))
        for message in saved.open_events:
            pending.retire(message.id)
            pending.put(*ledger.left_open(ended_by_restart(message)))
        ledger.avoid(pending.retired, f"{self._random.getrandbits(64):016x}")
        if saved.parcels:
            _log.info("messages of the last run are delivered first messages=%d", len(saved.parcels))
        self._task = asyncio.create_task(self._run(), name="mqtt")

    def event(self, event: Event, latency_s: float) -> None:
        """Queue one message about an event."""
        self._stats.event(event)
        self._pending.put(*self._ledger.event(event, latency_s, self._monotonic()))
        self._pending.follow_info()

    def media(self, event_id: str, *, clip_url: str | None = None, snapshot_url: str | None = None) -> None:
        """Take the address of the clip or the snapshot of an event, for its next message."""
        self._pending.put(*self._ledger.media(event_id, clip_url=clip_url, snapshot_url=snapshot_url))

    def source_state(self, source: str, state: SourceState, reason: str) -> None:
        """Publish a change of a source's state; the reason is only logged, because the topic holds one word."""
        self._stats.state(source, state)
        _log.debug("source state source=%s state=%s reason=%s", source, state.value, reason)
        self._pending.put([], self._ledger.retained.source_state(source, state))

    def _changed(self, plan: SourcePlan) -> None:
        """Echo the settings of a source; announce its device again when labels were added or removed."""
        if self._controls is None or not self._ledger.retained.knows(plan.source):
            return
        labels = self._controls.labels(plan.source)
        values = self._ledger.retained.follow_settings(plan.source, setting_states(self._topics, plan, labels), labels)
        if self._pending.begun:
            self._pending.put([], [*self._announced(), *values])

    def _announced(self) -> list[Retained]:
        """Return the announcements of devices that differ from what the broker has."""
        return [one for one in self._ledger.retained.announced(self._pending.kept) if one.first or self._pending.differs(one)]

    def telemetry(self, source: str, telemetry: Telemetry) -> None:
        """Publish telemetry, and about once a minute the statistics, at QoS 0; without a connection they are discarded."""
        self._pending.follow_info()
        self._stats.take(source, telemetry)
        if self._stats.due(now_s := self._monotonic()):
            self._pending.put_fleeting(self._topics.stats, self._stats.payload(now_s, self.counters))
        self._pending.put_fleeting(self._topics.telemetry(source), telemetry_payload(telemetry))

    def snapshot(self, source: str, picture: bytes) -> None:
        """Publish a JPEG picture of an event when mqtt.snapshot asks for it; may be called from any thread."""
        if self._settings.snapshot != "off" and self._loop is not None:
            with suppress(RuntimeError):  # the loop has ended
                self._loop.call_soon_threadsafe(self._put_snapshot, source, picture)

    def _put_snapshot(self, source: str, picture: bytes) -> None:
        if self._ledger.retained.knows(source):  # a picture may be ready after its source is gone
            self._pending.put_snapshot(self._topics.snapshot(source), picture)

    def scores(self, source: str, scores: FinalScores) -> None:
        """Publish the final scores of a segment at QoS 0 when mqtt.scores is true; without a connection they are discarded."""
        if self._settings.scores:
            self._pending.put_fleeting(self._topics.scores(source), scores_payload(scores))

    def take_over(self, source: str, labels: Sequence[str], epoch: int, left_open: Sequence[EventMessage] = ()) -> None:
        """Publish for a source from now on, and end the events that its last worker left open."""
        devices = self._devices({source: labels}) if self._settings.homeassistant else None
        self._pending.put([], self._ledger.retained.add(source, labels, epoch, devices))
        for message in left_open:
            self._pending.retire(message.id)
            self._pending.put(*self._ledger.left_open(ended_by_restart(message)))
        self._ledger.avoid(self._pending.retired, f"{self._random.getrandbits(64):016x}")

    def release(self, source: str) -> None:
        """Publish nothing more for a source, except for the messages about its events that already wait."""
        self._ledger.release(source)

    def add_source(self, source: str, labels: Sequence[str]) -> None:
        """Publish for a new source of this service, or for one that starts again, from now on."""
        self._stats.begin(source)
        values = self._ledger.retained.begin(source, labels)
        if self._controls is not None:
            plan = self._controls.plan(source)
            values += self._ledger.retained.follow_settings(
                source, setting_states(self._topics, plan, self._controls.labels(source)), labels
            )
        self._pending.put([], [*self._announced(), *values])
        self._pending.follow_info()

    def drop_source(self, source: str) -> None:
        """Publish nothing more for a source that is gone for good, and clear its topics and its device; its last messages still go out."""
        self._stats.forget(source)
        self._pending.clear(self._ledger.forget(source))
        self._pending.follow_info()

    def waits_for(self, source: str) -> bool:
        """Return whether a message about an event of *source* still waits for the broker."""
        return any(parcel.message is not None and parcel.message.source == source for parcel in self._pending.outbox)

    def _devices(self, sources: Mapping[str, Sequence[str]], *, commands: bool = False) -> Devices:
        snapshot = self._settings.snapshot != "off"
        topics, prefix = Topics(self._settings.base), self._settings.homeassistant_prefix
        return Devices(topics, prefix, sources, names=self._names, commands=commands, snapshot=snapshot)

    async def close(self) -> None:
        """Send what waits, publish offline and disconnect, all within the limit."""
        self._pending.closing.set()
        self._pending.wake.set()
        if self._task is not None:
            _, running = await asyncio.wait([self._task], timeout=self._close_limit_s)
            for task in running:
                task.cancel()
                await asyncio.wait([task], timeout=FAREWELL_S + 1.0)
            self._task = None
        await self._pending.store.settle()
        self._say_what_is_left()
        await self._pending.store.close()
        self._folder.release()

    @property
    def shortfall(self) -> str | None:
        """What was not delivered, as a sentence; None when everything was."""
        counters = self.counters
        if len(self._pending.outbox):
            return f"{len(self._pending.outbox)} messages were not delivered"
        if not counters.connects:
            return "the broker was never reached"
        if counters.refused and not counters.published:
            return f"the broker accepted none of {counters.refused} messages"
        if counters.unproven and not counters.proven and counters.published:
            return f"the broker acknowledged {counters.published} messages, but nothing shows that it passed one on (see its warning)"
        return None

    def _say_what_is_left(self) -> None:
        left = len(self._pending.outbox)
        if left and self._permit is not None:  # its next life must not deliver them
            _log.warning("messages were not delivered and are dropped, a worker of a cluster keeps none messages=%d", left)
        elif left and self._pending.store.keeps:
            _log.warning("messages were not delivered, they stay for the next start messages=%d", left)
        elif left:
            _log.warning("messages were not delivered and are lost, because nothing could be stored messages=%d", left)
        if self.counters.refused:
            _log.warning("the broker refused messages messages=%d delivered=%d", self.counters.refused, self.counters.published)

    # The background task

    async def _run(self) -> None:
        """Connect, work until the connection is lost, wait, and repeat; a sink closed without a connection tries once more."""
        pauses, closing = self._settings.backoff, self._pending.closing
        patience = Patience(self._pending.broker, self._client_id, Backoff(pauses.min_s, pauses.max_s, self._random), pauses.refused_s)
        while not self._pending.said_farewell:
            last = closing.is_set()
            pause_s = await self._attempt(patience)
            if last:
                return
            with suppress(TimeoutError):
                await asyncio.wait_for(closing.wait(), pause_s)

    async def _attempt(self, patience: Patience) -> float:
        """Connect once and work; return the pause before the next attempt, seconds."""
        self.counters.attempts += 1
        began_s: float | None = None
        try:
            check_permit(self._permit)
            async with self._connect(self._client_id) as connection:
                began_s, keep = self._monotonic(), self._settings.snapshot == "retain"
                permitted = connection if self._permit is None else PermittedConnection(connection, self._permit)
                session = Session(
                    permitted, self._pending, self._topics, self._settings.timeout_s, self._birth, self._commander, keep_snapshots=keep
                )
                await session.run(f"{self._random.getrandbits(64):016x}".encode())
                return 0.0
        except ConnectionFailedError as exc:
            failure = exc.failure
            if failure.closed and began_s is not None:
                self._pending.note_closed(too_large=failure.too_large)
        except Exception as exc:  # noqa: BLE001 - no error in publishing may end the run
            _log.exception("publishing failed because of an error in streamav, connecting again")
            failure = Failure(reason=f"internal error {type(exc).__name__}")
        finally:
            self.counters.connected = self._pending.begun = False
            self._pending.outbox.lost()
            self._pending.on_way.clear()
        now_s = self._monotonic()
        return patience.failed(failure, now_s, None if began_s is None else now_s - began_s)

    def _real_connect(self, credentials: Credentials) -> Callable[[str], AbstractAsyncContextManager[Connection]]:
        return lambda client_id: open_client(self._settings, credentials, client_id, self._topics.status)
