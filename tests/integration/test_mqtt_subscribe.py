"""Tests of `streamav subscribe` with a real Mosquitto."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

import aiomqtt
import pytest
from rigs.mosquitto import USER, Broker, make_certificates, need_mosquitto
from rigs.program_environment import program_environment
from rigs.published_events import MODEL, story
from rigs.services import free_port

from streamav.config import BackoffSettings, MqttSettings
from streamav.publish.message import decode
from streamav.publish.mqtt import MqttIdentity, MqttSink

pytestmark = pytest.mark.broker

COMMAND = "import typer; from streamav.cli.subscribe import subscribe; app = typer.Typer(); app.command()(subscribe); app()"


async def start(*arguments: str) -> asyncio.subprocess.Process:
    pipe = asyncio.subprocess.PIPE
    environment = program_environment()
    return await asyncio.create_subprocess_exec(sys.executable, "-c", COMMAND, *arguments, stdout=pipe, stderr=pipe, env=environment)


async def heard_by(broker: Broker, name: str = "streamav-subscribe-") -> None:
    """Wait until the command has subscribed."""
    async with asyncio.timeout(40):
        while name not in broker.log or "SUBACK" not in broker.log:  # noqa: ASYNC110 - it is another process
            await asyncio.sleep(0.05)


async def publish_when_heard(broker: Broker, state_dir: Path, heard: str = "streamav-subscribe-") -> None:
    """Publish one event after the command has subscribed."""
    await heard_by(broker, heard)
    settings = MqttSettings(host="127.0.0.1", port=broker.port, base=broker.base, backoff=BackoffSettings(min_s=0.05, max_s=0.2))
    sink = MqttSink(settings, MqttIdentity(model=lambda: MODEL, sources={"porch": ["bark"]}), state_dir)
    await sink.start()
    for event in story(1, updates=1):
        sink.event(event, 0.4)
    await sink.close()


@pytest.mark.parametrize("raw", [False, True])
async def test_events_are_shown_and_summed_up(tmp_path: Path, raw: bool) -> None:
    """Each message is one line, readable or raw; the summary holds event and latencies; standard output holds nothing else."""
    need_mosquitto()
    broker = Broker(tmp_path / "broker").start()
    try:
        options = ["--json"] if raw else []
        url = f"mqtt://127.0.0.1:{broker.port}/streamav"
        process = await start(url, "--count", "3", "--for", "60", "--summary", str(tmp_path / "summary.json"), *options)
        await publish_when_heard(broker, tmp_path / "state")
        out, error = await asyncio.wait_for(process.communicate(), 40)
    finally:
        broker.stop()
    assert process.returncode == 0, error.decode()
    lines = out.splitlines()
    assert len(lines) == 3
    if raw:
        assert [decode(line).type for line in lines] == ["new", "update", "end"]
    else:
        assert all(b"porch" in line and b"bark" in line and b"middle centre" in line for line in lines)
    summary = json.loads((tmp_path / "summary.json").read_text(encoding="utf-8"))
    assert [(event["label"], event["end_reason"]) for event in summary["events"]] == [("bark", "ended")]
    assert summary["messages"] == 3
    assert summary["publisher_latency_s"] == {"count": 2, "p50": 0.4, "p95": 0.4, "max": 0.4}


async def test_the_broker_of_the_file_is_listened_to(tmp_path: Path) -> None:
    """`--config F mqtt://localhost` keeps port, TLS and base of F: a subscriber can use the file of a run, also its client id."""
    need_mosquitto()
    certificates = make_certificates(tmp_path)
    broker = Broker(tmp_path / "broker", certificates=certificates, base="house").start()
    file = tmp_path / "s.toml"
    written = f'[mqtt]\nhost = "elsewhere"\nport = {broker.tls_port}\nbase = "house"\nclient_id = "porch-run"\n'
    file.write_text(f'{written}[mqtt.tls]\nca = "{certificates.ca}"\n', encoding="utf-8")
    try:
        process = await start("mqtt://localhost", "--config", str(file), "--json", "--count", "3", "--for", "60")
        await publish_when_heard(broker, tmp_path / "state", heard="porch-run-subscribe-")
        out, error = await asyncio.wait_for(process.communicate(), 40)
    finally:
        broker.stop()
    assert process.returncode == 0, error.decode()
    assert [decode(line).type for line in out.splitlines()] == ["new", "update", "end"]


async def test_a_message_beyond_the_contract_s_size_is_not_even_received(tmp_path: Path) -> None:
    """With MQTT 5 the broker does not send a message that is too large, so unread data are bounded in bytes; later messages arrive."""
    need_mosquitto()
    broker = Broker(tmp_path / "broker").start()
    try:
        summary = tmp_path / "summary.json"
        url = f"mqtt://127.0.0.1:{broker.port}"
        process = await start(url, "--json", "--count", "3", "--for", "60", "--summary", str(summary), "--set", "mqtt.protocol=5")
        await heard_by(broker)
        async with aiomqtt.Client("127.0.0.1", broker.port) as client:
            for size in (500_000, 300_000):  # the second is below the bound of packets, and refused when it is read
                await client.publish("streamav/porch/event", b"x" * size, qos=1)
        await publish_when_heard(broker, tmp_path / "state")
        _, error = await asyncio.wait_for(process.communicate(), 40)
    finally:
        broker.stop()
    assert process.returncode == 0, error.decode()
    told = json.loads(summary.read_text(encoding="utf-8"))
    assert (told["messages"], told["invalid"]) == (3, 1)


async def test_a_refused_login_ends_with_the_reason(tmp_path: Path) -> None:
    """A refusal that a retry cannot repair ends the command, and the error states what to do."""
    need_mosquitto()
    broker = Broker(tmp_path / "broker", passwords=True).start()
    try:
        process = await start(f"mqtt://{USER}@127.0.0.1:{broker.port}", "--for", "30")
        _, error = await asyncio.wait_for(process.communicate(), 40)
    finally:
        broker.stop()
    assert process.returncode != 0
    assert b"STREAMAV_MQTT_PASSWORD" in error


async def test_a_broker_that_was_never_reached_is_an_error() -> None:
    """When the time of --for is over without any connection, the command says so and fails: silence is not "no events"."""
    port = free_port()
    process = await start(f"mqtt://127.0.0.1:{port}", "--for", "2")
    _, error = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode != 0
    assert f"127.0.0.1:{port} was never reached".encode() in error


async def test_a_reader_that_goes_away_ends_it_cleanly(tmp_path: Path) -> None:
    """`streamav subscribe --json | head -1` ends without an error."""
    need_mosquitto()
    broker = Broker(tmp_path / "broker").start()
    try:
        process = await start(f"mqtt://127.0.0.1:{broker.port}/streamav", "--json", "--for", "60")
        assert process.stdout is not None
        process.stdout._transport.close()  # type: ignore[attr-defined]
        await publish_when_heard(broker, tmp_path / "state")
        _, error = await asyncio.wait_for(process.communicate(), 40)
    finally:
        broker.stop()
    assert (process.returncode, b"Traceback" in error) == (0, False)


def test_raw_output_cannot_command_a_terminal() -> None:
    """On a terminal `--json` prints the same JSON in ASCII: escape sequences, also of eight bits, and line ends become harmless."""
    from streamav.cli.subscribe import _printable

    data = '{"a":\r\n"\x9b31m \x7f é \U0001f415 \\u001b[2J",\t"b": 1e999}'.encode()
    shown = _printable(data)
    assert all(32 <= byte < 127 for byte in shown)
    assert json.loads(shown) == json.loads(data)
