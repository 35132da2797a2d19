"""Tests of the messages for Home Assistant, against its published schema (homeassistant/components/mqtt/schemas.py and the platforms).

Home Assistant tells nobody when it refuses a message, so its rules are restated here: keys, required keys, allowed values.
"""

from __future__ import annotations

import json
import re
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from rigs import waiting
from rigs.mqtt_connection import FakeBroker
from rigs.published_events import MODEL, dice, make_event

from streamav.app.outlets import mqtt_sink
from streamav.cli import main
from streamav.config import BackoffSettings, LabelSettings, MqttSettings, Settings
from streamav.control import Controls
from streamav.publish.commands import read_command
from streamav.publish.homeassistant import Devices, shared_entity
from streamav.publish.message import EventMessage
from streamav.publish.mqtt import MqttIdentity, MqttSink
from streamav.publish.payloads import HaEventPayload
from streamav.publish.topics import Topics
from streamav.types import SourceState

EXAMPLES = Path(__file__).parents[2] / "examples" / "home-assistant"
ROOT = {"dev", "o", "cmps", "availability", "availability_mode", "qos", "encoding"}
"""Keys at the root; Home Assistant refuses the device for any other. `state_topic` would be allowed, but every component inherits it."""
DEVICE = {"ids", "cns", "mf", "mdl", "name", "hw", "sn", "sw", "via_device", "sa", "cu"}
ORIGIN = {"name", "sw", "url"}
COMMON = {"p", "unique_id", "default_entity_id", "name", "icon", "qos", "entity_category", "availability", "availability_mode"}
PLATFORMS: dict[str, tuple[set[str], set[str]]] = {
    "event": ({"state_topic", "event_types"}, {"device_class", "value_template"}),
    "binary_sensor": ({"state_topic"}, {"device_class", "payload_on", "payload_off", "json_attributes_topic", "value_template"}),
    "sensor": (
        {"state_topic"},
        {"device_class", "unit_of_measurement", "state_class", "value_template", "suggested_display_precision", "options"},
    ),
}
"""Platform -> required keys, further keys."""
SETTING = {"state_topic", "command_topic"}
PLATFORMS |= {
    "image": ({"image_topic"}, {"content_type"}),
    "switch": (SETTING, {"payload_on", "payload_off", "device_class"}),
    "select": (SETTING | {"options"}, set()),
    "number": (SETTING, {"min", "max", "step", "mode", "unit_of_measurement", "device_class"}),
}
CONFIG = "homeassistant/device/streamav_porch/config"
BINARY_CLASSES = {"sound", "motion", "occupancy", "problem", "connectivity"}


def messages(sources: dict[str, list[str]], base: str = "streamav", **what: Any) -> dict[str, dict[str, Any]]:  # noqa: ANN401 - passed on
    found = Devices(Topics(base), "homeassistant", sources, **what).announcements()
    return {one.topic: json.loads(one.payload) for one in found}


def check(topic: str, message: dict[str, Any]) -> None:
    """Check one message as Home Assistant does."""
    assert re.fullmatch(r"homeassistant/device/[a-zA-Z0-9_-]+/config", topic)
    assert message.keys() <= ROOT
    assert {"dev", "o", "cmps"} <= message.keys()
    assert message["dev"].keys() <= DEVICE
    assert message["dev"]["ids"]
    assert message["o"].keys() <= ORIGIN
    assert message["o"]["name"]
    check_availability(message)
    for name, part in message["cmps"].items():
        assert re.fullmatch(r"[a-zA-Z0-9_-]+", name)
        required, further = PLATFORMS[part["p"]]
        assert required | {"unique_id"} <= part.keys() <= COMMON | required | further
        assert part["qos"] == 1  # up to 2026.5 the root's value is ignored
        assert part.get("entity_category") in {None, "config", "diagnostic"}
        assert part.get("state_class") in {None, "measurement"}
        check_availability(part)
        if part["p"] == "binary_sensor":
            assert part["device_class"] in BINARY_CLASSES
        assert part["default_entity_id"] == derived(part["p"], message["dev"]["name"], part["name"])
        assert ("options" in part) == (part["p"] == "select" or part.get("device_class") == "enum")
        for key in ("state_topic", "json_attributes_topic", "command_topic", "image_topic"):
            assert not set(part.get(key, "")) & set("+#")


