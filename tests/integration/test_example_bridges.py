"""Tests of the examples that bring events to Frigate and Node-RED: with a real Mosquitto, a small Frigate, and Node.js."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from rigs.mosquitto import Broker
from rigs.published_events import MODEL, make_event, story
from rigs.services import free_port
from rigs.waiting import until

from streamav.config import BackoffSettings, MqttSettings
from streamav.publish.commands import read_command
from streamav.publish.message import describe
from streamav.publish.mqtt import MqttIdentity, MqttSink
from streamav.publish.topics import Topics
from streamav.types import EndReason, Event, EventPhase

EXAMPLES = Path(__file__).parents[2] / "examples"


@contextmanager
def running(name: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Run an example until the block ends."""
    command = [sys.executable, str(EXAMPLES / name), *arguments]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | {"PYTHONUNBUFFERED": "1"}
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


async def subscribed(broker: Broker) -> None:
    async with asyncio.timeout(30):
        while "SUBACK" not in broker.log:  # noqa: ASYNC110 - it is another process
            await asyncio.sleep(0.05)


async def publish(broker: Broker, state: Path, *events: Event) -> None:
    settings = MqttSettings(host="127.0.0.1", port=broker.port, backoff=BackoffSettings(min_s=0.05, max_s=0.2))
    sink = MqttSink(settings, MqttIdentity(model=lambda: MODEL, sources={"porch": ["bark"]}), state)
    await sink.start()
    for event in events:
        sink.event(event, 0.4)
    await sink.close()


