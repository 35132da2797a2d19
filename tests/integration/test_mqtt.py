"""Tests of the MQTT sink against a real Mosquitto: contract, failures of broker and process, logins, TLS."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import aiomqtt
import pytest
from pydantic import SecretStr
from rigs import waiting
from rigs.mosquitto import PASSWORD, USER, Broker, make_certificates, need_mosquitto
from rigs.published_events import MODEL, SCORES, dice, make_event, story, ulid

from streamav.config import BackoffSettings, MqttSettings, TlsSettings
from streamav.errors import SettingsError
from streamav.publish.client import open_client
from streamav.publish.credentials import Credentials
from streamav.publish.failures import ConnectionFailedError
from streamav.publish.message import EventMessage, decode
from streamav.publish.mqtt import MqttIdentity, MqttSink
from streamav.types import EndReason, EventPhase, SourceState

pytestmark = pytest.mark.broker

IDENTITY = MqttIdentity(model=lambda: MODEL, sources={"porch": ["bark", "cat"]})
FAST = BackoffSettings(min_s=0.05, max_s=0.3, refused_s=0.3)
PROTOCOLS = ("3.1.1", "5")
Heard = list[tuple[str, bytes, int, bool]]


def make_settings(broker: Broker, **changes: object) -> MqttSettings:
    values: dict[str, object] = {"host": "127.0.0.1", "port": broker.port, "timeout_s": 1.0, "keepalive_s": 2, "backoff": FAST}
    return MqttSettings.model_validate(values | changes)


def make_sink(broker: Broker, state_dir: Path, **changes: object) -> MqttSink:
    return MqttSink(make_settings(broker, **changes), IDENTITY, state_dir, random=dice(time.monotonic_ns()), close_limit_s=3.0)


until = partial(waiting.until, within_s=15.0, every_s=0.02)
"""Other processes answer after an unknown time."""


@asynccontextmanager
async def listening(port: int, topic: str = "streamav/#", **options: object) -> AsyncIterator[Heard]:
    """Subscribe at QoS 1 with a separate client, and return the list of what arrives."""
    heard: Heard = []

    async def read(client: aiomqtt.Client) -> None:
        async for message in client.messages:
            heard.append((str(message.topic), bytes(message.payload), message.qos, message.retain))

    async with aiomqtt.Client("127.0.0.1", port, **options) as client:  # type: ignore[arg-type]
        await client.subscribe(topic, qos=1)
        reader = asyncio.create_task(read(client))
        yield heard
        reader.cancel()


@asynccontextmanager
async def collecting(port: int) -> AsyncIterator[Heard]:
    """Collect events with a session that survives restarts of the broker, connecting again as often as needed."""
    heard: Heard = []

    async def read_for_ever() -> None:
        while True:
            try:
                async with aiomqtt.Client("127.0.0.1", port, identifier="collector", clean_session=False, timeout=1) as client:
                    await client.subscribe("streamav/+/event", qos=1)
                    async for message in client.messages:
                        heard.append((str(message.topic), bytes(message.payload), message.qos, message.retain))
            except aiomqtt.MqttError:
                await asyncio.sleep(0.02)

    task = asyncio.create_task(read_for_ever())
    yield heard
    task.cancel()
    await asyncio.wait([task])


def events(heard: Heard) -> list[EventMessage]:
    return [decode(payload) for topic, payload, *_ in heard if topic == "streamav/porch/event"]


async def retained(port: int) -> dict[str, bytes]:
    """Return what a new subscriber receives at once, without the base."""
    async with listening(port) as heard:
        await asyncio.sleep(0.3)
    assert all(flag for *_, flag in heard)
    return {topic.removeprefix("streamav/"): payload for topic, payload, *_ in heard}


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_what_subscribers_are_told(broker: Broker, tmp_path: Path, protocol: str) -> None:
    """Topics, QoS and retain are those of the contract, and a new subscriber gets exactly the retained ones, with both protocols."""
    sink = make_sink(broker, tmp_path / "state", protocol=protocol)
    async with listening(broker.port) as heard:
        await sink.start()
        await until(lambda: sink.counters.connected)
        sink.source_state("porch", SourceState.ONLINE, "")
        for event in story(1, updates=1):
            sink.event(event, 0.4)
        await until(lambda: len(events(heard)) == 3)
        await until(lambda: any(topic == "streamav/porch/last_event" for topic, *_ in heard))
        running = await retained(broker.port)
        await sink.close()
        await until(lambda: heard[-1][:2] == ("streamav/status", b"offline"))
    assert [(m.type, m.seq) for m in events(heard)] == [("new", 1), ("update", 2), ("end", 3)]
    assert {(topic, qos, flag) for topic, _, qos, flag in heard if not topic.endswith("probe")} == {
        (topic, 1, False) for topic in {topic for topic, *_ in heard if not topic.endswith("probe")}
    }
    classes = {f"porch/class/{label}/{leaf}" for label in ("bark", "cat") for leaf in ("state", "attributes")}
    assert set(running) == {"status", "info", "porch/status", "porch/availability", "porch/last_event", "doctor/kept"} | classes
    assert (running["status"], running["porch/status"], running["porch/availability"]) == (b"online", b"online", b"online")
    assert json.loads(running["info"])["sources"] == ["porch"]
    stopped = await retained(broker.port)
    assert set(stopped) == set(running) - {"doctor/kept"}
    assert (stopped["status"], stopped["porch/availability"], stopped["porch/class/bark/state"]) == (b"offline", b"offline", b"OFF")
    assert sink.counters.probe_failures == 0
    assert "Sending PUBLISH to" in broker.log
    assert b"".join(payload for topic, payload, *_ in heard if topic == "streamav/porch/event").count(b"streamav.event/1") == 3


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_scores_for_debugging(broker: Broker, tmp_path: Path, protocol: str) -> None:
    """With `mqtt.scores` the scores of each segment arrive on `<source>/scores` at QoS 0; a later subscriber does not get them."""
    sink = make_sink(broker, tmp_path / "state", protocol=protocol, scores=True)
    async with listening(broker.port, "streamav/porch/scores") as heard:
        await sink.start()
        await until(lambda: sink.counters.connected)
        sink.scores("porch", SCORES)
        await until(lambda: len(heard) == 1)
        assert "porch/scores" not in await retained(broker.port)
        await sink.close()
    ((topic, payload, qos, flag),) = heard
    assert (topic, qos, flag) == ("streamav/porch/scores", 0, False)
    assert set(json.loads(payload)) == {
        "ts",
        "media_start_s",
        "scores",
        "background",
        "is_event_score",
        "av_similarity",
        "rms_dbfs",
        "place",
    }


async def test_both_protocols_send_the_same_bytes(broker: Broker, tmp_path: Path) -> None:
    """Content type and schema of version 5 arrive as properties; the payload is the same with both protocols."""
    payloads = {}
    for protocol in PROTOCOLS:
        sink = make_sink(broker, tmp_path / protocol, protocol=protocol, client_id=f"one-{protocol[0]}")
        async with aiomqtt.Client("127.0.0.1", broker.port, protocol=aiomqtt.ProtocolVersion.V5) as client:
            await client.subscribe("streamav/porch/event", qos=1)
            await sink.start()
            sink.event(make_event(), 0.4)
            message = await asyncio.wait_for(anext(client.messages), 10)
            payloads[protocol] = bytes(message.payload)
            if protocol == "5":
                assert message.properties is not None
                assert vars(message.properties)["ContentType"] == "application/json"
                assert vars(message.properties)["UserProperty"] == [("schema", "streamav.event/1")]
            await sink.close()
    assert payloads["5"] == payloads["3.1.1"]


async def test_a_broker_that_comes_late_gets_everything(broker: Broker, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """When the broker starts late, its absence is logged once and all events arrive in order."""
    broker.stop()
    sink = make_sink(broker, tmp_path / "state")
    await sink.start()
    for number in range(1, 6):
        for event in story(number, updates=2):
            sink.event(event, 0.4)
    await until(lambda: sink.counters.attempts >= 4)
    async with collecting(broker.port) as heard:
        broker.start()
        await until(lambda: len(events(heard)) >= 20)
        await sink.close()
    assert [(m.id, m.seq) for m in events(heard)] == [(ulid(number), seq) for number in range(1, 6) for seq in range(1, 5)]
    assert sum("broker not reached" in record.message for record in caplog.records) == 1


async def test_a_broker_killed_in_mid_stream_costs_nothing(tmp_path: Path) -> None:
    """When the broker is down in the middle of 40 messages, all arrive, each event has one new and one end, and seq rises."""
    broker = Broker(tmp_path / "broker", persistent=True).start()
    sink = make_sink(broker, tmp_path / "state")
    try:
        async with collecting(broker.port) as heard:
            await sink.start()
            await until(lambda: sink.counters.connected)
            await until(lambda: broker.connects_of("collector") == 1)
            for number in range(1, 11):
                for event in story(number, updates=2):
                    sink.event(event, 0.4)
                    await asyncio.sleep(0.02)
                if number == 4:
                    await asyncio.sleep(1.2)  # the broker saves its sessions once a second: what it has acknowledged it must keep
                    broker.kill()
                if number == 7:
                    broker.start()
            await until(lambda: {m.id for m in events(heard) if m.type == "end"} == {ulid(n) for n in range(1, 11)})
            await sink.close()
    finally:
        broker.stop()
    for number in range(1, 11):
        mine = [message for message in events(heard) if message.id == ulid(number)]
        assert [message.type for message in mine].count("new") == 1
        assert [message.seq for message in mine] == sorted(message.seq for message in mine)
        assert {message.seq for message in mine} == {1, 2, 3, 4}
    assert sink.counters.connects >= 2


async def test_a_frozen_broker_is_noticed_and_nothing_is_lost(broker: Broker, tmp_path: Path) -> None:
    """With a frozen broker (SIGSTOP) the publish times out; after SIGCONT the sink reconnects and all events arrive."""
    sink = make_sink(broker, tmp_path / "state")
    async with collecting(broker.port) as heard:
        await sink.start()
        await until(lambda: sink.counters.connected and broker.connects_of("collector") == 1)
        broker.freeze()
        for event in story(1, updates=2):
            sink.event(event, 0.4)
        await until(lambda: sink.counters.failed >= 1)
        assert sink.counters.published == 0
        await asyncio.sleep(1.5)
        broker.thaw()
        await until(lambda: any(m.type == "end" for m in events(heard)))
        await sink.close()
    assert {m.seq for m in events(heard)} == {1, 2, 3, 4}
    last = 0
    for message in events(heard):
        if message.seq > last:
            assert message.seq == last + 1
            last = message.seq


async def test_a_message_on_a_connection_that_just_ended_leaves_no_traceback(broker: Broker, caplog: pytest.LogCaptureFixture) -> None:
    """A frozen broker that is killed while a message is handed over costs one error of ours, and no line of asyncio in the user's log."""
    settings = make_settings(broker)
    async with open_client(settings, Credentials(settings), "sender", None) as client:
        broker.freeze()
        broker.kill()  # this blocks the loop: the message and the end of the connection meet in its next turn
        sending = asyncio.create_task(client.publish("streamav/status", b"online", qos=1, retain=False))
        with pytest.raises(ConnectionFailedError):
            await sending
    assert [record.getMessage() for record in caplog.records if record.name == "asyncio"] == []


