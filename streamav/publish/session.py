"""Publishes on one open connection, in a fixed order, until the sink is closed or the connection is lost.

Order: subscriptions to commands, status online, info, class and source states, updates of open events, then the outbox; status offline is
the last message.
It does not connect, does not try again, and does not use the client library.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from streamav.publish.delivery import Delivery, within
from streamav.publish.extras import Extras
from streamav.publish.failures import ConnectionFailedError
from streamav.publish.limits import RefusedError
from streamav.publish.proof import Proof
from streamav.publish.retained import Retained

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from streamav.publish.commander import Commander
    from streamav.publish.connection import Connection
    from streamav.publish.pending import Pending
    from streamav.publish.topics import Topics

__all__ = ["FAREWELL_S", "Birth", "Session"]

FAREWELL_S = 2.0
"""Longest time for publishing `offline` after an error, seconds (our choice)."""

WORD_WAIT_S = 0.5
"""How long the broker may take to send a retained value after a subscription, seconds (our choice); later means that it has none."""
ANSWERS_AT_ONCE = 5
"""Most answers that are sent before the next look for events (our choice), so that a flood of commands does not delay events."""
STATES_AFTER_S = 1.0
"""Home Assistant needs this long to subscribe to the states of a device, or to leave those of a removed one, s (contract, section 10.3)."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Birth:
    """Message with which Home Assistant reports its start."""

    topic: str
    devices: str
    """What the topics begin with at which our devices are announced."""
    pause_s: Callable[[], float]
    """Returns how long to wait before the answer, so that not all publishers of a house answer at once, seconds."""


