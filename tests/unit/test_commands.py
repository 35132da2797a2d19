"""Tests of MQTT commands without a broker: what is read, refused, echoed and answered, and what a flood costs."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rigs import waiting
from rigs.mqtt_connection import FakeBroker
from rigs.published_events import MODEL, dice, make_event

from streamav.app import label_options
from streamav.bundle import ModelCard, load_bundle
from streamav.config import BackoffSettings, DetectionSettings, MqttSettings, SourceSettings
from streamav.control import Controls, SourcePlan
from streamav.publish.commands import CommandError, read_command
from streamav.publish.mqtt import MqttIdentity, MqttSink

ZONE = [[0.0, 0.0], [1.0, 0.0], [1.0, 1.0]]


@pytest.mark.parametrize(
    ("topic", "payload", "patch"),
    [
        ("porch/enabled/set", "OFF", {"enabled": False}),
        ("porch/enabled/set", "default", {"enabled": None}),
        ("porch/threshold/set", "0.7", {"on": 0.7}),
        ("porch/latency/set", "3.0", {"latency_segments": 3}),
        ("porch/privacy/set", "blur", {"privacy": ["blur"]}),
        ("porch/privacy/set", "mute_speech, blur", {"privacy": ["blur", "mute_speech"]}),
        ("porch/privacy/set", "metadata_only", {"privacy": ["metadata_only"]}),
        ("porch/privacy/set", "off", {"privacy": []}),
        ("porch/privacy/set", "default", {"privacy": None}),
        ("porch/class/bark/enabled/set", " ON ", {"classes": {"bark": {"enabled": True}}}),
        ("porch/class/bark/threshold/set", "1", {"classes": {"bark": {"on": 1.0}}}),
        ("porch/class/bark/cooldown/set", "30", {"classes": {"bark": {"cooldown_s": 30.0}}}),
        ("porch/zone/gate/set", json.dumps(ZONE), {"zones": {"gate": ZONE}}),
        ("porch/zone/gate/set", "default", {"zones": {"gate": None}}),
    ],
)
def test_a_command_is_a_change(topic: str, payload: str, patch: dict[str, object]) -> None:
    """Each setting of the contract becomes a part of the section detection; `default` takes it back."""
    assert read_command(topic, payload.encode()).patch == patch


@pytest.mark.parametrize(
    ("topic", "payload", "message"),
    [
        ("porch/enabled/set", b"on", "ON or OFF, or default, got 'on'"),
        ("porch/enabled/set", b"TOGGLE", "ON or OFF"),
        ("porch/threshold/set", b"NaN", "a number"),
        ("porch/threshold/set", b"true", "a number"),
        ("porch/latency/set", b"2.5", "a whole number"),
        ("porch/privacy/set", b"ON", "off, blur, mute_speech, blur,mute_speech, metadata_only, or default, got 'ON'"),
        ("porch/privacy/set", b"", "off, blur"),
        ("porch/privacy/set", b"off,blur", "off, blur"),
        ("porch/privacy/set", b"[]", "off, blur"),
        ("porch/zone/gate/set", b"[[0,0],[1]]", "a list of corners"),
        ("porch/zone/gate/set", b"[" * 5000, "a list of corners"),
        ("porch/zone/gate/set", b" " * 9000, "at most 8192 bytes, got 9000"),
        ("porch/enabled/set", b"\xff", "UTF-8"),
        ("porch/volume/set", b"1", "no such setting"),
        ("porch/class/bark/set", b"1", "no such setting"),
        ("porch/class/b rk/enabled/set", b"ON", "each level of the topic"),
    ],
)
def test_what_is_no_command_is_refused(topic: str, payload: bytes, message: str) -> None:
    """The error says what must be and shows the beginning of what was got."""
    with pytest.raises(CommandError, match=message):
        read_command(topic, payload)


@given(st.text(max_size=40) | st.sampled_from(["porch/zone/z/set", "porch/latency/set", "porch/threshold/set"]), st.binary(max_size=200))
def test_anything_may_arrive(topic: str, payload: bytes) -> None:
    """For any topic and payload: a command with a change, or a CommandError, and no other error."""
    with suppress(CommandError):
        assert read_command(topic, payload).patch


@pytest.fixture(scope="module")
def card(tiny_bundle: Path) -> ModelCard:
    return load_bundle(tiny_bundle).card


def make_controls(card: ModelCard, **configured: DetectionSettings) -> Controls:
    def resolve(source: str, detection: DetectionSettings) -> SourcePlan:
        on = card.detection.on if detection.on is None else detection.on
        labels = label_options(card, detection)
        return SourcePlan(source=source, detection=detection, labels=labels, latency_segments=detection.latency_segments or 2, on=on)

    return Controls(configured or {"porch": DetectionSettings()}, resolve)


class Service:
    """A sink with commands on a fake broker; changes hold at once."""

    def __init__(self, controls: Controls, state_dir: Path, **changes: object) -> None:
        self.broker, self.controls = FakeBroker(), controls
        tree: dict[str, object] = {
            "host": "broker",
            "backoff": BackoffSettings(min_s=0.001, max_s=0.002),
            "timeout_s": 0.2,
            "commands": True,
        }
        sources = {source: list(controls.labels(source)) for source in controls.sources}
        identity = MqttIdentity(model=lambda: MODEL, sources=sources, controls=controls)
        self.now_s = 0.0
        self.sink = MqttSink(
            MqttSettings.model_validate(tree | changes),
            identity,
            state_dir,
            random=dice(1),
            monotonic=self.clock,
            connect=self.broker.connect,
        )

    def clock(self) -> float:
        return self.now_s

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Service]:
        await self.sink.start()
        await until(lambda: self.sink.counters.connected)
        pump = asyncio.create_task(self._apply())
        yield self
        pump.cancel()
        await self.sink.close()

    async def _apply(self) -> None:
        """Let changes hold, as the loop does between two turns."""
        while True:
            self.controls.applied(self.controls.take())
            await asyncio.sleep(0.001)

    @property
    def kept(self) -> dict[str, str]:
        return {topic.removeprefix("streamav/"): payload.decode() for topic, payload, _, retain in self.broker.log if retain}

    @property
    def answers(self) -> list[dict[str, object]]:
        return [json.loads(payload) for topic, payload, *_ in self.broker.log if topic.endswith("/answer")]


until = partial(waiting.until, within_s=20.0)


async def test_the_values_of_all_settings_are_known_after_a_connect(card: ModelCard, tmp_path: Path) -> None:
    """Every setting has its value, retained, and every command its filter; the whole tree is never subscribed to."""
    zones = DetectionSettings.model_validate({"zones": {"gate": ZONE}})
    async with Service(make_controls(card, porch=zones), tmp_path).running() as service:
        await until(lambda: "streamav/restate/set" in service.broker.filters)
        kept = service.kept
        assert (kept["porch/enabled/state"], kept["porch/threshold/state"], kept["porch/latency/state"]) == ("ON", "0.5", "2")
        assert (kept["porch/class/bark/enabled/state"], kept["porch/class/bark/threshold/state"]) == ("ON", "0.5")
        assert json.loads(kept["porch/zone/gate/state"]) == ZONE
        assert (kept["porch/privacy/state"], "streamav/+/privacy/set" in service.broker.filters) == ("off", True)
        assert "streamav/+/class/+/enabled/set" in service.broker.filters
        assert not any(one.endswith("#") for one in service.broker.filters)


async def test_a_command_is_applied_and_echoed(card: ModelCard, tmp_path: Path) -> None:
    """A change holds, its value is echoed, retained at QoS 1, and the answer says that it was accepted."""
    async with Service(make_controls(card), tmp_path).running() as service:
        service.broker.tell("streamav/porch/class/bark/enabled/set", b"OFF")
        await until(lambda: service.kept["porch/class/bark/enabled/state"] == "OFF")
        assert [one.label for one in service.controls.plan("porch").labels] == ["bird", "siren"]
        assert ("streamav/porch/class/bark/enabled/state", b"OFF", 1, True) in service.broker.log
        await until(lambda: bool(service.answers))
        assert service.answers == [{"topic": "streamav/porch/class/bark/enabled/set", "accepted": True, "reason": None}]
        service.broker.tell("streamav/porch/zone/gate/set", json.dumps(ZONE).encode())
        await until(lambda: "porch/zone/gate/state" in service.kept)
        service.broker.tell("streamav/porch/zone/gate/set", b"default")
        await until(lambda: not service.kept["porch/zone/gate/state"])


@pytest.mark.parametrize(
    ("topic", "payload", "reason"),
    [
        ("porch/threshold/set", b"1.5", "less than or equal to 1"),
        ("porch/class/brad/enabled/set", b"OFF", "no such label"),
        ("porch/latency/set", b"x", "a whole number"),
        ("porch/zone/gate/set", b"[[0,0],[1,1],[0.5,0.5]]", "on a line"),
    ],
)
async def test_a_wrong_command_changes_nothing(
    card: ModelCard, tmp_path: Path, caplog: pytest.LogCaptureFixture, topic: str, payload: bytes, reason: str
) -> None:
    """It is logged and answered with the reason, and the values that hold are echoed again."""
    async with Service(make_controls(card), tmp_path).running() as service:
        service.broker.log.clear()
        service.broker.tell(f"streamav/{topic}", payload)
        await until(lambda: bool(service.answers) and "porch/threshold/state" in service.kept)
        assert (service.answers[0]["accepted"], service.kept["porch/threshold/state"]) == (False, "0.5")
        assert reason in str(service.answers[0]["reason"])
        assert reason in caplog.text
        assert service.controls.differences() == []


async def test_a_retained_command_is_ignored(card: ModelCard, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It is named once in the log, the value that holds is echoed, and nothing changes, however often it comes."""
    async with Service(make_controls(card), tmp_path).running() as service:
        service.broker.log.clear()
        for _ in range(3):
            service.broker.tell("streamav/porch/enabled/set", b"OFF", retained=True)
        await until(lambda: service.kept.get("porch/enabled/state") == "ON")
        assert service.controls.plan("porch").enabled
        assert caplog.text.count("a retained command is ignored") == 1


