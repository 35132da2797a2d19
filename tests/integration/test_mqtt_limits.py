"""Tests of the MQTT sink against brokers with limits, other clients, wrong ports, and processes that are killed."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import aiomqtt
import pytest
from rigs import waiting
from rigs.mosquitto import PASSWORD, USER, Broker, make_certificates, need_mosquitto
from rigs.mqtt_hearer import events, hearing
from rigs.program_environment import program_environment
from rigs.published_events import MODEL, dice, make_event, story, ulid

from streamav.config import BackoffSettings, MqttSettings, TlsSettings
from streamav.publish.message import decode
from streamav.publish.mqtt import MqttIdentity, MqttSink
from streamav.types import EventPhase

pytestmark = pytest.mark.broker

FAST = BackoffSettings(min_s=0.05, max_s=0.3, refused_s=0.3)
IDENTITY = MqttIdentity(model=lambda: MODEL, sources={"porch": ["bark", "cat"]})
MANY = MqttIdentity(model=lambda: MODEL, sources={f"s{number}": [f"class_{label}" for label in range(24)] for number in range(4)})


def make_sink(broker: Broker, state_dir: Path, identity: MqttIdentity = IDENTITY, **changes: object) -> MqttSink:
    values: dict[str, object] = {"host": "127.0.0.1", "port": broker.port, "timeout_s": 2.0, "keepalive_s": 5, "backoff": FAST}
    settings = MqttSettings.model_validate(values | changes)
    return MqttSink(settings, identity, state_dir, random=dice(time.monotonic_ns()), close_limit_s=3.0)


until = partial(waiting.until, within_s=20.0, every_s=0.02)
"""Other processes answer after an unknown time."""


def hearer(port: int) -> Callable[[], aiomqtt.Client]:
    """Return what makes a client that keeps its session."""
    return partial(aiomqtt.Client, "127.0.0.1", port, identifier="hearer", clean_session=False, timeout=1)


@pytest.mark.parametrize(("limit", "told"), [("max_packet_size 1200", "fewer segments"), ("message_size_limit 1200", "fewer segments")])
async def test_long_events_are_shortened_for_a_broker_with_a_size_limit(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, limit: str, told: str
) -> None:
    """A message larger than the broker accepts is sent with fewer segments; this is said once; the next messages follow."""
    need_mosquitto()
    broker = Broker(tmp_path / "broker", options=(limit,)).start()
    sink = make_sink(broker, tmp_path / "state")
    try:
        async with hearing(hearer(broker.port), "streamav/porch/event") as heard:
            await sink.start()
            for sequence, phase in ((1, EventPhase.NEW), (2, EventPhase.UPDATE), (3, EventPhase.END)):
                sink.event(make_event(1, sequence, phase, seconds=10), 0.1)
            await until(lambda: len(events(heard)) == 3)
            await sink.close()
    finally:
        broker.stop()
    assert [message.seq for message in events(heard)] == [1, 2, 3]
    assert all(1 <= len(message.segments) < 10 for message in events(heard))
    assert (sink.counters.shortened, sink.counters.refused, sink.counters.failed) == (3, 0, 0)
    assert sum(told in record.message for record in caplog.records) == 1


async def test_messages_that_no_shortening_fits_are_set_aside(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """When even one segment is too large, the messages are counted as refused with the remedy, and the connection stays."""
    need_mosquitto()
    broker = Broker(tmp_path / "broker", options=("max_packet_size 400",)).start()
    sink = make_sink(broker, tmp_path / "state")
    try:
        await sink.start()
        for event in story(1, updates=1):
            sink.event(event, 0.1)
        await until(lambda: not sink.counters.queue_depth)
        await sink.close()
    finally:
        broker.stop()
    assert sink.counters.refused == 3
    assert sink.counters.connects == 1
    assert "raise max_packet_size" in caplog.text


async def test_a_closed_connection_without_a_reason_does_not_block_for_ever(tmp_path: Path) -> None:
    """An MQTT 3.1.1 broker only closes at a packet that is too large; the message is shortened after three times, and then passes."""
    need_mosquitto()
    broker = Broker(tmp_path / "broker", options=("max_packet_size 1200",)).start()
    sink = make_sink(broker, tmp_path / "state", protocol="3.1.1")
    try:
        async with hearing(hearer(broker.port), "streamav/porch/event") as heard:
            await sink.start()
            await until(lambda: sink.counters.connected)
            sink.event(make_event(1, seconds=10), 0.1)
            sink.event(make_event(2), 0.1)
            await until(lambda: {m.id for m in events(heard)} == {ulid(1), ulid(2)})
            await sink.close()
    finally:
        broker.stop()
    assert sink.counters.refused == 0
    assert (sink.counters.shortened, len(events(heard)[0].segments)) == (1, 1)
    assert sink.counters.connects >= 4


@pytest.mark.parametrize("homeassistant", [False, pytest.param(True, marks=pytest.mark.slow)])
async def test_a_kept_value_that_is_too_large_blocks_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture, homeassistant: bool) -> None:
    """MQTT 3.1.1: a `last_event`, or a device, at which the broker closes is sent shorter or set aside; events and states go on."""
    need_mosquitto()
    broker = Broker(tmp_path / "broker", options=("max_packet_size 1200",)).start()
    sink = make_sink(broker, tmp_path / "state", protocol="3.1.1", homeassistant=homeassistant)
    try:
        async with hearing(hearer(broker.port), "streamav/#") as heard:
            await sink.start()
            sink.event(make_event(1, seconds=12), 0.1)
            sink.event(make_event(1, 2, EventPhase.END, seconds=12), 0.1)
            await until(lambda: "streamav/porch/last_event" in dict(heard))
            sink.event(make_event(2), 0.1)
            await until(lambda: {m.id for m in events(heard)} == {ulid(1), ulid(2)})
            await until(lambda: dict(heard).get("streamav/porch/class/bark/state") == b"ON" and sink.counters.connected)
            await sink.close()
    finally:
        broker.stop()
    assert sink.counters.refused == 0
    assert len(decode(dict(heard)["streamav/porch/last_event"]).segments) < 10
    assert ("a retained value was set aside topic=homeassistant/device/streamav_porch/config" in caplog.text) == homeassistant


async def test_a_broker_that_hangs_up_at_once_is_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A broker whose packet limit is below our first packet resets each connection; the log has one line about it, not one an attempt."""
    need_mosquitto()
    broker = Broker(tmp_path / "broker", options=("max_packet_size 40",)).start()
    sink = make_sink(broker, tmp_path / "state")
    try:
        await sink.start()
        await until(lambda: sink.counters.attempts >= 4)
        await sink.close()
    finally:
        broker.stop()
    assert [record.name for record in caplog.records if record.levelno >= logging.WARNING].count("streamav.publish.patience") == 1
    assert not [record for record in caplog.records if record.name.endswith(".library") and record.levelno >= logging.WARNING]


