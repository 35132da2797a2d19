"""Tests streamav in a real Home Assistant: its own code makes devices, entities and automations of what a real run publishes.

`make test-homeassistant` installs it and runs these tests; without it they are skipped (docs/home-assistant.md). They need minutes.
"""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from rigs.homeassistant import HomeAssistant, home_assistant_python
from rigs.mosquitto import Broker
from rigs.program_environment import program_environment
from rigs.scene_files import write_scene
from rigs.services import free_port, wait_until

pytestmark = [pytest.mark.homeassistant, pytest.mark.broker, pytest.mark.slow, pytest.mark.timeout(600)]

EXAMPLES = Path(__file__).parents[2] / "examples" / "home-assistant"
CONFIGURATION = """
automation: !include automations.yaml
automation examples: !include_dir_merge_list examples
mobile_app:
mqtt:
  light:
    - name: Porch
      unique_id: lamp
      command_topic: lamp/set
logger:
  default: warning
"""
EVENT, BARK, SNAPSHOT = "event.streamav_porch", "binary_sensor.streamav_porch_bark", "image.streamav_porch_last_event"
DETECTION, THRESHOLD, PRIVACY = "switch.streamav_porch_detection", "number.streamav_porch_bark_threshold", "select.streamav_porch_privacy"


@dataclass
class Phone:
    """What a phone with the companion app receives: Home Assistant sends it to the address that the app gave."""

    received: list[dict[str, Any]] = field(default_factory=list)

    @contextmanager
    def listening(self) -> Iterator[str]:
        """Yield the address."""
        received = self.received

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                received.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.send_response(201)
                self.send_header("Content-Type", "application/json")
                self.end_headers()
                self.wfile.write(b"{}")

            def log_message(self, *_: object) -> None:
                """Print nothing."""

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/push"
        server.shutdown()
        server.server_close()


@dataclass
class House:
    """One Home Assistant with its broker, a lamp, a phone, and the automations of the examples."""

    ha: HomeAssistant
    broker: Broker
    phone: Phone
    folder: Path
    model: Path
    media: Path
    home: Path

    @contextmanager
    def streamav(self, *sources: str, settings: str = "") -> Iterator[Run]:
        """Run streamav with a looping file for each source (default: porch), and nothing kept of earlier runs."""
        folder = Path(tempfile.mkdtemp(prefix="run", dir=self.folder))
        run = Run(self, folder, sources or ("porch",), settings)
        run.start()
        try:
            yield run
        finally:
            run.stop(signal.SIGKILL)
            print(run.said)  # noqa: T201 - pytest shows it when the test fails

    def soon(self, what: str, holds: Callable[[], bool], seconds: float = 90.0) -> None:
        """Wait until something holds in Home Assistant."""
        wait_until(what, holds, seconds)

    def shows(self, entity: str, state: str | None, seconds: float = 90.0) -> None:
        """Wait until an entity has a state; None: until it is gone."""
        self.soon(f"{entity} is {state}", lambda: self.ha.state(entity) == state, seconds)

    def bark(self, *, audible: bool) -> None:
        """Let the dog, which barks all the time, be above the threshold or not."""
        self.ha.call("number.set_value", THRESHOLD, value=0.4 if audible else 1)
        if not audible:  # a higher threshold lets no event begin, and ends none
            self.ha.call("switch.turn_off", DETECTION)
            self.shows(BARK, "unavailable")
            self.ha.call("switch.turn_on", DETECTION)
        self.shows(BARK, "on" if audible else "off")

    def attributes(self, entity: str) -> dict[str, Any]:
        """Return the attributes of an entity."""
        found: dict[str, Any] = self.ha.states()[entity]["attributes"]
        return found