def derived(platform: str, device: str, name: str | None) -> str:
    """Return the entity id that versions before 2025.10 make of the names; they ignore `default_entity_id`."""
    words = device if name is None else f"{device} {name}"
    return f"{platform}.{re.sub('[^a-z0-9]+', '_', words.lower()).strip('_')}"


def check_availability(place: dict[str, Any]) -> None:
    listed = place.get("availability", [])
    assert all(one.keys() <= {"topic", "payload_available", "payload_not_available", "value_template"} for one in listed)
    assert all(one["topic"] for one in listed)
    assert len(listed) < 2 or place["availability_mode"] == "all"  # the default is the last message of any topic


@pytest.mark.parametrize("everything", [False, True])
@pytest.mark.parametrize("base", ["streamav", "house/av"])
def test_devices_fit_the_schema_of_home_assistant(base: str, everything: bool) -> None:
    """Every message has only allowed keys and all required ones; ids are unique; each class has one entity, each source its own topics."""
    found = messages({"porch": ["bark", "baby_cry"], "Door-2": ["bark"], "a__b_": ["bark"]}, base, commands=everything, snapshot=everything)
    for topic, message in found.items():
        check(topic, message)
    assert next(iter(found)).endswith("service/config")  # the others name it in via_device
    unique = [part["unique_id"] for message in found.values() for part in message["cmps"].values()]
    assert len(unique) == len(set(unique))
    ids = {message["dev"]["ids"][0] for message in found.values()}
    assert {message["dev"]["via_device"] for message in found.values() if "via_device" in message["dev"]} <= ids
    porch = next(message for topic, message in found.items() if topic.endswith("porch/config"))
    assert porch["cmps"]["event"]["event_types"] == ["bark", "baby_cry"]
    assert {name for name, part in porch["cmps"].items() if part["p"] == "binary_sensor"} == {"class_bark", "class_baby_cry"}
    assert [one["topic"] for one in porch["availability"]] == [f"{base}/status", f"{base}/porch/availability"]
    assert porch["cmps"]["class_bark"]["state_topic"] == f"{base}/porch/class/bark/state"


def test_the_message_does_not_change_unnoticed() -> None:
    """The component of a class is exactly this; automations depend on its ids."""
    (_, porch) = messages({"porch": ["bark"]}).values()
    assert porch["cmps"]["class_bark"] == {
        "p": "binary_sensor",
        "unique_id": "streamav_porch_bark",
        "default_entity_id": "binary_sensor.streamav_porch_bark",
        "name": "Bark",
        "device_class": "sound",
        "qos": 1,
        "state_topic": "streamav/porch/class/bark/state",
        "json_attributes_topic": "streamav/porch/class/bark/attributes",
    }
    assert porch["cmps"]["event"]["unique_id"] == "streamav_porch_event"
    assert porch["cmps"]["event"]["default_entity_id"] == "event.streamav_porch"


def test_every_version_of_home_assistant_gives_the_same_entity_ids() -> None:
    """The event has the device's name alone, because it is what the device is for; no entity has its id by `default_entity_id` alone."""
    (_, porch) = messages({"porch": ["bark"]}).values()
    assert porch["cmps"]["event"]["name"] is None
    assert derived("event", porch["dev"]["name"], None) == "event.streamav_porch"
    assert derived("binary_sensor", porch["dev"]["name"], "Bark") == porch["cmps"]["class_bark"]["default_entity_id"]


def test_a_label_has_the_name_that_people_gave_it() -> None:
    """The name of an own label stands at all its entities, umlauts and all; their ids are made of the label."""
    parts = messages({"porch": ["doorbell_2"]}, names={"doorbell_2": "Türklingel"}, commands=True)[CONFIG]["cmps"]
    found = {name: (part["name"], part["default_entity_id"]) for name, part in parts.items() if "doorbell_2" in name}
    assert found == {
        "class_doorbell_2": ("Türklingel", "binary_sensor.streamav_porch_doorbell_2"),
        "enabled_doorbell_2": ("Türklingel detection", "switch.streamav_porch_doorbell_2_detection"),
        "threshold_doorbell_2": ("Türklingel threshold", "number.streamav_porch_doorbell_2_threshold"),
    }


