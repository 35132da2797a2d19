"""Tests of brokers as they are found: busy, full of what others left, with narrow rights, with changing limits."""

from __future__ import annotations

import asyncio
import gc
import subprocess
from contextlib import suppress
from functools import partial
from pathlib import Path

import aiomqtt
import pytest
from rigs import waiting
from rigs.mosquitto import PASSWORD, READER, READER_PASSWORD, USER, Broker, Certificates, make_certificates, need_mosquitto
from rigs.published_events import MODEL, dice, make_event, story

from streamav.config import BackoffSettings, DetectionSettings, MqttSettings, TlsSettings
from streamav.control import Controls, SourcePlan
from streamav.errors import BrokerError
from streamav.publish.client import open_client
from streamav.publish.credentials import Credentials
from streamav.publish.failures import ConnectionFailedError
from streamav.publish.limits import RefusedError
from streamav.publish.message import decode, describe
from streamav.publish.mqtt import MqttIdentity, MqttSink
from streamav.publish.purge import purge
from streamav.types import EventPhase

pytestmark = pytest.mark.broker


@pytest.fixture(autouse=True)
def _shorter_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a purge end sooner: this broker is on this machine."""
    monkeypatch.setattr("streamav.publish.purge.QUIET_S", 0.3)


until = partial(waiting.until, within_s=15.0, every_s=0.02)


def settings_for(broker: Broker, **changes: object) -> MqttSettings:
    values: dict[str, object] = {
        "host": "127.0.0.1",
        "port": broker.port,
        "timeout_s": 2.0,
        "backoff": BackoffSettings(min_s=0.05, max_s=0.3),
    }
    return MqttSettings.model_validate(values | changes)


async def leave(broker: Broker, count: int, base: str = "streamav") -> None:
    """Let the broker keep many values below the base, as ids of sources that were renamed again and again."""
    async with aiomqtt.Client("127.0.0.1", broker.port, username=USER, password=PASSWORD) as client:
        for number in range(count):
            await client.publish(f"{base}/s{number}/status", b"lost", qos=0, retain=True)
        await client.publish(f"{base}/last/status", b"lost", qos=1, retain=True)


async def test_purge_clears_more_than_it_can_hold_on_a_busy_broker(tmp_path: Path) -> None:
    """Thousands of kept values are all cleared, while others publish below the base without a pause."""
    need_mosquitto()
    broker = Broker(tmp_path / "broker", logs="error", options=("max_queued_messages 0",)).start()
    try:
        await leave(broker, 1500)

        async def chatter() -> None:
            async with aiomqtt.Client("127.0.0.1", broker.port) as client:
                while not ended.is_set():
                    await client.publish("streamav/porch/scores", b"{}", qos=0)
                    await asyncio.sleep(0.05)

        ended = asyncio.Event()
        noise = asyncio.create_task(chatter())
        async with asyncio.timeout(40):
            cleared = await purge(settings_for(broker), "purge", lambda _: None)
            assert len(cleared) == 1501
            assert await purge(settings_for(broker), "purge", lambda _: None) == []
        ended.set()
        await noise
    finally:
        broker.stop()


@pytest.mark.parametrize("protocol", ["3.1.1", "5"])
async def test_purge_says_what_the_broker_does_not_let_it_do(tmp_path: Path, protocol: str) -> None:
    """A user who must not read below the base, or not write there, gets an error, never "0 retained values cleared"."""
    need_mosquitto()
    broker = Broker(tmp_path / "broker", passwords=True).start()
    try:
        await leave(broker, 3)
        reader = settings_for(broker, protocol=protocol, username=READER, password=READER_PASSWORD, timeout_s=1.0)
        with pytest.raises((BrokerError, RefusedError), match="access list"):
            await purge(reader, "purge", lambda _: None)
        rights = "topic write streamav/#", "topic read streamav/doctor/+", "topic read streamav/status"  # enough for a run
        (broker.folder / "acl").write_text("\n".join([f"user {USER}", *rights, ""]), encoding="ascii")
        broker.reload()
        await until(lambda: "Reloading config" in broker.log)
        with pytest.raises(BrokerError, match="does not let this user read streamav/#"):
            await purge(settings_for(broker, protocol=protocol, username=USER, password=PASSWORD, timeout_s=1.0), "purge", lambda _: None)
    finally:
        broker.stop()


async def test_a_flood_of_commands_does_not_hold_up_events(tmp_path: Path) -> None:
    """While another client floods the topics of commands without an end, events are published all the same."""
    need_mosquitto()
    broker = Broker(tmp_path / "broker", logs="error").start()

    def resolve(source: str, detection: DetectionSettings) -> SourcePlan:
        return SourcePlan(source=source, detection=detection, labels=(), latency_segments=2)

    controls = Controls({"porch": DetectionSettings()}, resolve)
    identity = MqttIdentity(model=lambda: MODEL, sources={"porch": ["bark"]}, controls=controls)
    sink = MqttSink(settings_for(broker, commands=True), identity, tmp_path / "state", random=dice(1), close_limit_s=3.0)

    async def flood() -> None:
        async with aiomqtt.Client("127.0.0.1", broker.port) as client:
            while not ended.is_set():  # a cancellation may get lost in the client
                for _ in range(20):
                    await client.publish("streamav/porch/threshold/set", b"no number", qos=0)
                await asyncio.sleep(0.02)

    ended = asyncio.Event()
    flooding = asyncio.create_task(flood())
    try:
        await sink.start()
        await until(lambda: sink.counters.connected)
        await asyncio.sleep(0.5)
        for number in range(1, 4):
            for one in story(number, updates=0):
                sink.event(one, 0.1)
            await until(lambda: sink.counters.queue_depth == 0)
        assert not flooding.done()
    finally:
        ended.set()
        await flooding
        await sink.close()
        broker.stop()


@pytest.mark.parametrize("protocol", ["3.1.1", "5"])
async def test_rubbish_that_the_broker_kept_on_our_topics_does_no_harm(tmp_path: Path, protocol: str) -> None:
    """Whatever others left retained on our topics, the run connects, publishes, and replaces it; commands among it are not executed."""
    need_mosquitto()
    broker = Broker(tmp_path / "broker").start()
    rubbish = b"\xff\x00{" * 200
    ours = ["status", "info", "porch/status", "porch/availability", "porch/class/bark/state", "porch/class/bark/attributes", "doctor/kept"]
    others = ["doctor/probe", "porch/event", "porch/enabled/set", "restate/set", "porch/class/bark/enabled/set", "shed/status"]
    changed: list[str] = []

    def resolve(source: str, detection: DetectionSettings) -> SourcePlan:
        if not detection.enabled:
            changed.append(source)
        return SourcePlan(source=source, detection=detection, labels=(), latency_segments=2)

    async with aiomqtt.Client("127.0.0.1", broker.port) as client:
        for topic in ours + others:
            await client.publish(f"streamav/{topic}", b"OFF" if topic == "porch/enabled/set" else rubbish, qos=1, retain=True)
    controls = Controls({"porch": DetectionSettings()}, resolve)
    identity = MqttIdentity(model=lambda: MODEL, sources={"porch": ["bark"]}, controls=controls)
    settings = settings_for(broker, commands=True, protocol=protocol)
    sink = MqttSink(settings, identity, tmp_path / "state", random=dice(1), close_limit_s=3.0)
    kept: dict[str, bytes] = {}
    try:
        await sink.start()
        await until(lambda: sink.counters.connected)
        for event in story(1, updates=0):
            sink.event(event, 0.1)
        await until(lambda: sink.counters.published >= 2)
        async with aiomqtt.Client("127.0.0.1", broker.port) as client:
            await client.subscribe("streamav/#", qos=1)
            async with asyncio.timeout(10.0):
                async for message in client.messages:
                    kept[str(message.topic).removeprefix("streamav/")] = bytes(message.payload)
                    if kept.keys() >= set(ours):
                        break
        assert {topic for topic in ours if kept[topic] == rubbish} == set()
        assert (kept["status"], kept["porch/class/bark/state"]) == (b"online", b"OFF")
        assert changed == []
        assert sink.counters.probe_failures == 0
    finally:
        await sink.close()
        broker.stop()


async def test_a_raised_limit_is_used_again(tmp_path: Path) -> None:
    """Events that were shortened for a broker's limit are whole again after the broker came back with a larger one."""
    need_mosquitto()
    begin = make_event(1, 1, EventPhase.NEW, seconds=10)
    limit = len(describe(begin, MODEL, 0.1).to_bytes()) - 100
    broker = Broker(tmp_path / "broker", options=(f"message_size_limit {limit}",)).start()
    identity = MqttIdentity(model=lambda: MODEL, sources={"porch": ["bark"]})
    sink = MqttSink(settings_for(broker), identity, tmp_path / "state", random=dice(1), close_limit_s=3.0)
    sizes: list[int] = []

    async def listen() -> None:
        while True:
            with suppress(aiomqtt.MqttError):
                async with aiomqtt.Client("127.0.0.1", broker.port, timeout=1) as client:
                    await client.subscribe("streamav/+/event", qos=1)
                    async for message in client.messages:
                        sizes.append(len(decode(bytes(message.payload)).segments))  # noqa: PERF401 - it never ends
            await asyncio.sleep(0.05)

    ear = asyncio.create_task(listen())
    try:
        await sink.start()
        await until(lambda: sink.counters.connected)
        await asyncio.sleep(0.5)
        sink.event(begin, 0.1)
        await until(lambda: len(sizes) == 1)
        broker.stop()
        broker.options = ()
        broker.start()
        await until(lambda: sink.counters.connects == 2)
        await asyncio.sleep(0.5)
        sink.event(make_event(1, 2, EventPhase.END, seconds=10), 0.1)
        await until(lambda: len(sizes) >= 2 and sink.counters.queue_depth == 0)
        assert sizes[0] < 10
        assert sizes[-1] == 10
    finally:
        ear.cancel()
        await sink.close()
        broker.stop()