class Run:
    """A run of streamav in a process of its own."""

    def __init__(self, house: House, folder: Path, sources: tuple[str, ...], settings: str) -> None:
        """Write its settings."""
        self._house, self._folder, self._file = house, folder, folder / "run.toml"
        self._process: subprocess.Popen[bytes] | None = None
        self._port = free_port()
        self.write(sources, settings)

    def write(self, sources: tuple[str, ...], settings: str = "") -> None:
        """Write the settings, so many sources and further settings of them all."""
        head = (
            f"model.name = '{self._house.model}'\nhttp.listen = '127.0.0.1:{self._port}'\nclips.dir = '{self._folder / 'clips'}'\n"
            f"clips.pre_s = 1\nclips.post_s = 1\n[mqtt]\nhost = '127.0.0.1'\nport = {self._house.broker.port}\nhomeassistant = true\n"
            f"commands = true\nsnapshot = 'publish'\n{settings}\n"
        )
        tables = (f"[[sources]]\nid = '{one}'\nuri = '{self._house.media}'\nloop = true\n" for one in sources)
        self._file.write_text(head + "".join(tables), encoding="utf-8")

    def start(self) -> None:
        """Start it."""
        environment = program_environment()
        environment |= {"STREAMAV_HOME": str(self._house.home), "STREAMAV_STATE_DIR": str(self._folder / "state")}
        command = [sys.executable, "-m", "streamav", "run", "--config", str(self._file), "--log-format", "json"]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stderr=log, stdout=log, env=environment, start_new_session=True)

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int | None:
        """Stop or kill it and return its exit code; None when it does not run."""
        if self._process is None:
            return None
        self._process.send_signal(how)
        code = self._process.wait(timeout=60)
        self._process = None
        return code

    @property
    def said(self) -> str:
        """What it has logged."""
        return (self._folder / "log").read_text(encoding="utf-8")

    @property
    def complaints(self) -> list[str]:
        """Warnings and errors of its log."""
        lines = [json.loads(line) for line in self.said.splitlines() if line.startswith("{")]
        return [line["message"] for line in lines if line["level"] in {"WARNING", "ERROR", "CRITICAL"}]


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory, tiny_bundle: Path, engine_home: Path) -> Iterator[House]:
    """Return a Home Assistant that was installed, onboarded and connected to a broker as a person does it."""
    python = home_assistant_python()
    folder = tmp_path_factory.mktemp("house")
    write_scene(media := folder / "scene.mp4", 40)
    config = folder / "ha"
    (config / "blueprints/automation/streamav").mkdir(parents=True)
    (config / "examples").mkdir()
    (config / "automations.yaml").write_text("[]\n", encoding="utf-8")
    broker, phone = Broker(folder / "broker").start(), Phone()
    try:
        with phone.listening() as push, HomeAssistant(python, config, CONFIGURATION) as ha:
            ha.use_broker(broker.port)
            shutil.copy(EXAMPLES / "blueprint_heard_and_seen.yaml", config / "blueprints/automation/streamav")
            for example in ("light_on_bark.yaml", "phone_notification.yaml"):
                shutil.copy(EXAMPLES / example, config / "examples")
            app = {"push_token": "token", "push_url": push}
            described = {"app_id": "io.example", "app_name": "App", "app_version": "1", "device_id": "1", "device_name": "Phone"}
            maker = {"manufacturer": "Maker", "model": "Model", "os_name": "Android", "os_version": "1"}
            ha.ask("api/mobile_app/registrations", {**described, **maker, "supports_encryption": False, "app_data": app})
            ha.ask("api/services/automation/reload", {})
            yield House(ha, broker, phone, folder, tiny_bundle, media, engine_home)
    finally:
        broker.stop()


@pytest.fixture(autouse=True)
def _no_complaints(request: pytest.FixtureRequest) -> Iterator[None]:
    """Check that Home Assistant logs no warning and no error in a test, except of a broker that the test kills."""
    killed = ("components.mqtt.client", "[paho.mqtt.client]")
    house: House = request.getfixturevalue("house")
    before = len(house.ha.complaints)
    yield
    assert [line for line in house.ha.complaints[before:] if not any(word in line for word in killed)] == []


