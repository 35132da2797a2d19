"""Tests a reload that adds, removes and reopens sources: `streamav run` as a program of its own, a real Mosquitto, the HTTP API."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import aiomqtt
import pytest
from rigs import waiting
from rigs.http_api import ask
from rigs.mosquitto import Broker
from rigs.program_environment import program_environment
from rigs.services import free_port

pytestmark = [pytest.mark.broker, pytest.mark.slow, pytest.mark.timeout(300)]

until = partial(waiting.until, within_s=90.0, every_s=0.05)


class Ear:
    """Another client of the broker: all that it heard, in order."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, bytes]] = []

    def at(self, topic: str) -> list[bytes]:
        return [payload for name, payload in self.heard if name == topic]

    def events(self, source: str) -> list[dict[str, Any]]:
        return [json.loads(one) for one in self.at(f"streamav/{source}/event")]

    def seconds(self, source: str) -> list[int]:
        """Return the segments whose final scores were published."""
        return [round(json.loads(one)["media_start_s"]) for one in self.at(f"streamav/{source}/scores")]


@asynccontextmanager
async def listening(broker: Broker) -> AsyncIterator[Ear]:
    ear = Ear()
    async with aiomqtt.Client("127.0.0.1", broker.port) as client:

        async def read() -> None:
            async for message in client.messages:
                ear.heard.append((str(message.topic), bytes(message.payload)))

        await client.subscribe("#", qos=1)
        reader = asyncio.create_task(read())
        try:
            yield ear
        finally:
            reader.cancel()


async def kept(broker: Broker) -> set[str]:
    """Return the topics of all retained values."""
    async with listening(broker) as ear:
        await asyncio.sleep(0.5)
    return {topic for topic, payload in ear.heard if payload}


class Service:
    """A run in the background, without a terminal, and its file of settings."""

    def __init__(self, folder: Path, bundle: Path, home: Path, broker: Broker) -> None:
        self.file, self.port = folder / "run.toml", free_port()
        self.environment = program_environment()
        self.environment |= {"STREAMAV_HOME": str(home), "STREAMAV_STATE_DIR": str(folder / "state")}
        self.head = (
            f"log.format = 'json'\nmodel.name = '{bundle}'\nhttp.listen = '127.0.0.1:{self.port}'\n[mqtt]\nhost = '127.0.0.1'\n"
            f"port = {broker.port}\nhomeassistant = true\ncommands = true\nscores = true\n"
        )
        self.said: list[dict[str, Any]] = []

    def write(self, **sources: str) -> None:
        tables = (f"[[sources]]\nid = '{name}'\n{text}\n" for name, text in sources.items())
        self.file.write_text(self.head + "".join(tables), encoding="utf-8")

    @asynccontextmanager
    async def running(self) -> AsyncIterator[asyncio.subprocess.Process]:
        command = [sys.executable, "-m", "streamav", "run", "--config", str(self.file)]
        before = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests may run under nohup, and a run keeps an ignored SIGHUP ignored
        try:
            process = await asyncio.create_subprocess_exec(
                *command, stderr=asyncio.subprocess.PIPE, env=self.environment, start_new_session=True
            )
        finally:
            signal.signal(signal.SIGHUP, before)
        reader = asyncio.create_task(self._read(process))
        try:
            yield process
        finally:
            if process.returncode is None:
                process.kill()
            await reader
            print(*self.said, sep="\n")  # noqa: T201 - pytest shows it when the test fails

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        assert process.stderr is not None
        async for line in process.stderr:
            self.said.append(json.loads(line))

    def lines(self, words: str) -> list[dict[str, Any]]:
        return [line for line in self.said if words in line["message"]]

    async def api(self, path: str) -> Any:  # noqa: ANN401 - JSON
        return (await asyncio.to_thread(ask, f"http://127.0.0.1:{self.port}/", path)).json


async def reload(service: Service, process: asyncio.subprocess.Process, words: str = "the settings were reloaded") -> dict[str, Any]:
    before = len(service.lines(words))
    process.send_signal(signal.SIGHUP)
    await until(lambda: len(service.lines(words)) > before)
    return service.lines(words)[-1]


def grown(ear: Ear, source: str, segments: int) -> Callable[[], bool]:
    """Return whether so many segments of a source were scored since now."""
    goal = len(ear.seconds(source)) + segments
    return lambda: len(ear.seconds(source)) >= goal


async def test_sources_come_and_go_and_the_one_that_stays_loses_nothing(
    broker: Broker, tiny_bundle: Path, engine_home: Path, tmp_path: Path
) -> None:
    """SIGHUP ends the removed source with its event and clears its topics and its device, and starts the added one; no segment is lost.

    Then a source with another address starts again, an address that nobody serves is `lost`, and a wrong file changes nothing.
    """
    service = Service(tmp_path, tiny_bundle, engine_home, broker)
    service.write(porch="scene = true", gate="scene = true")
    async with listening(broker) as ear, service.running() as process:
        await until(lambda: bool(ear.events("porch") and ear.events("gate")))
        assert "homeassistant/device/streamav_gate/config" in await kept(broker)

        service.write(porch="scene = true", yard="scene = true")
        said = await reload(service, process)
        assert (said["sources_added"], said["sources_removed"], said["sources_changed"]) == ("yard", "gate", "none")
        await until(lambda: bool(ear.events("yard")) and ear.at("streamav/gate/availability")[-1:] == [b""])
        await until(grown(ear, "porch", 2))

        assert ear.events("gate")[-1]["end_reason"] == "shutdown"
        assert ear.at("streamav/gate/availability")[-2:] == [b"offline", b""]
        assert not [topic for topic in await kept(broker) if "gate" in topic]
        assert {"homeassistant/device/streamav_yard/config", "streamav/yard/enabled/state"} <= await kept(broker)
        assert json.loads(ear.at("streamav/info")[-1])["sources"] == ["porch", "yard"]
        assert [one["id"] for one in (await service.api("api/sources"))["sources"]] == ["porch", "yard"]
        metrics = await asyncio.to_thread(ask, f"http://127.0.0.1:{service.port}/", "metrics")
        assert b'source="yard"' in metrics.body
        assert b'source="gate"' not in metrics.body

        nobody = f"rtsp://user:hunter2@127.0.0.1:{free_port()}/live"
        service.write(porch="scene = true", yard="scene = true\nduration_s = 900", attic=f"uri = '{nobody}'")
        said = await reload(service, process)
        assert (said["sources_added"], said["sources_removed"], said["sources_restarted"]) == ("attic", "none", "yard")
        await until(lambda: b"lost" in ear.at("streamav/attic/status") and b"online" in ear.at("streamav/yard/availability"))
        assert "homeassistant/device/streamav_yard/config" in await kept(broker)

        service.write(porch="scene = true", cellar="uri = 'there/is/none.mp4'")
        await reload(service, process, "not reloaded")
        assert [one["id"] for one in (await service.api("api/sources"))["sources"]] == ["porch", "yard", "attic"]
        await until(grown(ear, "porch", 2))

        process.terminate()
        assert await process.wait() == 0, service.said
    heard = ear.seconds("porch")
    assert heard == list(range(heard[0], heard[0] + len(heard)))
    story = [(one["id"], one["type"]) for one in ear.events("porch") if one["type"] != "update"]
    assert [kind for _, kind in story] == ["new", "end"] * (len(story) // 2)  # each event that began has ended, once
    assert not any("hunter2" in json.dumps(line) for line in service.said)