async def test_closing_is_bounded_while_the_broker_is_frozen(broker: Broker, tmp_path: Path) -> None:
    """Closing ends in time even when the broker acknowledges nothing any more."""
    sink = make_sink(broker, tmp_path / "state")
    await sink.start()
    await until(lambda: sink.counters.connected)
    broker.freeze()
    sink.event(make_event(), 0.4)
    began_s = time.monotonic()
    await sink.close()
    broker.thaw()
    assert time.monotonic() - began_s < 9.0


@pytest.mark.parametrize("protocol", ["3.1.1", pytest.param("5", marks=pytest.mark.slow)])
async def test_the_will_after_kill_9(broker: Broker, tmp_path: Path, protocol: str) -> None:
    """A killed process becomes offline (with version 5 after the delay of the will), and the next start ends its event as restart."""
    program = Path(__file__).with_name("publisher.py")
    arguments = [sys.executable, str(program), "127.0.0.1", str(broker.port), protocol, str(tmp_path / "state")]
    async with listening(broker.port) as heard:
        process = await asyncio.create_subprocess_exec(*arguments)
        try:
            await until(lambda: len(events(heard)) == 1 and ("streamav/porch/class/bark/state", b"ON", 1, False) in heard, within_s=40)
        finally:
            process.kill()
            await process.wait()
        killed_s = time.monotonic()
        await until(lambda: heard[-1][:2] == ("streamav/status", b"offline"))
        assert time.monotonic() - killed_s < (9.0 if protocol == "5" else 4.0)
        assert (await retained(broker.port))["status"] == b"offline"
        sink = MqttSink(make_settings(broker), MqttIdentity(model=lambda: MODEL, sources={"porch": ["bark"]}), tmp_path / "state")
        await sink.start()
        await until(lambda: events(heard)[-1].type == "end")
        await sink.close()
    told = [(m.type, m.seq, m.end_reason) for m in events(heard)]
    assert list(dict.fromkeys(told)) == [("new", 1, None), ("end", 2, "restart")]  # a new that was acknowledged just before may come twice