class Session:
    """Publishes everything that is pending on one connection."""

    def __init__(
        self,
        connection: Connection,
        pending: Pending,
        topics: Topics,
        probe_limit_s: float,
        birth: Birth | None = None,
        commander: Commander | None = None,
        *,
        keep_snapshots: bool = False,
    ) -> None:
        """Store the connection and what is to be published on it.

        Args:
            connection: an open connection.
            pending: what waits to be published; the session empties it.
            topics: topics of the service.
            probe_limit_s: longest time until the broker delivers our own probe, seconds.
            birth: how Home Assistant says that it has started; None to ignore it.
            commander: takes commands; None for none.
            keep_snapshots: whether the broker keeps the last picture of each source.
        """
        self._connection = connection
        self._pending = pending
        self._delivery = Delivery(connection, pending)
        self._topics = topics
        self._proof = Proof(connection, pending, topics, probe_limit_s)
        self._birth = birth
        self._commander = commander
        self._keep_snapshots = keep_snapshots
        self._kept = asyncio.Event()
        self._kept_word = b""
        self._born = asyncio.Event()

    async def run(self, probe_text: bytes) -> None:
        """Publish until the sink is closed; publish `offline` at the end, also after an error.

        Args:
            probe_text: payload of the probe, different in each session.

        Raises:
            ConnectionFailedError: when the connection is lost.
        """
        try:
            async with asyncio.TaskGroup() as tasks:
                beside = [tasks.create_task(self._read())]
                await self._subscribe()
                await self._greet(probe_text)
                beside += [tasks.create_task(self._listen(probe_text)), tasks.create_task(self._welcome())]
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
                with suppress(ConnectionFailedError, RefusedError, TimeoutError):
                    async with asyncio.timeout(FAREWELL_S):
                        await self._connection.publish(self._topics.status, b"offline", qos=1, retain=True)

    async def _subscribe(self) -> None:
        """Subscribe to commands and to the birth message before we are online, because a client that sees us online may send a command."""
        async with asyncio.TaskGroup() as tasks:
            if self._birth is not None:
                tasks.create_task(self._connection.subscribe(self._birth.topic))
            for one in [] if self._commander is None else self._commander.filters:
                tasks.create_task(self._subscribe_to_commands(one))

    async def _subscribe_to_commands(self, topics: str) -> None:
        if not await self._connection.subscribe(topics):
            self._pending.tell_once(f"the broker refuses commands: its access list must let us read {topics}")

    async def _greet(self, word: bytes) -> None:
        """Publish the retained values that the broker does not have, and the updates of open events; the outbox follows after it."""
        counters, pending = self._pending.counters, self._pending
        for note in self._connection.limits.notes():
            pending.tell_once(note)
        remembered = await self._remembered()
        await self._retain([Retained(self._topics.status, b"online")])
        values = pending.begin(remembered=remembered)
        counters.greeted = len(values)
        await self._retain(values)
        await self._leave_word(word)
        pending.one_by_one = False
        counters.connected = True
        counters.connects += 1
        _log.info("broker connected broker=%s queued=%d", pending.broker, len(pending.outbox))
        await self._delivery.repeat(pending.unsure())
        await self._delivery.remind(list(pending.ledger.reminders(pending.monotonic(), pending.outbox.event_ids)))

    async def _remembered(self) -> bool:
        """Return whether the broker still has the last word of this run, and so all values that were settled with it."""
        word = self._pending.word
        if not word or not await self._connection.subscribe_kept(self._topics.kept):
            return False
        with suppress(TimeoutError):
            await asyncio.wait_for(self._kept.wait(), WORD_WAIT_S)
        await self._connection.unsubscribe(self._topics.kept)
        return self._kept_word == word

    async def _leave_word(self, word: bytes) -> None:
        """Let the broker keep a word after the values of the greeting; where it comes back, the broker has these values too."""
        limits = self._connection.limits
        if not limits.retain or limits.max_qos < 1:
            return
        with suppress(RefusedError):
            await self._connection.publish(self._topics.kept, word, qos=1, retain=True)
            self._pending.settle(word)

    async def _pump(self) -> None:
        """Publish until the sink is closed and nothing waits; events go before the states they change."""
        pending = self._pending
        while True:
            pending.wake.clear()
            await self._delivery.empty_outbox()
            await self._publish_changes()
            if pending.closing.is_set() and pending.outbox.head is None and not pending.changed:
                return
            if not pending.answers:
                await pending.wake.wait()

    async def _publish_changes(self) -> None:
        """Publish retained values that changed, answers to commands, and the values of QoS 0."""
        changed, answers, fleeting = self._pending.changed, self._pending.answers, self._pending.fleeting
        if changed:  # once: an event may come meanwhile, and goes before its states
            values = list(changed.values())
            changed.clear()
            await self._retain(values)
        for _ in range(min(len(answers), ANSWERS_AT_ONCE)):
            answer = answers.popleft()
            with suppress(RefusedError):
                await self._connection.publish(
                    answer.topic, answer.payload, qos=1, retain=False, extras=Extras(correlation=answer.correlation)
                )
        for topic in list(self._pending.snapshots):
            picture = self._pending.snapshots.pop(topic, None)
            if picture is None:
                continue
            try:
                await self._connection.publish(topic, picture, qos=0, retain=self._keep_snapshots)
            except RefusedError as exc:
                self._pending.tell_once(
                    f"a snapshot was refused topic={topic} bytes={len(picture)}: {exc.reason}", f"snapshot {exc.reason}"
                )
        for _ in range(len(fleeting)):
            topic, payload = fleeting.popleft()
            with suppress(RefusedError):
                await self._connection.publish(topic, payload, qos=0, retain=False)

    async def _say_farewell(self) -> None:
        """Publish the retained values of a service that has ended: classes off, sources unavailable, status offline."""
        await self._proof.conclude()
        await self._retain(self._pending.ledger.farewell())
        if self._pending.word:
            await self._retain([Retained(self._topics.kept, b"")])
        await self._retain([Retained(self._topics.status, b"offline")])
        self._pending.said_farewell = True

    async def _retain(self, values: Sequence[Retained]) -> None:
        """Publish retained values in their order, as many at once as the broker allows, and wait until all are acknowledged.

        Home Assistant complains of each value that is cleared while an entity still shows it, so it gets time to remove its entities first.
        """
        window = asyncio.Semaphore(1 if self._pending.one_by_one else self._connection.limits.window)
        removed = False
        async with asyncio.TaskGroup() as tasks:
            for value in values:
                if removed and not value.payload and not self._removes(value):
                    await asyncio.sleep(STATES_AFTER_S)
                    removed = False
                removed = removed or self._removes(value)
                await window.acquire()
                task = tasks.create_task(self._retain_one(value))  # sent when the task begins, so the order stays
                task.add_done_callback(lambda _: window.release())

    def _removes(self, value: Retained) -> bool:
        """Return whether a value removes a device of Home Assistant, or entities of it."""
        return self._birth is not None and value.topic.startswith(self._birth.devices) and (value.first or not value.payload)

    async def _retain_one(self, value: Retained) -> None:
        pending = self._pending
        payload = within(self._connection.limits, pending, value.topic, value.payload)
        if pending.barred(value.topic, payload):
            return
        pending.on_way[value.topic] = payload
        try:
            await self._connection.publish(value.topic, payload, qos=1, retain=True, extras=Extras(epoch=value.epoch))
        except RefusedError as exc:
            pending.tell_once(f"a retained value was refused topic={value.topic}: {exc.reason}", f"retained {exc.reason}")
        else:
            pending.note_retained(value)
        pending.on_way.pop(value.topic, None)

    async def _read(self) -> None:
        """Read incoming messages, and notice the loss of the connection while there is nothing to publish."""
        async for message in self._connection.messages():
            if self._proof.take(message.topic, message.payload):
                continue
            if self._commander is not None and self._commander.take(message, self._restate):
                continue
            if message.topic == self._topics.kept and message.retained:
                self._kept_word = message.payload
                self._kept.set()
            elif message.topic == self._topics.status and message.payload != b"online" and not self._pending.closing.is_set():
                if not message.retained:  # a kept one is older than ours, which the broker has not taken, or not yet
                    self._pending.tell_once(
                        "another client published that this service is offline, the states are sent again; "
                        "set another mqtt.base for each streamav"
                    )
                self._restate()
            elif self._birth is not None and (message.topic, message.payload, message.retained) == (self._birth.topic, b"online", False):
                self._born.set()

    async def _welcome(self) -> None:
        """Announce our devices again each time Home Assistant has started, then their states; two starts in a row are one round."""
        while self._birth is not None:
            await self._born.wait()
            await asyncio.sleep(self._birth.pause_s())
            self._born.clear()
            self._pending.put([], self._pending.ledger.retained.announced())
            await asyncio.sleep(STATES_AFTER_S)
            self._pending.put([], self._pending.ledger.retained.values())

    def _restate(self) -> None:
        """Send all retained values again: a command asks for it, or another client has published that the service is offline."""
        pending = self._pending
        pending.counters.restated += 1
        values = [
            Retained(self._topics.status, b"online"),
            pending.ledger.retained.info(),
            *pending.ledger.retained.announced(),
            *pending.ledger.retained.values(),
        ]
        pending.put([], values)

    async def _listen(self, probe_text: bytes) -> None:
        """Send the probe, then subscribe to our status, to notice when another client changes it."""
        await self._proof.ask(probe_text)
        await self._connection.subscribe(self._topics.status)


def _most_telling(group: ExceptionGroup[ConnectionFailedError]) -> ConnectionFailedError:
    """Return the most informative failure of a group: a fatal one first, then one where the broker closed the connection."""
    failures: list[ConnectionFailedError] = []
    for exc in group.exceptions:
        failures += [_most_telling(exc)] if isinstance(exc, ExceptionGroup) else [exc]
    return max(failures, key=lambda exc: (exc.failure.fatal, exc.failure.taken_over, exc.failure.closed))
