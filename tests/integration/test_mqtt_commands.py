"""Tests of commands on a real Mosquitto, with both protocols: retained ones, own messages, answers, and a whole run."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import aiomqtt
import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from rigs import waiting
from rigs.event_clips import event, ring_of, write_counting
from rigs.mosquitto import Broker, need_mosquitto
from rigs.published_events import MODEL, dice, story

from streamav.app import label_options
from streamav.bundle import load_bundle
from streamav.clips import ClipSink
from streamav.config import BackoffSettings, ClipSettings, DetectionSettings, MqttSettings
from streamav.control import Controls, SourcePlan, kept_path
from streamav.publish.mqtt import MqttIdentity, MqttSink
from streamav.types import EventPhase

pytestmark = pytest.mark.broker
PROTOCOLS = ("3.1.1", "5")


until = partial(waiting.until, within_s=15.0, every_s=0.02)
"""Other processes answer after an unknown time."""


class Service:
    """A sink with commands, whose changes hold at once."""

    def __init__(self, broker: Broker, tiny_bundle: Path, state: Path, protocol: str, **changes: object) -> None:
        card = load_bundle(tiny_bundle).card

        def resolve(source: str, detection: DetectionSettings) -> SourcePlan:
            labels = label_options(card, detection)
            return SourcePlan(source=source, detection=detection, labels=labels, latency_segments=2, on=detection.on or 0.5)

        self.controls = Controls({"porch": DetectionSettings()}, resolve, kept_path(state))
        identity = MqttIdentity(model=lambda: MODEL, sources={"porch": list(self.controls.labels("porch"))}, controls=self.controls)
        tree = {"host": "127.0.0.1", "port": broker.port, "protocol": protocol, "commands": True, "timeout_s": 1.0}
        settings = MqttSettings.model_validate({**tree, "backoff": BackoffSettings(min_s=0.05, max_s=0.3), **changes})
        self.broker, self.before = broker, len(broker.log)
        self.sink = MqttSink(settings, identity, state, random=dice(time.monotonic_ns()), close_limit_s=3.0)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Service]:
        await self.sink.start()
        pump = asyncio.create_task(self._apply())
        await until(lambda: self.sink.counters.connected)
        yield self
        pump.cancel()
        await self.sink.close()

    async def _apply(self) -> None:
        while True:
            self.controls.applied(self.controls.take())
            await asyncio.sleep(0.005)


class Ear:
    """Another client: what it heard, by topic, the newest last."""

    def __init__(self, client: aiomqtt.Client) -> None:
        self.client = client
        self.heard: list[tuple[str, str]] = []
        self.properties: list[object] = []

    @property
    def newest(self) -> dict[str, str]:
        return dict(self.heard)

    async def tell(self, topic: str, payload: str, *, retain: bool = False, properties: Properties | None = None) -> None:
        await self.client.publish(f"streamav/{topic}", payload, qos=1, retain=retain, properties=properties)


@asynccontextmanager
async def listening(broker: Broker, protocol: str) -> AsyncIterator[Ear]:
    version = aiomqtt.ProtocolVersion.V5 if protocol == "5" else aiomqtt.ProtocolVersion.V311
    async with aiomqtt.Client("127.0.0.1", broker.port, protocol=version) as client:
        ear = Ear(client)

        async def read() -> None:
            async for message in client.messages:
                ear.heard.append((str(message.topic).removeprefix("streamav/"), bytes(message.payload).decode()))
                ear.properties.append(message.properties)

        await client.subscribe("streamav/#", qos=1)
        reader = asyncio.create_task(read())
        yield ear
        reader.cancel()


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_a_command_that_comes_with_our_first_word_holds(broker: Broker, tiny_bundle: Path, tmp_path: Path, protocol: str) -> None:
    """A client that sends a command as soon as it sees the service online is heard: we subscribe to commands before that word."""
    async with listening(broker, protocol) as ear:

        async def answer_at_once() -> None:
            await waiting.until(lambda: ear.newest.get("status") == "online", within_s=15.0, every_s=0)
            await ear.tell("porch/class/bark/threshold/set", "0.75")

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(answer_at_once())
            async with Service(broker, tiny_bundle, tmp_path / "state", protocol).running():
                await until(lambda: ear.newest.get("porch/class/bark/threshold/state") == "0.75")


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_a_command_holds_and_survives(broker: Broker, tiny_bundle: Path, tmp_path: Path, protocol: str) -> None:
    """A live command holds, is echoed, and holds after a restart; a wrong one is answered with the reason; a retained one is ignored."""
    async with listening(broker, protocol) as ear:
        await ear.tell("porch/enabled/set", "OFF", retain=True)
        async with Service(broker, tiny_bundle, tmp_path / "state", protocol).running() as service:
            await until(lambda: ear.newest.get("porch/enabled/state") == "ON")
            await ready(service)
            await ear.tell("porch/class/bark/threshold/set", "0.75")
            await until(lambda: ear.newest.get("porch/class/bark/threshold/state") == "0.75")
            await ear.tell("porch/latency/set", "eleven")
            await until(lambda: json.loads(ear.newest.get("porch/answer", "{}")).get("accepted") is False)
            assert service.controls.plan("porch").enabled  # the retained command did nothing
        async with Service(broker, tiny_bundle, tmp_path / "state", protocol).running() as service:
            assert service.controls.plan("porch").labels[0].thresholds.on == 0.75
            await until(lambda: ear.newest.get("status") == "online")
        assert ear.newest["porch/class/bark/threshold/state"] == "0.75"


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_people_are_hidden_by_a_command(broker: Broker, tiny_bundle: Path, tmp_path: Path, protocol: str) -> None:
    """`metadata_only` over MQTT is echoed, ends what is being recorded, and holds after a restart; `default` brings clips back."""
    ring, settings = ring_of(write_counting(tmp_path / "all.mp4", 20)), ClipSettings(dir=tmp_path / "clips", min_free_mb=0)
    clips = ClipSink(settings, tmp_path / "clips", {"porch": ring})
    async with listening(broker, protocol) as ear:
        async with Service(broker, tiny_bundle, tmp_path / "state", protocol).running() as service:
            service.controls.watch(lambda plan: clips.set_privacy(plan.source, plan.privacy))
            await clips.start()
            await ready(service)
            await until(lambda: ear.newest.get("porch/privacy/state") == "off")
            clips.event(event(EventPhase.NEW, 10), 0.1)
            await ear.tell("porch/privacy/set", "metadata_only")
            await until(lambda: ear.newest.get("porch/privacy/state") == "metadata_only")
            clips.event(event(EventPhase.END, 10, 12), 0.1)
            await clips.close()
            assert not list((tmp_path / "clips").rglob("*.mp4"))
            await ear.tell("porch/privacy/set", "everybody")
            await until(lambda: json.loads(ear.newest.get("porch/answer", "{}")).get("accepted") is False)
        async with Service(broker, tiny_bundle, tmp_path / "state", protocol).running() as service:
            assert service.controls.plan("porch").privacy == ("metadata_only",)
            await ready(service)
            await ear.tell("porch/privacy/set", "default")
            await until(lambda: ear.newest.get("porch/privacy/state") == "off")


async def ready(service: Service) -> None:
    """Wait until the service has subscribed to the last of its commands; a busy machine takes longer over it."""
    await until(lambda: " 1 streamav/restate/set" in service.broker.log[service.before :])
    assert service.sink.counters.connected


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_the_service_hears_no_message_of_its_own(broker: Broker, tiny_bundle: Path, tmp_path: Path, protocol: str) -> None:
    """Of all that it publishes only its probe, and its status, come back to it."""
    async with Service(broker, tiny_bundle, tmp_path / "state", protocol).running() as service:
        await ready(service)
        for event in story(1, updates=2):
            service.sink.event(event, 0.1)
        await until(lambda: not service.sink.counters.queue_depth)
    sent = [line for line in broker.log.splitlines() if "Sending PUBLISH to streamav-" in line]
    assert {line.split("'")[1] for line in sent} <= {"streamav/doctor/probe", "streamav/status"}


async def test_a_command_of_mqtt_5_is_answered_where_it_asks(broker: Broker, tiny_bundle: Path, tmp_path: Path) -> None:
    """The response topic gets the answer, with the correlation data of the command."""
    async with listening(broker, "5") as ear, Service(broker, tiny_bundle, tmp_path / "state", "5").running() as service:
        await ready(service)
        asked = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call] # paho's
        asked.ResponseTopic, asked.CorrelationData = "streamav/answer/panel", b"42"
        await ear.tell("porch/threshold/set", "0.6", properties=asked)
        await until(lambda: "answer/panel" in ear.newest)
        place = next(i for i, (topic, _) in enumerate(ear.heard) if topic == "answer/panel")
        assert json.loads(ear.heard[place][1]) == {"topic": "streamav/porch/threshold/set", "accepted": True, "reason": None}
        assert getattr(ear.properties[place], "CorrelationData", None) == b"42"


async def test_events_expire_where_it_is_asked_for(broker: Broker, tiny_bundle: Path, tmp_path: Path) -> None:
    """With mqtt.expiry_s messages about events carry it, states do not."""
    async with listening(broker, "5") as ear, Service(broker, tiny_bundle, tmp_path / "state", "5", expiry_s=60).running() as service:
        for event in story(1):
            service.sink.event(event, 0.1)
        await until(lambda: any(topic == "porch/last_event" for topic, _ in ear.heard))
    expiries = {topic: getattr(given, "MessageExpiryInterval", None) for (topic, _), given in zip(ear.heard, ear.properties, strict=True)}
    assert 0 < (expiries["porch/event"] or 0) <= 60
    assert 0 < (expiries["porch/ha_event"] or 0) <= 60
    assert expiries["porch/last_event"] is None


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_a_broker_with_a_memory_is_told_only_what_changed(tiny_bundle: Path, tmp_path: Path, protocol: str) -> None:
    """After a kill of a broker that keeps its values the greeting sends hardly any; after one that forgets them, all of them."""
    need_mosquitto()
    for persistent in (True, False):
        broker = Broker(tmp_path / f"broker-{persistent}", persistent=persistent).start()
        async with Service(broker, tiny_bundle, tmp_path / f"state-{persistent}", protocol).running() as service:
            everything = service.sink.counters.greeted
            await asyncio.sleep(1.5)  # Mosquitto writes its memory once a second
            broker.stop()
            broker.start()
            await until(lambda service=service: service.sink.counters.connects == 2)  # type: ignore[misc]
            assert service.sink.counters.greeted == (0 if persistent else everything)
            async with listening(broker, protocol) as ear:
                await until(lambda ear=ear, least=everything: len(ear.newest) > least)  # type: ignore[misc]
        broker.stop()