async def test_no_will_after_a_clean_stop(broker: Broker, tmp_path: Path) -> None:
    """After a clean stop the service publishes offline itself, after the end as shutdown; the broker sends no will."""
    sink = make_sink(broker, tmp_path / "state")
    async with listening(broker.port) as heard:
        await sink.start()
        sink.event(make_event(1), 0.1)
        await until(lambda: len(events(heard)) == 1)
        sink.event(make_event(1, 2, EventPhase.END, reason=EndReason.SHUTDOWN), 0.1)
        await sink.close()
        await asyncio.sleep(0.5)
    assert [payload for topic, payload, *_ in heard if topic == "streamav/status"] == [b"online", b"offline"]
    assert "Sending WILL" not in broker.log


async def test_a_short_drop_out_sends_no_will(broker: Broker, tmp_path: Path) -> None:
    """With version 5 the will is delayed, so subscribers do not see offline when the service reconnects at once."""
    sink = make_sink(broker, tmp_path / "state", protocol="5", client_id="flapper")
    async with listening(broker.port, "streamav/status") as heard:
        await sink.start()
        await until(lambda: sink.counters.connected)
        async with aiomqtt.Client("127.0.0.1", broker.port, identifier="flapper", protocol=aiomqtt.ProtocolVersion.V5):
            await asyncio.sleep(0)  # takes the client id over: the broker closes our connection, and we send no DISCONNECT
        await until(lambda: sink.counters.connects >= 2 and sink.counters.connected)
        await sink.close()
    assert [payload for _, payload, *_ in heard].count(b"offline") == 1


