"""Tests that every example is a program that works as it is, against a real broker, a real web server and a real recording."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion
from rigs.mosquitto import Broker
from rigs.published_events import MODEL, make_event

from streamav.capture.scene import make_script
from streamav.capture.scene_file import write_scene
from streamav.publish.message import encode
from streamav.types import EventPhase

EXAMPLES = Path(__file__).parents[2] / "examples"
PATIENCE_S = 60.0


def test_every_example_is_run() -> None:
    """Every program in the folder is named by an integration test, this one or that of its subject."""
    tests = "".join(path.read_text(encoding="utf-8") for path in Path(__file__).parent.glob("test_*.py"))
    assert [path.name for path in sorted(EXAMPLES.glob("*.py")) if path.name not in tests] == []


@contextlib.contextmanager
def program(name: str, *arguments: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """Run an example until the block ends."""
    command = [sys.executable, "-u", str(EXAMPLES / name), *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=os.environ | environment) as running:
        try:
            yield running
        finally:
            running.kill()


@contextlib.contextmanager
def client(broker: Broker) -> Iterator[paho.Client]:
    """Return a connected client."""
    client = paho.Client(CallbackAPIVersion.VERSION2)
    client.connect("127.0.0.1", broker.port)
    client.loop_start()
    yield client
    client.disconnect()
    client.loop_stop()


def subscribers(broker: Broker, count: int) -> None:
    """Wait until the broker has seen *count* subscriptions."""
    give_up = time.monotonic() + PATIENCE_S
    while broker.log.count("SUBSCRIBE from") < count:
        assert time.monotonic() < give_up, broker.log
        time.sleep(0.05)


def message(number: int, sequence: int = 1, phase: EventPhase = EventPhase.NEW, *, confirmed: bool = True) -> bytes:
    """Return one message of an event as streamav publishes it."""
    return encode(make_event(number, sequence, phase, confirmed=confirmed), MODEL, 0.1)


@pytest.mark.broker
def test_the_subscriber_prints_the_newest_state(broker: Broker) -> None:
    """`subscribe.py` prints each newer message once and leaves out a repeated and an older one."""
    with program("subscribe.py", "127.0.0.1", str(broker.port)) as running, client(broker) as sender:
        subscribers(broker, 1)
        for sent in (message(1), message(1, 2, EventPhase.UPDATE), message(1, 2, EventPhase.UPDATE), message(1), message(2)):
            sender.publish("streamav/porch/event", sent, qos=1).wait_for_publish(PATIENCE_S)
        assert running.stdout is not None
        lines = [running.stdout.readline().split()[:3] for _ in range(3)]
    assert lines == [["new", "porch", "bark"], ["update", "porch", "bark"], ["new", "porch", "bark"]]


@pytest.mark.broker
def test_the_lamp_is_left_alone_when_a_person_lit_it(broker: Broker) -> None:
    """`light_on_bark.py` switches on for a bark and off after it, but not a lamp that was on before."""
    sent: list[bytes] = []
    with program("light_on_bark.py", "127.0.0.1", str(broker.port)), client(broker) as home:
        home.on_message = lambda *arguments: sent.append(arguments[2].payload)
        home.subscribe("home/porch/light/set", 1)
        subscribers(broker, 2)
        bark, lamp = "streamav/porch/class/bark/state", "home/porch/light/state"
        for topic, payload in ((bark, "ON"), (bark, "OFF"), (lamp, "ON"), (bark, "ON"), (bark, "OFF"), (lamp, "OFF"), (bark, "ON")):
            home.publish(topic, payload, qos=1).wait_for_publish(PATIENCE_S)
        give_up = time.monotonic() + PATIENCE_S
        while len(sent) < 3 and time.monotonic() < give_up:
            time.sleep(0.05)
    assert sent == [b"ON", b"OFF", b"ON"]


@pytest.mark.broker
def test_a_notification_is_sent_once_for_a_confirmed_event(broker: Broker) -> None:
    """`notify.py` posts an event when it is confirmed, once; a server that fails is named and the next event is posted."""
    posted: list[dict[str, object]] = []

    class Server(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            posted.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(500 if len(posted) == 1 else 204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/hook"
    with program("notify.py", "127.0.0.1", str(broker.port), NOTIFY_URL=url) as running, client(broker) as sender:
        subscribers(broker, 1)
        early, sure = message(1, confirmed=False), message(1, 2, EventPhase.UPDATE)
        for sent in (early, sure, message(1, 3, EventPhase.UPDATE), message(2)):
            sender.publish("streamav/porch/event", sent, qos=1).wait_for_publish(PATIENCE_S)
        give_up = time.monotonic() + PATIENCE_S
        while len(posted) < 2 and time.monotonic() < give_up:
            time.sleep(0.05)
        assert running.stdout is not None
        assert running.stdout.readline().startswith("not told: bark at ")
    server.shutdown()
    server.server_close()
    assert [(one["title"], one["event"]["seq"]) for one in posted] == [("Bark at porch", 2), ("Bark at porch", 1)]  # type: ignore[index]


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a recording of fourteen seconds with one event."""
    path = tmp_path_factory.mktemp("recording") / "clip.mp4"
    write_scene(path, make_script(14.0))
    return path


def ended(name: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run an example to its end."""
    command = [sys.executable, str(EXAMPLES / name), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=110)


@pytest.mark.slow
def test_the_python_api_saves_clips(recording: Path, tmp_path: Path) -> None:
    """`clip_of_each_event.py` writes a clip and a snapshot of the event and prints their names."""
    done = ended("clip_of_each_event.py", recording, tmp_path)
    assert done.returncode == 0, done.stderr
    (clip,) = tmp_path.rglob("*.mp4")
    assert "_clock_" in clip.name
    assert clip.with_suffix(".jpg").is_file()
    assert done.stdout.splitlines()[-1] == f"{clip} {clip.with_suffix('.jpg').name}"


@pytest.mark.slow
def test_a_sink_of_ones_own_takes_the_events(recording: Path, tmp_path: Path) -> None:
    """`own_sink.py` writes one row for the event of the recording."""
    done = ended("own_sink.py", recording, tmp_path / "events.csv")
    assert done.returncode == 0, done.stderr
    with (tmp_path / "events.csv").open(encoding="utf-8", newline="") as file:
        (row,) = csv.DictReader(file)
    assert (row["label"], row["onset_s"], row["heard_and_seen"]) == ("clock", "3", "True")


@pytest.mark.parametrize("name", ["clip_of_each_event.py", "own_sink.py", "notify.py"])
def test_an_example_without_arguments_says_what_it_needs(name: str) -> None:
    """An example that is called wrongly ends with a sentence, not with a traceback."""
    done = ended(name)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert done.stderr.startswith(("usage: ", "NOTIFY_URL must be"))
