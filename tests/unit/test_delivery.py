"""Tests of publishing several messages at once: how many, in which order, and what happens to those that the broker does not take."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest
from rigs import waiting
from rigs.mqtt_connection import FakeBroker
from rigs.published_events import MODEL, dice, make_event, story, ulid

from streamav.config import BackoffSettings, MqttSettings
from streamav.publish.extras import PLAIN, Extras
from streamav.publish.failures import ConnectionFailedError
from streamav.publish.limits import TOO_LARGE, Limits, RefusedError
from streamav.publish.message import EventMessage, decode
from streamav.publish.mqtt import MqttIdentity, MqttSink
from streamav.publish.patience import Failure
from streamav.types import EventPhase

EVENT = "streamav/porch/event"
IDENTITY = MqttIdentity(model=lambda: MODEL, sources={"porch": ["bark", "cat"]})


def make_sink(broker: FakeBroker, state_dir: Path) -> MqttSink:
    settings = MqttSettings(host="broker", backoff=BackoffSettings(min_s=0.001, max_s=0.002), timeout_s=5.0)
    return MqttSink(settings, IDENTITY, state_dir, random=dice(1), monotonic=lambda: 0.0, connect=broker.connect, close_limit_s=2.0)


until = partial(waiting.until, within_s=30.0)


def messages(broker: FakeBroker) -> list[EventMessage]:
    return [decode(payload) for topic, payload, *_ in broker.log if topic == EVENT]


@dataclass
class SlowBroker(FakeBroker):
    """Answers messages about events in turns, so that as many as may be are on their way; notes what comes in, answered or not."""

    came: list[tuple[str, int]] = field(default_factory=list)
    under_way: int = 0
    most: int = 0
    largest: int | None = None
    """Refuse a larger payload."""
    full_at: int | None = None
    """Have no room for the message that comes as this one, once."""

    async def publish(self, topic: str, payload: bytes, *, qos: int, retain: bool, extras: Extras = PLAIN) -> None:
        if topic == EVENT:
            self.under_way += 1
            self.most = max(self.most, self.under_way)
            try:
                await self._judge(payload)
            finally:
                self.under_way -= 1
        await super().publish(topic, payload, qos=qos, retain=retain, extras=extras)

    async def _judge(self, payload: bytes) -> None:
        for _ in range(40):
            await asyncio.sleep(0)
        if self.largest is not None and len(payload) > self.largest:
            raise RefusedError(TOO_LARGE)
        message = decode(payload)
        self.came.append((message.id, message.seq))
        if len(self.came) == self.full_at:
            self.full_at = None
            self.came.pop()
            raise ConnectionFailedError(Failure(reason="no room", quota=True))


@pytest.mark.parametrize("window", [1, 5, 20])
async def test_what_waited_is_sent_many_at_once_within_the_receive_maximum(tmp_path: Path, window: int) -> None:
    """After an outage as many messages as the broker allows are on their way, never more, and they arrive in order."""
    broker = SlowBroker(limits=Limits(window=window))
    sink = make_sink(broker, tmp_path)
    waiting = [event for number in range(1, 31) for event in story(number, updates=0)]
    for event in waiting:
        sink.event(event, 0.1)
    await sink.start()
    await until(lambda: not sink.counters.queue_depth)
    await sink.close()
    assert broker.most == window
    assert [(one.id, one.seq) for one in messages(broker)] == [(event.id, event.sequence) for event in waiting]


async def test_a_message_that_must_be_shortened_is_not_overtaken(tmp_path: Path) -> None:
    """A message that the broker finds too large is sent again with fewer segments before any later message, however small, is sent."""
    broker = SlowBroker(largest=1300)
    sink = make_sink(broker, tmp_path)
    long = [make_event(1, 1), make_event(1, 2, EventPhase.UPDATE, seconds=10), make_event(1, 3, EventPhase.END, seconds=2)]
    for event in (*long, *story(2, updates=0)):
        sink.event(event, 0.1)
    await sink.start()
    await until(lambda: not sink.counters.queue_depth)
    await sink.close()
    assert [(one.id, one.seq) for one in messages(broker)] == [(ulid(1), 1), (ulid(1), 2), (ulid(1), 3), (ulid(2), 1), (ulid(2), 2)]
    assert (sink.counters.shortened, sink.counters.refused) == (1, 0)


async def test_a_broker_without_room_is_given_one_message_at_a_time(tmp_path: Path) -> None:
    """After the broker had no room for a message, what waits is sent one by one, so that no later message takes its place."""
    broker = SlowBroker(full_at=8)
    sink = make_sink(broker, tmp_path)
    waiting = [event for number in range(1, 16) for event in story(number, updates=0)]
    for event in waiting:
        sink.event(event, 0.1)
    await sink.start()
    await until(lambda: sink.counters.connects == 1 and broker.full_at is None)
    broker.most = 0
    await until(lambda: not sink.counters.queue_depth)
    await sink.close()
    assert broker.most == 1
    first = list(dict.fromkeys((one.id, one.seq) for one in messages(broker)))
    assert set(first) == {(event.id, event.sequence) for event in waiting}


@pytest.mark.parametrize("lost_again", [False, True])
async def test_ends_that_a_killed_broker_had_just_acknowledged_come_again(tmp_path: Path, lost_again: bool) -> None:
    """A broker may lose what it acknowledged last, so ends come again on the next connection, in order, and no second `new`."""
    broker = SlowBroker()
    sink = make_sink(broker, tmp_path)
    waiting = [event for number in range(1, 6) for event in story(number, updates=0)]
    await sink.start()
    for event in waiting:
        sink.event(event, 0.1)
    await until(lambda: len(messages(broker)) == len(waiting) and not sink.counters.queue_depth)
    broker.log.clear()  # what the killed broker had not passed on
    if lost_again:
        broker.full_at = len(broker.came) + 3
    broker.lose()
    await until(lambda: len({one.id for one in messages(broker)}) == len(waiting) // 2)
    await sink.close()
    first = list(dict.fromkeys((one.id, one.seq) for one in messages(broker)))
    assert first == [(event.id, event.sequence) for event in waiting if event.phase is EventPhase.END]


async def test_older_ends_do_not_come_again(tmp_path: Path) -> None:
    """An end that the broker acknowledged more than a second before its last answer stays with it."""
    now = [0.0]
    settings = MqttSettings(host="broker", backoff=BackoffSettings(min_s=0.001, max_s=0.002), timeout_s=5.0)
    broker = FakeBroker()
    sink = MqttSink(settings, IDENTITY, tmp_path, random=dice(1), monotonic=lambda: now[0], connect=broker.connect, close_limit_s=2.0)
    await sink.start()
    for number in (1, 2):
        now[0] += 2.0
        for event in story(number, updates=0):
            sink.event(event, 0.1)
        await asyncio.sleep(0)
        await until(lambda: not sink.counters.queue_depth and bool(messages(broker)) and messages(broker)[-1].type == "end")
        assert len(messages(broker)) == 2 * number
    broker.log.clear()
    broker.lose()
    await until(lambda: bool(messages(broker)))
    await sink.close()
    assert [(one.id, one.type) for one in messages(broker)] == [(ulid(2), "end")]