class SmallFrigate(ThreadingHTTPServer):
    """Frigate's two endpoints, with its methods, checks and answers (frigate/api/event.py and its request bodies); one camera."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.created: list[tuple[str, dict[str, Any]]] = []
        self.ended: list[tuple[str, dict[str, Any]]] = []
        self.failures = 0
        """So many of the next calls fail with 503, as while Frigate restarts."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: SmallFrigate

    def do_POST(self) -> None:
        match self.path.split("/"):
            case ["", "api", "events", camera, label, "create"] if camera == "front_door":
                body = self._body()
                known = {"sub_label", "score", "duration", "include_recording", "draw"}
                good = body.keys() <= known and (body["duration"] is None or isinstance(body["duration"], int))
                if not good:
                    self._answer(422, {"detail": "wrong body"})
                    return
                self.server.created.append((label, body))
                self._answer(
                    200, {"success": True, "message": "Successfully created event.", "event_id": f"1.{len(self.server.created)}-x"}
                )
            case ["", "api", "events", _, _, "create"]:
                self._answer(404, {"success": False, "message": "not a valid camera."})
            case _:
                self._answer(405, {"detail": "Method Not Allowed"})

    def do_PUT(self) -> None:
        match self.path.split("/"):
            case ["", "api", "events", event_id, "end"]:
                self.server.ended.append((event_id, self._body()))
                self._answer(200, {"success": True, "message": "Event successfully ended."})
            case _:
                self._answer(405, {"detail": "Method Not Allowed"})

    def _body(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        return found

    def _answer(self, status: int, body: dict[str, Any]) -> None:
        if self.server.failures:
            self.server.failures -= 1
            (self.server.created if self.command == "POST" else self.server.ended).pop()
            status, body = 503, {}
        self.send_response(status)
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name of the base class
        pass


@pytest.fixture
def frigate() -> Iterator[SmallFrigate]:
    server = SmallFrigate()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


async def lines_of(process: subprocess.Popen[str], count: int) -> list[str]:
    assert process.stdout is not None
    return [(await asyncio.wait_for(asyncio.to_thread(process.stdout.readline), 15)).strip() for _ in range(count)]


@pytest.mark.broker
async def test_frigate_gets_confirmed_events(broker: Broker, frigate: SmallFrigate, tmp_path: Path) -> None:
    """A confirmed event is created once and ended once, a retracted one not at all; a call that fails is tried again.

    An event that is open when the program is killed is ended by its next start, although the end was published meanwhile.
    """
    arguments = ("--frigate", frigate.url, "--port", str(broker.port), "--camera", "porch=front_door", "--state", str(tmp_path / "open"))
    frigate.failures = 1
    with running("frigate_events.py", *arguments) as process:
        await lines_of(process, 1)
        await subscribed(broker)
        retracted = make_event(2, 2, EventPhase.END, confirmed=False, reason=EndReason.RETRACTED)
        await publish(
            broker, tmp_path / "state", *story(1, updates=2), make_event(2, confirmed=False), retracted, make_event(3, start_s=20)
        )
        assert await lines_of(process, 3) == ["new porch bark", "end porch bark", "new porch bark"]
    assert [label for label, _ in frigate.created] == ["bark", "bark"]
    assert frigate.created[0][1] == {"sub_label": "streamav 94%", "duration": None, "include_recording": True}
    ((event_id, body),) = frigate.ended
    assert (event_id, body) == ("1.1-x", {"end_time": describe(story(1, updates=2)[-1], MODEL, 0.1).end_ts})
    await publish(broker, tmp_path / "state", make_event(3, 2, EventPhase.END, start_s=20))  # while the program is away
    with running("frigate_events.py", *arguments) as process:
        assert (await lines_of(process, 2))[1] == "end porch bark"
    assert [event_id for event_id, _ in frigate.ended] == ["1.1-x", "1.2-x"]
    assert json.loads((tmp_path / "open").read_text(encoding="utf-8")) == {}


@pytest.mark.broker
async def test_a_camera_that_frigate_does_not_know_is_named(broker: Broker, frigate: SmallFrigate, tmp_path: Path) -> None:
    """The next event goes on."""
    with running("frigate_events.py", "--frigate", frigate.url, "--port", str(broker.port), "--state", str(tmp_path / "open")) as process:
        await lines_of(process, 1)
        await publish(broker, tmp_path / "state", *story(1))
        assert process.stderr is not None
        said = await asyncio.wait_for(asyncio.to_thread(process.stderr.readline), 15)
    assert said.startswith("Frigate did not take bark of porch: HTTP Error 404")


def flow() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((EXAMPLES / "node-red" / "flow.json").read_text(encoding="utf-8"))
    return found


def test_the_flow_for_node_red_is_whole() -> None:
    """Each wire and each broker leads to a node; the topics are those of the contract, at QoS 1, and commands are not retained."""
    nodes = {node["id"]: node for node in flow()}
    assert len(nodes) == len(flow())
    for node in nodes.values():
        assert all(target in nodes for wires in node.get("wires", []) for target in wires)
        assert node.get("broker") in {None, "127.0.0.1"} or nodes[node["broker"]]["type"] == "mqtt-broker"
        assert node["type"] in {"tab", "mqtt-broker"} or node["z"] == "tab"
        if node["type"] == "mqtt-broker":  # Node-RED takes any value of a configuration node that is its own id for a circle
            assert list(node.values()).count(node["id"]) == 1
    (heard,) = [node for node in nodes.values() if node["type"] == "mqtt in"]
    assert (heard["topic"], heard["qos"], heard["datatype"]) == (Topics().any_event, "1", "json")
    (told,) = [node for node in nodes.values() if node["type"] == "mqtt out"]
    assert (told["qos"], told["retain"]) == ("1", "false")
    payloads = [node["payload"] for node in nodes.values() if node["type"] == "inject"]
    changes = [read_command(told["topic"].removeprefix("streamav/"), payload.encode()).patch for payload in payloads]
    assert changes == [{"classes": {"bark": {"enabled": value}}} for value in (True, False)]


def test_the_functions_of_the_flow_follow_the_rule() -> None:
    """In Node.js: duplicates and older messages are dropped, and a confirmed event is told once."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("Node.js is missing")
    functions = {one["id"]: one["func"] for one in flow() if one["type"] == "function"}
    messages = [json.loads(describe(event, MODEL, 0.1).to_bytes()) for event in (make_event(1, confirmed=False), *story(1, updates=2)[1:])]
    program = """
    const {functions, messages} = JSON.parse(require('fs').readFileSync(0));
    const made = Object.fromEntries(Object.entries(functions).map(([id, code]) => {
        const kept = {};
        const context = {get: key => kept[key], set: (key, value) => { kept[key] = value; }};
        return [id, msg => new Function('msg', 'context', code)(msg, context)];
    }));
    const passed = messages.map(one => made.newest({payload: one})).filter(one => one !== null);
    const told = passed.map(one => made.once(one)).filter(one => one !== null);
    console.log(JSON.stringify({passed: passed.length, told: told.map(one => one.payload)}));
    """
    given = json.dumps({"functions": functions, "messages": [*messages, *messages, messages[1]]})
    found = subprocess.run([node, "-e", program], input=given, capture_output=True, text=True, timeout=30, check=True)
    assert json.loads(found.stdout) == {"passed": len(messages), "told": ["Bark at porch, score 94 %"]}


@pytest.mark.slow
@pytest.mark.broker
async def test_the_flow_runs_in_node_red(broker: Broker, tmp_path: Path) -> None:
    """A real Node-RED loads the flow without a complaint, connects with MQTT 5, and tells a bark once."""
    program = shutil.which("node-red")
    if program is None:  # also in CI: it is hundreds of packages of npm
        pytest.skip("Node-RED is missing: npm install node-red, and put node_modules/.bin on the PATH")
    changes: dict[str, dict[str, Any]] = {"mqtt-broker": {"port": str(broker.port)}, "debug": {"console": True}}
    file, log = tmp_path / "flow.json", tmp_path / "log"
    file.write_text(json.dumps([node | changes.get(node["type"], {}) for node in flow()]), encoding="utf-8")
    command = [program, "-u", str(tmp_path / "user"), "-p", str(free_port()), "-D", "uiHost=127.0.0.1", str(file)]
    with log.open("wb") as out:
        process = await asyncio.create_subprocess_exec(*command, stdout=out, stderr=out, stdin=subprocess.DEVNULL)
    try:
        await until(lambda: b"Connected to broker" in log.read_bytes() or b"rror" in log.read_bytes(), within_s=90.0)
        await publish(broker, tmp_path / "state", *story(1, updates=2), *story(2, label="cat"))
        await until(lambda: b"Bark at porch, score 94 %" in log.read_bytes())
    finally:
        process.terminate()
        await process.wait()
    said = log.read_text(encoding="utf-8")
    assert "rror" not in said
    assert said.count("at porch") == 1