@pytest.mark.parametrize("base", ["streamav", "house/av"])
def test_no_two_devices_are_one(base: str) -> None:
    """A source may be called `service`: it does not replace the service. Two bases give no name twice."""
    found = messages({"service": ["bark"], "service_": ["bark"]}, base)
    unique = [part["unique_id"] for message in found.values() for part in message["cmps"].values()]
    assert (len(found), len(unique)) == (3, len(set(unique)))
    assert len({message["dev"]["ids"][0] for message in found.values()}) == 3
    other = messages({"service": ["bark"]}, "other")
    assert not {message["dev"]["name"] for message in found.values()} & {message["dev"]["name"] for message in other.values()}


@pytest.mark.parametrize(
    ("sources", "shared"),
    [
        ({"front": ["door_knock"], "front_door": ["knock"]}, "streamav_front_door_knock"),
        ({"front": ["bark"], "front_class_bark": ["cat"]}, "streamav_front_class_bark_enabled_set"),
        ({"front": ["door_knock"], "front_door": ["bark"]}, None),
    ],
)
def test_an_id_that_two_entities_would_share_is_found(sources: dict[str, list[str]], shared: str | None) -> None:
    """Source and label are joined by what both may contain; Home Assistant would drop the second entity without a word to us."""
    found = shared_entity(Devices(Topics(), "homeassistant", sources, commands=True))
    assert found == (None if shared is None else (shared, list(sources)))


@pytest.mark.parametrize(("announced", "status"), [("true", 2), ("false", 0)])
def test_sources_that_would_share_an_entity_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], announced: str, status: int
) -> None:
    """`config check` and the start name the id and both sources, where Home Assistant is told of them."""
    file = tmp_path / "run.toml"
    file.write_text(
        f"[mqtt]\nhost = 'broker'\nhomeassistant = {announced}\n"
        "[[sources]]\nid = 'front'\nuri = 'rtsp://cam/1'\ndetection.labels = ['male_speech']\n"
        "[[sources]]\nid = 'front_male'\nuri = 'rtsp://cam/2'\ndetection.labels = ['speech']\n",
        encoding="utf-8",
    )
    assert main(["config", "check", str(file), "--quiet"]) == status
    said = capsys.readouterr().err
    assert ("streamav_front_male_speech" in said and "of front and of front_male" in said) == bool(status)


def test_states_are_words_that_automations_can_choose() -> None:
    """The sensor of the state lists its words, and each state that is published is one of them; the telemetry's sensors are curves."""
    parts = messages({"porch": ["bark"]})[CONFIG]["cmps"]
    assert {state.published for state in SourceState} == set(parts["state"]["options"])
    assert {name for name, part in parts.items() if part.get("state_class") == "measurement"} == {"level", "latency", "fps"}
    assert (parts["latency"]["device_class"], parts["latency"]["unit_of_measurement"]) == ("duration", "s")


def test_switches_and_numbers_are_commands() -> None:
    """Each switch and number sets what it shows; they are available with the service alone, or a source could never be switched on again.

    A class that is switched off is not available, but keeps its entity.
    """
    porch = messages({"porch": ["bark"]}, commands=True, snapshot=True)[CONFIG]["cmps"]
    settings = {name: part for name, part in porch.items() if part["p"] in {"switch", "number", "select"}}
    assert {(one["state_topic"], one["command_topic"]) for one in settings.values()} == {
        (f"streamav/porch/{name}/state", f"streamav/porch/{name}/set")
        for name in ("enabled", "threshold", "latency", "privacy", "class/bark/enabled", "class/bark/threshold")
    }
    assert all(one["availability"] == [{"topic": "streamav/status"}] for one in settings.values())
    assert all(one["entity_category"] == "config" for one in settings.values())
    assert porch["class_bark"]["availability"][-1] == {
        "topic": "streamav/porch/class/bark/enabled/state",
        "payload_available": "ON",
        "payload_not_available": "OFF",
    }
    assert (porch["snapshot"]["image_topic"], porch["snapshot"]["content_type"]) == ("streamav/porch/snapshot", "image/jpeg")


@pytest.mark.parametrize(
    ("name", "payload", "patch"),
    [
        ("enabled", "OFF", {"enabled": False}),
        ("threshold", "0.65", {"on": 0.65}),
        ("latency_set", "3.0", {"latency_segments": 3}),
        ("privacy", "blur,mute_speech", {"privacy": ["blur", "mute_speech"]}),
        ("enabled_bark", "ON", {"classes": {"bark": {"enabled": True}}}),
        ("threshold_bark", "1", {"classes": {"bark": {"on": 1.0}}}),
    ],
)
def test_what_home_assistant_sends_is_understood(name: str, payload: str, patch: dict[str, object]) -> None:
    """The payloads of a switch (ON, OFF) and of a number (with or without a point) at its command topic are commands of the contract."""
    part = messages({"porch": ["bark"]}, commands=True)[CONFIG]["cmps"][name]
    assert read_command(part["command_topic"].removeprefix("streamav/"), payload.encode()).patch == patch