def test_every_entity_is_what_it_should_be(house: House) -> None:
    """Home Assistant makes of a run the devices and entities of the reference: ids, names, classes, units, icons, states."""
    with house.streamav(settings="[labels.siren]\nname = 'Türklingel'\nhear = ['Doorbell']\nkind = 'sound'") as run:
        house.shows(BARK, "on")
        devices, entities, states = house.ha.devices(), house.ha.entities(), house.ha.states()
        assert set(devices) == {"streamav service", "streamav porch"}
        assert devices["streamav porch"]["via_device_id"] == devices["streamav service"]["id"]
        ours = {entity: one for entity, one in entities.items() if one["unique_id"].startswith("streamav_")}
        named = {entity: one for entity, one in ours.items() if "siren" in one["unique_id"]}  # older versions make their ids of the name
        assert sorted(one["original_name"] for one in named.values()) == ["Türklingel", "Türklingel detection", "Türklingel threshold"]
        assert ours.keys() - named.keys() == {
            *(f"binary_sensor.streamav_porch_{label}" for label in ("bark", "bird")),
            *(f"switch.streamav_porch_{label}_detection" for label in ("bark", "bird")),
            *(f"number.streamav_porch_{label}_threshold" for label in ("bark", "bird")),
            *(f"sensor.streamav_porch_{name}" for name in ("sound_level", "latency", "frames_per_second", "state")),
            *("sensor.streamav_service_engine", "sensor.streamav_service_version", "binary_sensor.streamav_service_connection"),
            *(EVENT, SNAPSHOT, DETECTION, PRIVACY, "number.streamav_porch_threshold", "number.streamav_porch_segments_until_final"),
        }
        house.soon("telemetry", lambda: house.ha.state("sensor.streamav_porch_sound_level") not in {"unknown", "unavailable"})
        states = house.ha.states()
        assert not [entity for entity in ours if states[entity]["state"] == "unavailable"]
        assert states[EVENT]["attributes"]["friendly_name"] == "streamav porch"
        units = {entity: states[entity]["attributes"].get("unit_of_measurement") for entity in ours}
        assert {entity.removeprefix("sensor.streamav_porch_"): unit for entity, unit in units.items() if unit is not None} == {
            "sound_level": "dBFS",
            "latency": "s",
            "frames_per_second": "fps",
        }
        assert states[BARK]["attributes"]["device_class"] == "sound"
        assert states["sensor.streamav_porch_state"]["attributes"]["device_class"] == "enum"
        assert float(states["sensor.streamav_porch_latency"]["state"]) < 60
        assert [entity for entity in ours if not {"icon", "device_class", "entity_picture"} & states[entity]["attributes"].keys()] == []
        assert run.stop() == 0
        assert run.complaints == []


def test_an_event_fires_and_the_class_goes_on_and_off(house: House) -> None:
    """The event entity fires with its attributes; the class goes on with the event and off with it; the picture is a JPEG."""
    began = datetime.now(UTC).isoformat()
    with house.streamav() as run:
        house.shows(BARK, "on")
        house.soon("the event", lambda: str(house.ha.state(EVENT)) > began)
        heard, on = house.attributes(EVENT), house.attributes(BARK)
        assert heard.keys() >= {"id", "source", "score", "start_time", "zones", "snapshot_url"}
        assert heard["event_type"] == "bark"
        assert (heard["source"], on["event_id"], on["since"]) == ("porch", heard["id"], heard["start_time"])
        house.soon("a picture", lambda: house.ha.state(SNAPSHOT) not in {"unknown", "unavailable"})
        assert house.ha.ask(f"api/image_proxy/{SNAPSHOT}").startswith(b"\xff\xd8\xff")
        house.bark(audible=False)
        house.bark(audible=True)
        house.soon("the next event", lambda: house.attributes(EVENT)["id"] != heard["id"])
        house.ha.call("switch.turn_off", DETECTION)
        house.shows("sensor.streamav_porch_state", "disabled")
        assert house.ha.state(BARK) == "unavailable"
        house.ha.call("switch.turn_on", DETECTION)
        house.shows(BARK, "on")
        assert run.stop() == 0


def test_switches_numbers_and_choices_change_the_run(house: House) -> None:
    """What a person sets holds in the run, comes back, survives a restart of it; what is not allowed comes back as it was."""
    with house.streamav() as run:
        house.shows(BARK, "on")
        house.bark(audible=False)
        assert house.ha.state(THRESHOLD) == "1"
        house.bark(audible=True)
        house.ha.call("number.set_value", "number.streamav_porch_segments_until_final", value=3)
        house.shows("number.streamav_porch_segments_until_final", "3")
        house.ha.call("select.select_option", PRIVACY, option="metadata_only")
        house.shows(PRIVACY, "metadata_only")
        house.ha.call("switch.turn_off", "switch.streamav_porch_bark_detection")
        house.shows(BARK, "unavailable")
        assert run.stop() == 0
        run.start()
        house.shows("sensor.streamav_porch_state", "online")
        assert (house.ha.state(PRIVACY), house.ha.state(THRESHOLD), house.ha.state(BARK)) == ("metadata_only", "0.4", "unavailable")
        house.ha.call("switch.turn_on", "switch.streamav_porch_bark_detection")
        house.ha.call("select.select_option", PRIVACY, option="off")
        house.shows(BARK, "on")
        assert run.stop() == 0