def add_certificates(folder: Path, made: Certificates) -> None:
    """Write a server certificate that expired yesterday, and a client's certificate, both signed by the authority."""

    def run(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    sign = ("-CA", made.ca.name, "-CAkey", "ca.key", "-CAcreateserial")
    run("x509", "-req", "-in", "server.csr", *sign, "-extfile", "ext", "-days", "-1", "-out", "old.crt")
    run("req", *curve, "-subj", "/CN=client", "-keyout", "client.key", "-out", "client.csr")
    run("x509", "-req", "-in", "client.csr", *sign, "-days", "2", "-out", "client.crt")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # paho leaves a refused TLS socket to the collector
async def test_each_wrong_certificate_has_its_own_remedy(tmp_path: Path) -> None:
    """Expired, of an unknown authority, of another name, and a broker that demands one of us: each is told with what to do."""
    need_mosquitto()
    pem = tmp_path / "pem"
    pem.mkdir()
    good = make_certificates(pem)
    await asyncio.to_thread(add_certificates, pem, good)
    old = Certificates(good.ca, pem / "old.crt", good.key, good.other_ca)
    brokers = {
        "good": Broker(tmp_path / "good", certificates=good),
        "old": Broker(tmp_path / "old", certificates=old),
        "demanding": Broker(tmp_path / "demanding", certificates=good, options=("require_certificate true",)),
    }

    def settings(name: str, host: str, **tls: Path) -> MqttSettings:
        return settings_for(brokers[name], host=host, port=brokers[name].tls_port, tls=TlsSettings.model_validate(tls))

    wrong = (
        (settings("good", "localhost", ca=good.other_ca), "set mqtt.tls.ca to the certificate of the authority"),
        (settings("good", "127.0.0.1", ca=good.ca), "name the broker as its certificate does"),
        (settings("old", "localhost", ca=good.ca), "renew it at the broker, or check the clock"),
        (settings("demanding", "localhost", ca=good.ca), "set mqtt.tls.cert and mqtt.tls.key"),
    )
    try:
        for broker in brokers.values():
            await asyncio.to_thread(broker.start)
        for one, says in wrong:
            with pytest.raises(ConnectionFailedError) as failed:
                async with open_client(one, Credentials(one), "x", None):
                    pass
            assert says in str(failed.value)
        ours = settings("demanding", "localhost", ca=good.ca, cert=pem / "client.crt", key=pem / "client.key")
        async with open_client(ours, Credentials(ours), "x", None) as client:
            await client.publish("streamav/status", b"online", qos=1, retain=False)
    finally:
        for broker in brokers.values():
            broker.stop()
    gc.collect()  # here, and not in a later test that has no filter