def make_sink(broker: FakeBroker, state_dir: Path, labels: list[str], source: str = "porch") -> MqttSink:
    settings = MqttSettings(host="broker", backoff=BackoffSettings(min_s=0.001, max_s=0.002), timeout_s=0.2, homeassistant=True)
    identity = MqttIdentity(model=lambda: MODEL, sources={source: labels})
    return MqttSink(settings, identity, state_dir, random=dice(1), monotonic=lambda: 0.0, connect=broker.connect, close_limit_s=2.0)


until = partial(waiting.until, within_s=20.0)


def announced(broker: FakeBroker, device: str = "porch") -> list[dict[str, Any]]:
    topic = f"homeassistant/device/streamav_{device}/config"
    return [json.loads(payload) if payload else {} for heard, payload, *_ in broker.log if heard == topic]


async def test_devices_are_announced_before_states_and_events(tmp_path: Path) -> None:
    """After a connect the order is status, info, devices, states, events; devices are retained at QoS 1."""
    broker = FakeBroker()
    sink = make_sink(broker, tmp_path, ["bark"])
    await sink.start()
    sink.event(make_event(1), 0.1)
    await until(lambda: not sink.counters.queue_depth)
    await sink.close()
    order = [topic for topic, *_ in broker.log]
    devices = [order.index(f"homeassistant/device/streamav_{name}/config") for name in ("service", "porch")]
    assert order.index("streamav/info") < devices[0] < devices[1] < order.index("streamav/porch/class/bark/state")
    assert devices[1] < order.index("streamav/porch/ha_event")
    assert all((qos, retain) == (1, True) for topic, _, qos, retain in broker.log if topic.startswith("homeassistant/"))


def test_names_of_own_labels_come_from_the_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`[labels.SLUG] name` reaches what is announced; a label without one has none of its own."""
    identities: list[MqttIdentity] = []
    monkeypatch.setattr("streamav.publish.mqtt.MqttSink", lambda _settings, identity, _folder: identities.append(identity))
    labels = {
        "doorbell_2": LabelSettings(name="Türklingel", hear=("Doorbell",), kind="sound"),
        "hum": LabelSettings(hear=("Hum",), kind="sound"),
    }
    settings = Settings(mqtt=MqttSettings(host="broker", homeassistant=True), labels=labels, state_dir=tmp_path)
    mqtt_sink(settings, lambda: MODEL, Controls({}, lambda *_: pytest.fail("there is no source")))
    assert [one.names for one in identities] == [{"doorbell_2": "Türklingel"}]


async def test_a_class_that_is_gone_is_removed_in_two_steps(tmp_path: Path) -> None:
    """At the start after a class was disabled its component is sent with the platform alone, then the message without it; only once."""
    for labels, expected in ((["bark", "cat"], 1), (["bark"], 2), (["bark"], 1)):
        broker = FakeBroker()
        sink = make_sink(broker, tmp_path, labels)
        await sink.start()
        await sink.close()
        found = announced(broker)
        assert len(found) == expected
        assert set(labels) == {name.removeprefix("class_") for name in found[-1]["cmps"] if name.startswith("class_")}
        if expected == 2:
            assert found[0]["cmps"]["class_cat"] == {"p": "binary_sensor"}


async def test_a_source_that_is_gone_is_removed(tmp_path: Path) -> None:
    """The device of a source that was renamed is removed by an empty retained message."""
    broker = FakeBroker()
    for source in ("porch", "door"):
        sink = make_sink(broker, tmp_path, ["bark"], source)
        await sink.start()
        await sink.close()
    assert announced(broker)[-1] == {}
    assert announced(broker, "door")[-1]["cmps"]


@pytest.mark.parametrize("gone", ["a source", "a label"])
async def test_entities_are_gone_before_the_values_that_they_show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gone: str) -> None:
    """Home Assistant warns of each value that is cleared under an entity, so it has time to remove the entities first."""
    monkeypatch.setattr("streamav.publish.session.STATES_AFTER_S", 0.5)
    first = make_sink(FakeBroker(), tmp_path, ["bark", "cat"])
    await first.start()
    await first.close()
    broker = FakeBroker()
    sink = make_sink(broker, tmp_path, ["bark"], "door" if gone == "a source" else "porch")
    await sink.start()
    device, shown = CONFIG, "streamav/porch/class/cat/attributes"
    await until(lambda: any(topic == device for topic, *_ in broker.log))
    assert not [1 for topic, *_ in broker.log if topic == shown]
    await until(lambda: (shown, b"", 1, True) in broker.log)
    await sink.close()


async def test_devices_are_announced_again_when_home_assistant_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the birth message devices come again, then states; two in a row are one round; a retained one, or `offline`, is ignored."""
    monkeypatch.setattr("streamav.publish.mqtt.MOST_BIRTH_PAUSE_S", 0.2)
    monkeypatch.setattr("streamav.publish.session.STATES_AFTER_S", 0.1)
    broker = FakeBroker()
    sink = make_sink(broker, tmp_path, ["bark"])
    await sink.start()
    await until(lambda: sink.counters.connected)
    sink.source_state("porch", SourceState.ONLINE, "")
    await until(lambda: ("streamav/porch/status", b"online", 1, True) in broker.log)
    broker.log.clear()
    broker.tell("homeassistant/status", b"offline")
    broker.tell("homeassistant/status", b"online", retained=True)
    broker.tell("homeassistant/status", b"online")
    broker.tell("homeassistant/status", b"online")
    await until(lambda: ("streamav/porch/availability", b"online", 1, True) in broker.log)
    order = [topic for topic, *_ in broker.log]
    assert order.index("homeassistant/device/streamav_porch/config") < order.index("streamav/porch/class/bark/state")
    await sink.close()
    assert len(announced(broker)) == 1


