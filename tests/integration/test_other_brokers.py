"""Tests of the MQTT side against brokers that are not Mosquitto: what is told, kept, delivered late, announced, cleared and refused.

They run with `make test-brokers BROKERS=ejabberd,rabbitmq`, where these programs are installed (docs/mqtt.md, brokers).
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import aiomqtt
import pytest
from rigs import waiting
from rigs.mqtt_hearer import Heard, events, hearing
from rigs.other_brokers import KINDS, OtherBroker
from rigs.published_events import MODEL, dice, make_event, story, ulid

from streamav.config import BackoffSettings, DetectionSettings, MqttSettings
from streamav.control import Controls, SourcePlan
from streamav.errors import BrokerError
from streamav.publish.mqtt import MqttIdentity, MqttSink
from streamav.publish.purge import purge
from streamav.types import EventPhase, SourceState

pytestmark = [pytest.mark.broker, pytest.mark.slow, pytest.mark.timeout(400)]

IDENTITY = MqttIdentity(model=lambda: MODEL, sources={"porch": ["bark", "cat"]})
LOGIN = {"username": "guest", "password": "guest"}  # RabbitMQ's own; the others take any
until = partial(waiting.until, within_s=40.0, every_s=0.02)
READY_S = 60.0


@pytest.fixture(scope="module", params=list(KINDS))
def broker(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OtherBroker]:
    """Start one broker of each kind for all tests: two of them need long to start."""
    one = OtherBroker(request.param, tmp_path_factory.mktemp(request.param)).start()
    yield one
    one.kill()


@pytest.fixture(params=["3.1.1", "5"])
def protocol(request: pytest.FixtureRequest, broker: OtherBroker) -> str:
    if request.param not in KINDS[broker.kind].protocols:
        pytest.skip(f"{broker.kind} does not speak MQTT {request.param}")
    return str(request.param)


@pytest.fixture
def base(request: pytest.FixtureRequest) -> str:
    """Return a base of its own for each test: the broker is shared, and keeps values."""
    return f"b{abs(hash(request.node.nodeid)) % 10**8}"


def make_settings(broker: OtherBroker, base: str, **changes: object) -> MqttSettings:
    backoff = BackoffSettings(min_s=1.0, max_s=1.5)  # subscribers of the tests connect again before
    values: dict[str, object] = {"host": "127.0.0.1", "port": broker.port, "base": base, "timeout_s": 5.0, "backoff": backoff}
    return MqttSettings.model_validate(values | LOGIN | changes)


def client(broker: OtherBroker, name: str) -> aiomqtt.Client:
    return aiomqtt.Client("127.0.0.1", broker.port, identifier=name, username=LOGIN["username"], password=LOGIN["password"])


def hearer(broker: OtherBroker) -> Callable[[], aiomqtt.Client]:
    return partial(client, broker, "hearer")


def make_sink(broker: OtherBroker, base: str, state: Path, identity: MqttIdentity = IDENTITY, /, **changes: object) -> MqttSink:
    return MqttSink(make_settings(broker, base, **changes), identity, state, random=dice(time.monotonic_ns()), close_limit_s=10.0)


async def kept(broker: OtherBroker, base: str, *topics: str) -> dict[str, bytes]:
    """Return the values that the broker keeps at these topics, without the base."""
    found: dict[str, bytes] = {}
    async with client(broker, "asker") as one:
        for topic in topics:
            await one.subscribe(f"{base}/{topic}", qos=1)
        try:
            async with asyncio.timeout(3):
                async for message in one.messages:
                    found[str(message.topic).removeprefix(f"{base}/")] = bytes(message.payload)
        except TimeoutError:
            pass
    return found


STATES = ("status", "info", "porch/status", "porch/availability", "porch/class/bark/state", "porch/last_event")


async def test_what_subscribers_are_told(broker: OtherBroker, protocol: str, base: str, tmp_path: Path) -> None:
    """Events arrive once and in order; states are kept, say what holds while the run is there, and that it is gone afterwards."""
    sink = make_sink(broker, base, tmp_path, protocol=protocol)
    async with hearing(hearer(broker), f"{base}/+/event", READY_S) as heard:
        await sink.start()
        await until(lambda: sink.counters.connected)
        sink.source_state("porch", SourceState.ONLINE, "")
        for event in story(1, updates=1):
            sink.event(event, 0.4)
        await until(lambda: len(events(heard)) == 3 and sink.counters.queue_depth == 0)
        running = await kept(broker, base, *STATES)
        await sink.close()
        stopped = await kept(broker, base, *STATES)
    assert [(m.type, m.seq) for m in events(heard)] == [("new", 1), ("update", 2), ("end", 3)]
    assert set(running) == set(STATES)
    assert (running["status"], running["porch/status"], running["porch/class/bark/state"]) == (b"online", b"online", b"OFF")
    assert (stopped["status"], stopped["porch/availability"]) == (b"offline", b"offline")
    assert sink.counters.probe_failures == 0


async def test_a_broker_that_is_killed_costs_no_event(broker: OtherBroker, protocol: str, base: str, tmp_path: Path) -> None:
    """Events of the time without a broker wait, on disk too, and arrive in order when it is back, those of a run that ended too."""
    first = make_sink(broker, base, tmp_path, protocol=protocol)
    await first.start()
    await until(lambda: first.counters.connected and first.counters.queue_depth == 0)
    broker.kill()
    for event in story(1):
        first.event(event, 0.4)
    await first.close()
    second = make_sink(broker, base, tmp_path, protocol=protocol)
    await second.start()
    for event in story(2):
        second.event(event, 0.4)
    await asyncio.to_thread(broker.start)
    async with hearing(hearer(broker), f"{base}/+/event", READY_S) as heard:
        await until(lambda: len({m.id for m in events(heard) if m.type == "end"}) == 2)
        await second.close()
    told = list(dict.fromkeys((m.id, m.type) for m in events(heard)))
    assert [one for one in told if one[1] != "update"] == [(ulid(n), kind) for n in (1, 2) for kind in ("new", "end")]


async def test_the_will_of_a_killed_run(broker: OtherBroker, protocol: str, tmp_path: Path) -> None:
    """The broker says `offline` for a run that was killed."""
    program = Path(__file__).with_name("publisher.py")
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(program), "127.0.0.1", str(broker.port), protocol, str(tmp_path), *LOGIN.values()
    )
    try:
        async with hearing(hearer(broker), "streamav/status", READY_S) as heard:
            await until(lambda: bool(heard) and heard[-1][1] == b"online")
            process.kill()
            await until(lambda: heard[-1][1] == b"offline")
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
    assert (await kept(broker, "streamav", "status"))["status"] == b"offline"


async def test_commands_and_devices(broker: OtherBroker, protocol: str, base: str, tmp_path: Path) -> None:
    """A device is announced to Home Assistant, and again at its birth; a command is taken and answered."""

    def resolve(source: str, detection: DetectionSettings) -> SourcePlan:
        return SourcePlan(source=source, detection=detection, labels=(), latency_segments=2)

    controls = Controls({"porch": DetectionSettings()}, resolve)
    identity = MqttIdentity(model=lambda: MODEL, sources={"porch": ["bark"]}, controls=controls)
    prefix = f"{base}ha"
    changes: dict[str, object] = {"protocol": protocol, "commands": True, "homeassistant": True, "homeassistant_prefix": prefix}
    sink = make_sink(broker, base, tmp_path, identity, **changes)
    device = f"{prefix}/device/streamav_{base}_porch/config"
    async with hearing(hearer(broker), device, READY_S) as announced, hearing_as(broker, f"{base}/porch/answer") as answers:
        await sink.start()
        await until(lambda: len(announced) == 1)
        async with client(broker, "commander") as one:
            await one.publish(f"{base}/porch/threshold/set", b"0.7", qos=1)
            await until(lambda: bool(answers))
            await one.publish(f"{prefix}/status", b"online", qos=1)
            await until(lambda: len(announced) == 2)
        await sink.close()
    assert json.loads(answers[0][1])["accepted"] is True
    assert json.loads(announced[0][1])["o"]["name"] == "streamav"


@asynccontextmanager
async def hearing_as(broker: OtherBroker, topic: str) -> AsyncIterator[Heard]:
    """Subscribe with a second client."""
    heard: Heard = []

    async def read() -> None:
        async for message in one.messages:
            heard.append((str(message.topic), bytes(message.payload)))

    async with client(broker, "second") as one:
        await one.subscribe(topic, qos=1)
        task = asyncio.create_task(read())
        yield heard
        task.cancel()
        await asyncio.wait([task])


async def test_purge(broker: OtherBroker, protocol: str, base: str, tmp_path: Path) -> None:
    """A purge clears everything, or says that this broker does not show what it keeps; it never says that there was nothing."""
    prefix = f"{base}ha"
    changes: dict[str, object] = {"protocol": protocol, "homeassistant": True, "homeassistant_prefix": prefix}
    sink = make_sink(broker, base, tmp_path, **changes)
    await sink.start()
    await until(lambda: sink.counters.connected and sink.counters.queue_depth == 0)
    await sink.close()
    settings = make_settings(broker, base, **changes)
    if not KINDS[broker.kind].wildcards:
        with pytest.raises(BrokerError, match="wildcards"):
            await purge(settings, "purge", lambda _: None)
        return
    cleared = await purge(settings, "purge", lambda _: None)
    assert {f"{base}/status", f"{base}/porch/status", f"{prefix}/device/streamav_{base}_porch/config"} <= set(cleared)
    assert await kept(broker, base, *STATES) == {}
    assert await purge(settings, "purge", lambda _: None) == []


@pytest.mark.parametrize("protocol", KINDS["ejabberd"].protocols)
async def test_a_limit_of_the_broker(protocol: str, tmp_path: Path) -> None:
    """A broker with a small limit gets shorter messages, or refuses the long ones; those after them arrive."""
    limited = OtherBroker("ejabberd", tmp_path / "broker", payload=1200).start()
    sink = make_sink(limited, "streamav", tmp_path / "state", protocol=protocol)
    try:
        async with hearing(hearer(limited), "streamav/+/event", READY_S) as heard:
            await sink.start()
            await until(lambda: sink.counters.connected)
            sink.event(make_event(1, seconds=12), 0.4)
            sink.event(make_event(1, 2, EventPhase.END, seconds=12), 0.4)
            sink.event(make_event(2), 0.4)
            await until(lambda: ulid(2) in {m.id for m in events(heard)})
            await sink.close()
    finally:
        limited.kill()
    assert all(len(payload) <= 1200 for _, payload in heard)