def test_availability_follows_the_run(house: House) -> None:
    """A run that is stopped or killed is unavailable, and the service says so; one that starts again has its values back."""
    connection = "binary_sensor.streamav_service_connection"
    with house.streamav() as run:
        house.shows(BARK, "on")
        assert run.stop() == 0
        house.shows(connection, "off")
        house.shows(BARK, "unavailable")
        assert house.ha.state(DETECTION) == "unavailable"
        run.start()
        house.shows(BARK, "on")
        run.stop(signal.SIGKILL)  # the broker publishes the will
        house.shows(connection, "off")
        house.shows(EVENT, "unavailable")
        run.start()
        house.shows(connection, "on")
        house.shows(BARK, "on")
        house.broker.kill()
        house.shows(BARK, "unavailable")
        house.broker.start()
        house.shows(BARK, "on")
        assert run.stop() == 0


def test_a_restart_of_home_assistant_has_everything_back(house: House) -> None:
    """Home Assistant that starts again publishes its birth; the run announces its devices again, and every state comes back."""
    with house.streamav() as run:
        house.shows(BARK, "on")
        before = set(house.ha.entities())
        house.ha.stop()
        retained = subprocess.run(
            ["mosquitto_sub", "-p", str(house.broker.port), "-t", "homeassistant/#", "-W", "1", "-F", "%t"],
            capture_output=True,
            text=True,
            check=False,
        )
        for topic in retained.stdout.split():  # so that only the answer to the birth can bring the devices
            subprocess.run(["mosquitto_pub", "-p", str(house.broker.port), "-r", "-n", "-t", topic], check=True)
        house.ha.start()
        house.shows(BARK, "on")
        house.shows(DETECTION, "on")
        assert set(house.ha.entities()) == before
        assert run.stop() == 0


def test_sources_come_and_go(house: House) -> None:
    """Two sources are two devices. One that is taken out of the settings is gone, with its entities; `mqtt purge` leaves none at all."""
    with house.streamav("porch", "Garten-2") as run:
        house.shows("binary_sensor.streamav_garten_2_bark", "on")
        house.shows(BARK, "on")
        assert set(house.ha.devices()) == {"streamav service", "streamav porch", "streamav Garten-2"}
        run.write(("porch",))
        assert run.stop() == 0
        run.start()
        house.soon("the source is gone", lambda: "streamav Garten-2" not in house.ha.devices())
        assert not [entity for entity in house.ha.entities() if "garten" in entity]
        house.shows(BARK, "on")
        assert run.stop() == 0
    purge = [sys.executable, "-m", "streamav", "mqtt", "purge", f"mqtt://127.0.0.1:{house.broker.port}"]
    subprocess.run(purge, check=True, capture_output=True)
    house.soon("no device", lambda: not house.ha.devices())
    assert not [entity for entity in house.ha.entities() if "streamav" in entity]


def test_a_label_that_is_switched_off_in_the_settings_loses_its_entities(house: House) -> None:
    """A class with `enabled = false` in the settings is removed at the next start; the others keep theirs."""
    with house.streamav() as run:
        house.shows(BARK, "on")
        assert house.ha.state("binary_sensor.streamav_porch_bird") == "off"
        run.write(("porch",), "[detection.classes.bird]\nenabled = false\n")
        assert run.stop() == 0
        run.start()
        house.shows("binary_sensor.streamav_porch_bird", None)
        house.shows(BARK, "on")
        assert "switch.streamav_porch_bird_detection" not in house.ha.entities()
        assert run.stop() == 0