def read(path: Path) -> Any:  # noqa: ANN401 - any YAML
    """Return a YAML file; Home Assistant's own tag `!input` becomes a dictionary."""
    loader: Any = type("Loader", (yaml.SafeLoader,), {})
    loader.add_constructor("!input", lambda _, node: {"input": node.value})
    return yaml.load(path.read_text(encoding="utf-8"), loader)  # noqa: S506 - a safe loader


def test_the_examples_are_automations_of_home_assistant() -> None:
    """Each example is YAML with the keys of a blueprint or an automation, and names entities and topics that a source `porch` has."""
    parts = messages({"porch": ["bark"]}, snapshot=True)[CONFIG]["cmps"].values()
    entities = {part["default_entity_id"] for part in parts}
    files = {path.name: read(path) for path in EXAMPLES.glob("*.yaml")}
    blueprint = files.pop("blueprint_heard_and_seen.yaml")
    assert blueprint["blueprint"]["domain"] == "automation"
    used = set(re.findall(r"'input': '(\w+)'", str(blueprint)))
    assert used == blueprint["blueprint"]["input"].keys()
    assert {"triggers", "conditions", "actions"} <= blueprint.keys()
    assert set(files) == {"light_on_bark.yaml", "phone_notification.yaml"}
    for (automation,) in files.values():
        assert {"id", "alias", "triggers", "actions"} <= automation.keys()
        named = set(re.findall(r"\b(?:event|image|binary_sensor)\.streamav_\w+", str(automation)))
        assert named
        assert named <= entities
        assert {trigger.get("topic", Topics().event("porch")) for trigger in automation["triggers"]} == {Topics().event("porch")}


def test_the_light_goes_out_also_when_the_source_goes_away() -> None:
    """The example waits for a class that is not on: off, or unavailable, as when the source is lost or switched off while a dog barks."""
    (automation,) = read(EXAMPLES / "light_on_bark.yaml")
    (wait,) = next(step["wait_for_trigger"] for step in automation["actions"] if "wait_for_trigger" in step)
    assert wait["not_to"] == "on"
    assert "to" not in wait


def test_the_notification_has_the_clip_in_a_message_that_names_it() -> None:
    """The example takes snapshot and clip from where they are: the companion message has no `clip_url`, the message of the event has."""
    (automation,) = read(EXAMPLES / "phone_notification.yaml")
    clip = next(trigger for trigger in automation["triggers"] if trigger["id"] == "clip")
    assert clip["topic"] == Topics().event("porch")
    assert clip["value_template"] == "{{ value_json.has_clip }}"
    assert "clip_url" not in HaEventPayload.model_fields
    assert {"has_clip", "clip_url"} <= EventMessage.model_fields.keys()
