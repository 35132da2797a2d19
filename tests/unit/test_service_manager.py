"""Tests of what the service manager is told, over a real datagram socket."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from rigs.roles import FakeExtractor, FakeLocalizer, FakeSource, RecordingSink, seconds

from streamav.app.service_manager import ServiceManager, attended, status_line
from streamav.pipeline import Pipeline, SourceSetup
from streamav.segmenter import SegmenterOptions
from streamav.thresholds import Thresholds
from streamav.tracker import LabelOptions
from streamav.types import Segment, SegmentFeatures, SourceState


class Listener:
    """The service manager's end of the socket."""

    def __init__(self, address: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(address)
        self._socket.setblocking(False)

    def lines(self) -> list[str]:
        found: list[str] = []
        while True:
            try:
                found += self._socket.recv(4096).decode().splitlines()
            except BlockingIOError:
                return found

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[Listener]:
    found = Listener(str(tmp_path / "notify"))
    yield found
    found.close()


def manager(tmp_path: Path, watchdog_s: float | None = None) -> ServiceManager:
    environment = {"NOTIFY_SOCKET": str(tmp_path / "notify")}
    if watchdog_s is not None:
        environment |= {"WATCHDOG_USEC": str(round(watchdog_s * 1e6)), "WATCHDOG_PID": str(os.getpid())}
    found = ServiceManager.of(environment)
    assert found is not None
    return found


class StuckExtractor(FakeExtractor):
    """Hangs, once it is told to, until it is released."""

    def __init__(self) -> None:
        super().__init__()
        self.stuck, self.release = threading.Event(), threading.Event()

    def extract(self, segments: Sequence[Segment]) -> list[SegmentFeatures]:
        if segments[0].index == 3:
            self.stuck.set()
            self.release.wait(30)
        return super().extract(segments)


async def test_a_pipeline_that_hangs_gives_no_signs_of_life(tmp_path: Path, listener: Listener) -> None:
    """While the loop takes turns the watchdog is fed; once a stage hangs it is not, so that the service manager restarts the run."""
    label = LabelOptions(label="bark", label_name="Bark", class_id=0, thresholds=Thresholds(on=0.5, off=0.3))
    extractor = StuckExtractor()
    setup = SourceSetup(
        id="porch",
        source=FakeSource(seconds([0.1] * 6)),
        segmenter=SegmenterOptions(frames_per_second=2, picture=(4, 4)),
        labels=(label,),
        latency_segments=1,
        paced=False,
    )
    pipeline = Pipeline([setup], extractor, FakeLocalizer(), RecordingSink())
    async with attended(manager(tmp_path, 0.3), lambda: pipeline.idle_s, lambda: pipeline.states):
        run = asyncio.create_task(pipeline.run())
        await asyncio.to_thread(extractor.stuck.wait, 30)
        await asyncio.sleep(0.6)
        before = listener.lines()
        await asyncio.sleep(0.6)
        during = listener.lines()
        extractor.release.set()
        await run
    assert before[0] == "READY=1"
    assert "WATCHDOG=1" in before
    assert "WATCHDOG=1" not in during
    assert listener.lines()[-2:] == ["STOPPING=1", "STATUS=ending the run"]


async def test_a_run_that_lives_feeds_the_watchdog(tmp_path: Path, listener: Listener) -> None:
    """While turns are taken there are several signs of life in the time that the watchdog allows, and a change of state is told."""
    states = {"porch": SourceState.WARMING_UP, "gate": SourceState.ONLINE}
    async with attended(manager(tmp_path, 0.6), lambda: 0.0, lambda: states):
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        states["gate"] = SourceState.LOST
        lines: list[str] = []
        async with asyncio.timeout(30):
            while lines.count("WATCHDOG=1") < 3:
                await asyncio.sleep(0.05)
                lines += listener.lines()
    assert "STATUS=1 of 2 sources online, warming up: porch" in lines
    assert "STATUS=0 of 2 sources online, warming up: porch, lost: gate" in lines


async def test_without_a_watchdog_there_are_no_signs_of_life(tmp_path: Path, listener: Listener) -> None:
    """A unit without WatchdogSec gets READY, STATUS and STOPPING only; a watchdog of another process is not ours."""
    environment = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "300000", "WATCHDOG_PID": str(os.getpid() + 1)}
    async with attended(ServiceManager.of(environment), lambda: 0.0, lambda: {"porch": SourceState.ONLINE}):
        await asyncio.sleep(0.1)
    assert listener.lines() == [
        "READY=1", "STATUS=1 of 1 sources online", "STOPPING=1", "STATUS=ending the run",
    ]  # fmt: skip


def test_an_abstract_socket_is_one_too() -> None:
    """An address that begins with @ is in the abstract name space, as systemd may use it."""
    name = f"streamav-test-{os.getpid()}"
    listener = Listener(f"\0{name}")
    found = ServiceManager.of({"NOTIFY_SOCKET": f"@{name}"})
    assert found is not None
    found.tell("READY=1")
    assert listener.lines() == ["READY=1"]
    listener.close()


@pytest.mark.parametrize("address", ["", "relative", "vsock:2:1234"])
def test_other_addresses_are_none(address: str) -> None:
    """Without a socket, or with an address of another kind, nobody is told anything."""
    assert ServiceManager.of({"NOTIFY_SOCKET": address}) is None


def test_a_manager_that_is_gone_harms_nobody(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """When nobody listens at the socket, one warning is logged and the run goes on."""
    found = manager(tmp_path)
    found.tell("READY=1")
    found.tell("WATCHDOG=1")
    assert len(caplog.records) == 1


@pytest.mark.parametrize("value", ["", "0", "-1", "abc", "1.5", "\u0663"])
def test_a_watchdog_that_is_no_time_is_none(value: str) -> None:
    """Only a whole number of microseconds above zero is a watchdog."""
    found = ServiceManager.of({"NOTIFY_SOCKET": "/run/x", "WATCHDOG_USEC": value})
    assert found is not None
    assert found.watchdog_s is None


def test_the_status_is_one_short_line() -> None:
    """The line names what is wrong, and stays short with many sources."""
    assert status_line({"a": SourceState.ONLINE}) == "1 of 1 sources online"
    many = status_line({f"camera-{number}": SourceState.LOST for number in range(64)})
    assert len(many) <= 200
    assert "\n" not in many