@pytest.fixture
def lamp(house: House) -> Iterator[Callable[[], list[str]]]:
    """Return what the lamp is told, `ON` and `OFF`, so far."""
    log = house.folder / "lamp"
    with log.open("w") as out, subprocess.Popen(["mosquitto_sub", "-p", str(house.broker.port), "-t", "lamp/set"], stdout=out) as listener:
        yield lambda: log.read_text(encoding="utf-8").split()
        listener.terminate()


def test_the_light_of_the_example_is_on_while_a_dog_barks(house: House, lamp: Callable[[], list[str]]) -> None:
    """examples/home-assistant/light_on_bark.yaml switches the lamp on at the bark, and off when there has been none for its time."""
    assert house.ha.state("automation.light_while_a_dog_barks_at_the_porch") == "on"
    example = house.ha.folder / "examples" / "light_on_bark.yaml"
    whole = example.read_text(encoding="utf-8")
    example.write_text(
        whole.replace('for: "00:01:00"', 'for: "00:00:02"'), encoding="utf-8"
    )  # the only change: a test does not wait a minute
    house.ha.ask("api/services/automation/reload", {})
    with house.streamav() as run:
        house.soon("the lamp is on", lambda: lamp()[-1:] == ["ON"])
        assert house.ha.state("light.porch") == "on"
        house.bark(audible=False)
        house.soon("the lamp is off", lambda: lamp()[-1:] == ["OFF"])
        house.bark(audible=True)
        house.soon("the lamp is on again", lambda: lamp()[-1:] == ["ON"])
        assert run.stop() == 0  # a run that ends while the dog barks leaves no light on
        house.soon("the lamp is off at the end", lambda: lamp()[-1:] == ["OFF"])


def test_the_phone_gets_picture_and_clip(house: House) -> None:
    """examples/home-assistant/phone_notification.yaml tells the phone at once, with the snapshot, and then the clip under the same tag."""
    del house.phone.received[:]
    with house.streamav() as run:
        house.soon("a notification", lambda: bool(house.phone.received))
        first = house.phone.received[0]
        assert (first["title"], first["data"]["image"]) == ("Bark at the porch", f"/api/image_proxy/{SNAPSHOT}")
        assert "url" not in first["data"]
        assert house.ha.ask(first["data"]["image"].removeprefix("/")).startswith(b"\xff\xd8\xff")
        house.bark(audible=False)
        house.soon("the clip", lambda: any("url" in one["data"] for one in house.phone.received))
        (second,) = (one for one in house.phone.received if "url" in one["data"])
        assert second["data"]["tag"] == first["data"]["tag"]
        file = subprocess.run(["curl", "-s", second["data"]["url"]], capture_output=True, check=True).stdout
        assert file[4:8] == b"ftyp"
        house.bark(audible=True)
        assert run.stop() == 0


def test_the_blueprint_makes_an_automation(house: House) -> None:
    """The blueprint is listed, an automation is made of it as the user interface does, and runs with label, score and source."""
    assert "streamav/blueprint_heard_and_seen.yaml" in house.ha.tell("blueprint/list", domain="automation")
    for name, labels, least in (("hears", ["bark"], 0.1), ("other_label", ["bird"], 0.1), ("too_strict", ["bark"], 0.999)):
        told = {"title": f"{name} {{{{ label }}}}", "message": "{{ source }} {{ score }}"}
        made = {
            "alias": name,
            "use_blueprint": {
                "path": "streamav/blueprint_heard_and_seen.yaml",
                "input": {
                    "source": EVENT,
                    "labels": labels,
                    "least_score": least,
                    "actions": [{"action": "notify.mobile_app_phone", "data": told}],
                },
            },
        }
        assert house.ha.ask(f"api/config/automation/config/{name}", made) == {"result": "ok"}
    del house.phone.received[:]
    with house.streamav() as run:
        house.soon("the automation ran", lambda: any("hears" in one["title"] for one in house.phone.received))
        time.sleep(1.0)  # so that the others would have run
        (said,) = (one for one in house.phone.received if "porch" in one["message"] and "Heard" not in one["message"])
        assert said["title"] == "hears bark"
        assert said["message"].startswith("porch 0.")
        assert run.stop() == 0
    for name in ("hears", "other_label", "too_strict"):
        house.ha.ask(f"api/config/automation/config/{name}", method="DELETE")