async def test_two_services_with_one_name_are_told(broker: Broker, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Two services with one client id: after three takeovers within a minute there is an error with what to do."""
    sinks = [make_sink(broker, tmp_path / str(n), client_id="same") for n in range(2)]
    for sink in sinks:
        await sink.start()
    await until(lambda: "set another mqtt.client_id for each streamav" in caplog.text)
    for sink in sinks:
        await sink.close()


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_a_wrong_password_is_said_once_and_makes_no_storm(tmp_path: Path, caplog: pytest.LogCaptureFixture, protocol: str) -> None:
    """A wrong password is logged once, attempts follow at the longest pause, the password is not logged, and a repaired login connects."""
    caplog.set_level(logging.DEBUG)
    need_mosquitto()
    wrong = "a barking cat"
    broker = Broker(tmp_path / "broker", passwords=True).start()
    rarely = BackoffSettings(min_s=0.01, max_s=0.02, refused_s=1)
    sink = make_sink(broker, tmp_path / "state", protocol=protocol, username=USER, password=wrong, backoff=rarely)
    try:
        await sink.start()
        await asyncio.sleep(2.5)
        assert 2 <= sink.counters.attempts <= 4
        told = [record for record in caplog.records if record.levelno >= logging.WARNING]
        assert len(told) == 1
        assert "STREAMAV_MQTT_PASSWORD" in told[0].message
        broker.change_password(USER, wrong)
        await until(lambda: sink.counters.connected)
        await sink.close()
    finally:
        broker.stop()
    assert wrong not in caplog.text
    assert wrong not in repr(sink.__dict__)


async def test_a_password_from_a_file(tmp_path: Path) -> None:
    """The line end of the password file is not part of the password; a missing file is a SettingsError before the run."""
    need_mosquitto()
    broker = Broker(tmp_path / "broker", passwords=True).start()
    secret = tmp_path / "password"
    secret.write_text(PASSWORD + "\n", encoding="utf-8")
    sink = make_sink(broker, tmp_path / "state", username=USER, password_file=secret)
    try:
        await sink.start()
        await until(lambda: sink.counters.connected)
        await sink.close()
    finally:
        broker.stop()
    with pytest.raises(SettingsError, match="password_file"):
        make_sink(broker, tmp_path / "state", username=USER, password_file=tmp_path / "none")


async def test_an_access_list_that_denies_is_noticed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The broker acknowledges denied messages; only the missing probe shows the denial."""
    need_mosquitto()
    broker = Broker(tmp_path / "broker", passwords=True, publisher_may_write=False).start()
    sink = make_sink(broker, tmp_path / "state", username=USER, password=SecretStr(PASSWORD).get_secret_value())
    try:
        await sink.start()
        await until(lambda: sink.counters.probe_failures == 1)
        await sink.close()
    finally:
        broker.stop()
    assert "access list" in caplog.text
    assert "Denied PUBLISH" in broker.log


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # paho leaves a refused TLS socket to the collector
async def test_tls(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The right authority and host name connect; a wrong authority and a wrong name are refused with a reason; insecure warns."""
    need_mosquitto()
    folder = tmp_path / "pem"
    folder.mkdir()
    certificates = make_certificates(folder)
    broker = Broker(tmp_path / "broker", passwords=True, certificates=certificates).start()
    common = {"port": broker.tls_port, "username": USER, "password": PASSWORD}
    try:
        sink = make_sink(broker, tmp_path / "1", **common, host="localhost", tls=TlsSettings(ca=certificates.ca))
        await sink.start()
        await until(lambda: sink.counters.connected)
        await sink.close()
        for number, (host, ca) in enumerate((("localhost", certificates.other_ca), ("127.0.0.1", certificates.ca))):
            caplog.clear()
            refused = make_sink(broker, tmp_path / f"refused{number}", **common, host=host, tls=TlsSettings(ca=ca))
            await refused.start()
            await until(lambda sink=refused: sink.counters.attempts >= 2)  # type: ignore[misc]
            await refused.close()
            assert "certificate of the broker is not trusted" in caplog.text
            assert refused.counters.connects == 0
        caplog.clear()
        careless = make_sink(broker, tmp_path / "3", **common, host="127.0.0.1", tls=TlsSettings(ca=certificates.ca, insecure=True))
        assert "mqtt.tls.insecure" in caplog.text
        await careless.start()
        await until(lambda: careless.counters.connected)
        await careless.close()
    finally:
        broker.stop()
    with pytest.raises(SettingsError, match=r"mqtt\.tls\.ca"):
        make_sink(broker, tmp_path / "4", tls=TlsSettings(ca=tmp_path / "none"))
    gc.collect()  # here, and not in a later test that has no filter