async def test_a_denied_message_is_said_by_its_reason_code(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """With MQTT 5 an access list that denies is told by PUBACK 0x87: nothing waits for ever, and the shortfall names it."""
    need_mosquitto()
    broker = Broker(tmp_path / "broker", passwords=True, publisher_may_write=False).start()
    sink = make_sink(broker, tmp_path / "state", username=USER, password=PASSWORD)
    try:
        await sink.start()
        for event in story(1, updates=0):
            sink.event(event, 0.1)
        await until(lambda: sink.counters.refused == 3)
        await sink.close()
    finally:
        broker.stop()
    assert "access list denies it: allow this user to write there" in caplog.text  # the topic may be Home Assistant's
    assert sink.shortfall == "the broker accepted none of 3 messages"


async def test_a_broker_that_tells_no_denial_is_found_out_by_what_does_not_come_back(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """An MQTT 3.1.1 broker acknowledges what it denies: the remedy is told once, and the shortfall says that nothing is proven.

    It holds for a short run, too. Where the user may write, nothing is said. An old status is not taken for that of another service.
    """
    need_mosquitto()
    broker = Broker(tmp_path / "broker", passwords=True, persistent=True).start()
    shortfalls = []
    try:
        for allowed in (True, False):
            broker.publisher_may_write = allowed
            broker.stop()
            broker.start()
            sink = make_sink(broker, tmp_path / str(allowed), protocol="3.1.1", username=USER, password=PASSWORD)
            await sink.start()
            for event in story(1, updates=0):
                sink.event(event, 0.1)
            await sink.close()
            shortfalls.append(sink.shortfall)
    finally:
        broker.stop()
    assert shortfalls[0] is None
    assert shortfalls[1] == "the broker acknowledged 3 messages, but nothing shows that it passed one on (see its warning)"
    warnings = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(warnings) == 1, warnings
    assert "its access list must let us write streamav/# and read streamav/doctor/probe" in warnings[0]
    assert "mqtt.protocol=5" in warnings[0]


async def test_a_lasting_run_at_a_broker_that_tells_no_denial(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The warning comes while the run goes on, once over several connections, and never speaks of another client."""
    need_mosquitto()
    broker = Broker(tmp_path / "broker", passwords=True, persistent=True).start()
    try:
        first = make_sink(broker, tmp_path / "first", protocol="3.1.1", username=USER, password=PASSWORD)
        await first.start()
        await until(lambda: first.counters.proven)
        await first.close()  # leaves `offline` at the broker
        broker.stop()
        broker.publisher_may_write = False
        broker.start()
        sink = make_sink(broker, tmp_path / "second", protocol="3.1.1", username=USER, password=PASSWORD, timeout_s=0.5)
        await sink.start()
        await until(lambda: sink.counters.unproven)
        broker.kill()
        broker.start()
        await until(lambda: sink.counters.probe_failures == 2)
        await sink.close()
    finally:
        broker.stop()
    assert caplog.text.count("did not deliver the probe") == 1
    assert "another client" not in caplog.text


async def test_a_broker_with_qos_0_only(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A broker of max_qos 0 gets will and messages at QoS 0, and the cost is said once."""
    need_mosquitto()
    broker = Broker(tmp_path / "broker", options=("max_qos 0",)).start()
    sink = make_sink(broker, tmp_path / "state")
    try:
        async with hearing(hearer(broker.port), "streamav/porch/event") as heard:
            await sink.start()
            await until(lambda: sink.counters.connected)
            for event in story(1, updates=0):
                sink.event(event, 0.1)
            await until(lambda: len(events(heard)) == 2)
            await sink.close()
    finally:
        broker.stop()
    assert sum("QoS 0 only" in record.message for record in caplog.records) == 1


async def test_a_broker_without_retained_values(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A broker that keeps no values gets will and states without the retain flag, and the cost is said once."""
    need_mosquitto()
    broker = Broker(tmp_path / "broker", options=("retain_available false",)).start()
    sink = make_sink(broker, tmp_path / "state")
    try:
        async with hearing(hearer(broker.port), "streamav/#") as heard:
            await sink.start()
            sink.event(make_event(1), 0.1)
            await until(lambda: ("streamav/porch/class/bark/state", b"ON") in heard)
            await sink.close()
    finally:
        broker.stop()
    assert sum("keeps no retained values" in record.message for record in caplog.records) == 1


@pytest.mark.parametrize("protocol", ["3.1.1", "5"])
async def test_the_greeting_stays_within_the_receive_maximum(tmp_path: Path, protocol: str) -> None:
    """The states of 96 classes are sent many at a time, never more than the broker's receive maximum, and all arrive."""
    need_mosquitto()
    broker = Broker(tmp_path / "broker", options=("max_inflight_messages 5",)).start()
    sink = make_sink(broker, tmp_path / "state", MANY, protocol=protocol)
    try:
        async with hearing(hearer(broker.port), "streamav/#") as heard:
            await sink.start()
            await until(lambda: sink.counters.connected)
            await until(lambda: len([1 for topic, _ in heard if topic.endswith("/state")]) == 96)
            await sink.close()
    finally:
        broker.stop()
    assert sink.counters.connects == 1
    assert "exceeded" not in broker.log


@pytest.mark.parametrize("protocol", ["3.1.1", "5"])
async def test_a_broker_that_restarts_again_and_again_is_used_at_once(tmp_path: Path, protocol: str) -> None:
    """Five restarts within a minute, with the default pauses: each is over within 8 s, and nothing is lost or taken for a second client."""
    need_mosquitto()
    broker = Broker(tmp_path / "broker", persistent=True).start()
    sink = make_sink(broker, tmp_path / "state", protocol=protocol, backoff=BackoffSettings())
    try:
        async with hearing(hearer(broker.port), "streamav/porch/event") as heard:
            await sink.start()
            await until(lambda: sink.counters.connected)
            for number in range(1, 6):
                await asyncio.sleep(1.2)  # the broker saves its sessions once a second
                broker.kill()
                for event in story(number, updates=0):
                    sink.event(event, 0.1)
                await asyncio.sleep(0.3)
                broker.start()
                await until(lambda want=number: sink.counters.connects == want + 1 and not sink.counters.queue_depth, within_s=8.0)  # type: ignore[misc]
            await until(lambda: len({(m.id, m.seq) for m in events(heard)}) == 10)
            await sink.close()
    finally:
        broker.stop()
    assert sink.counters.dropped == 0


async def test_a_killed_process_delivers_at_its_next_start(tmp_path: Path) -> None:
    """A process killed with -9 while the broker is away leaves its messages; the next start delivers them, then the `restart` end."""
    need_mosquitto()
    broker = Broker(tmp_path / "broker")
    program = Path(__file__).with_name("publisher.py")
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(program), "127.0.0.1", str(broker.port), "5", str(tmp_path / "state")
    )
    store = "*/*/outbox.sqlite3-wal"
    await until(lambda: any(ulid(1).encode() in one.read_bytes() for one in (tmp_path / "state").glob(store)), within_s=60)
    process.kill()
    await process.wait()
    broker.start()
    try:
        sink = make_sink(broker, tmp_path / "state")
        async with hearing(hearer(broker.port), "streamav/porch/event") as heard:
            await sink.start()
            await until(lambda: len(events(heard)) == 2)
            await sink.close()
    finally:
        broker.stop()
    assert [(m.id, m.type, m.seq, m.end_reason) for m in events(heard)] == [
        (ulid(1), "new", 1, None),
        (ulid(1), "end", 2, "restart"),
    ]


@pytest.mark.parametrize("protocol", ["3.1.1", "5"])
async def test_a_second_service_with_our_base_that_ends_does_not_leave_us_offline(tmp_path: Path, protocol: str) -> None:
    """Two services with one base: when one ends, the other states again that it is online, with its sources and classes."""
    need_mosquitto()
    broker = Broker(tmp_path / "broker").start()
    try:
        stays, ends = (make_sink(broker, tmp_path / name, protocol=protocol) for name in ("a", "b"))
        await stays.start()
        await ends.start()
        await until(lambda: stays.counters.connected and ends.counters.connected)
        stays.event(make_event(1), 0.1)
        await until(lambda: not stays.counters.queue_depth)
        async with hearing(hearer(broker.port), "streamav/#") as heard:
            await ends.close()
            await until(lambda: ("streamav/status", b"offline") in heard)
            await until(lambda: heard[-1][0] != "streamav/status" and dict(heard)["streamav/status"] == b"online")
            await until(lambda: dict(heard)["streamav/porch/class/bark/state"] == b"ON")
            assert dict(heard)["streamav/porch/availability"] == b"online"
            await stays.close()
    finally:
        broker.stop()


async def test_purge_leaves_nothing(tmp_path: Path) -> None:
    """`streamav mqtt purge --json` clears all retained values below the base and no others, and prints their topics."""
    need_mosquitto()
    broker = Broker(tmp_path / "broker").start()
    try:
        async with aiomqtt.Client("127.0.0.1", broker.port) as client:
            await client.publish("homeassistant/device/other/config", b'{"o": {"name": "zigbee"}}', qos=1, retain=True)
            await client.publish("elsewhere/state", b"x", qos=1, retain=True)
        sink = make_sink(broker, tmp_path / "state", homeassistant=True)
        await sink.start()
        for event in story(1, updates=0):
            sink.event(event, 0.1)
        await sink.close()
        environment = program_environment()
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "streamav", "mqtt", "purge", f"mqtt://127.0.0.1:{broker.port}", "--json"),
            stdout=asyncio.subprocess.PIPE,
            env=environment,
        )
        async with hearing(hearer(broker.port), "#") as heard:
            out, _ = await asyncio.wait_for(process.communicate(), 40)
            await until(lambda: ("streamav/status", b"") in heard)
        assert process.returncode == 0
        order = [topic.partition("/")[0] for topic, payload in heard if not payload]
        assert order == sorted(order)  # the devices of Home Assistant first: it warns of a value that is cleared under an entity
        assert order[0] == "homeassistant"
        cleared = json.loads(out)["cleared"]
        assert {"streamav/status", "streamav/info", "streamav/porch/last_event"} <= set(cleared)
        async with hearing(hearer(broker.port), "#") as heard:
            await asyncio.sleep(0.5)
        assert {topic for topic, _ in heard} == {"homeassistant/device/other/config", "elsewhere/state"}
    finally:
        broker.stop()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # paho leaves a refused TLS socket to the collector
async def test_the_wrong_kind_of_port_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A plain client on a TLS port, and a TLS client on a plain port, get a hint to the other one."""
    need_mosquitto()
    folder = tmp_path / "pem"
    folder.mkdir()
    certificates = make_certificates(folder)
    broker = Broker(tmp_path / "broker", certificates=certificates).start()
    try:
        for number, (port, tls, hint) in enumerate(
            ((broker.tls_port, None, "use mqtts://"), (broker.port, TlsSettings(ca=certificates.ca), "use mqtt://"))
        ):
            caplog.clear()
            sink = make_sink(broker, tmp_path / str(number), host="localhost", port=port, tls=tls)
            await sink.start()
            await until(lambda sink=sink: sink.counters.attempts >= 2)  # type: ignore[misc]
            await sink.close()
            assert hint in caplog.text
            assert sink.shortfall == "the broker was never reached"
    finally:
        broker.stop()