async def test_a_flood_of_commands_is_refused(card: ModelCard, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Of a thousand commands at once a hundred are taken; the log holds at most twenty lines; later commands are taken again."""
    async with Service(make_controls(card), tmp_path).running() as service:
        for number in range(1000):
            service.broker.tell("streamav/porch/threshold/set", f"0.{500 + number % 400}".encode())
        service.broker.tell("streamav/porch/enabled/set", b"OFF")
        await until(lambda: sum("a command is refused" in record.message for record in caplog.records) == 20)
        assert service.controls.plan("porch").enabled
        assert len(service.answers) <= 101
        service.now_s = 60.0
        service.broker.tell("streamav/porch/enabled/set", b"OFF")
        await until(lambda: service.kept["porch/enabled/state"] == "OFF")


async def test_all_states_can_be_asked_for(card: ModelCard, tmp_path: Path) -> None:
    """`restate` sends every retained value again."""
    async with Service(make_controls(card), tmp_path).running() as service:
        await until(lambda: "streamav/restate/set" in service.broker.filters)
        before = service.kept
        service.broker.log.clear()
        service.broker.tell("streamav/restate/set", b"")
        await until(lambda: service.kept.keys() >= before.keys() - {"doctor/kept"})
        assert service.kept == {topic: value for topic, value in before.items() if topic != "doctor/kept"}


async def test_an_answer_goes_where_it_is_asked_for(card: ModelCard, tmp_path: Path) -> None:
    """A response topic below `answer` is used; any other is not, because the asker may have no right to write there."""
    async with Service(make_controls(card), tmp_path).running() as service:
        service.broker.tell("streamav/porch/threshold/set", b"0.7", response="streamav/answer/me", correlation=b"1")
        service.broker.tell("streamav/porch/threshold/set", b"0.7", response="homeassistant/device/x/config")
        service.broker.tell("streamav/door/threshold/set", b"0.7")  # another service with this base may have it: no answer
        await until(lambda: sum("answer" in topic for topic, *_ in service.broker.log) == 2)
        assert [topic for topic, *_ in service.broker.log if "answer" in topic] == ["streamav/answer/me", "streamav/porch/answer"]
        assert not any(topic.startswith("homeassistant/") for topic, *_ in service.broker.log)


async def test_without_the_setting_no_command_is_taken(card: ModelCard, tmp_path: Path) -> None:
    """With mqtt.commands = false nothing is subscribed to, and a command that arrives all the same does nothing."""
    async with Service(make_controls(card), tmp_path, commands=False).running() as service:
        service.broker.tell("streamav/porch/enabled/set", b"OFF")
        service.sink.event(make_event(1), 0.1)
        await until(lambda: not service.sink.counters.queue_depth)
        assert service.controls.plan("porch").enabled
        assert not any("/set" in one for one in service.broker.filters)
        assert not any("/enabled/" in topic for topic in service.kept)


def test_topics_of_commands_are_no_source() -> None:
    """The first levels of the topics of commands cannot be ids of sources."""
    for word in ("restate", "answer"):
        with pytest.raises(ValueError, match="must not be one of"):
            SourceSettings(id=word, uri="x.mp4")
