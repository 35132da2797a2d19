"""Tests of a run that begins on one engine while a real process builds another, and then changes over."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from rigs.roles import FakeSource, RecordingSink
from rigs.services import wait_until

from streamav import app
from streamav.config import ModelSettings, Settings, SourceSettings
from streamav.engines import SwapEngine, selection, swap
from streamav.pipeline import RunSummary
from streamav.publish import EventMessage, decode
from streamav.types import SAMPLE_RATE_HZ, SEGMENT_NS, AudioBlock, Event, VideoFrame

pytestmark = pytest.mark.slow  # builds an engine

SECONDS = 30
"""Length of the source; it waits in its middle until the other engine is ready or the test continues."""
CPU = {"onnxruntime-fp32", "openvino-fp32"}
"""Names of the CPU engine, by the runtime of its visual encoder."""


def items(gate: threading.Event) -> list[AudioBlock | VideoFrame | threading.Event]:
    """Return seconds of noise and pictures; the source waits at *gate* in its middle."""
    generator = np.random.default_rng(3)
    found: list[AudioBlock | VideoFrame | threading.Event] = []
    for index in range(SECONDS):
        if index == SECONDS // 2:
            found.append(gate)
        start_ns = index * SEGMENT_NS
        for step in range(2):
            pixels = generator.integers(0, 255, (112, 112, 3), np.uint8)
            found.append(VideoFrame(start_ns=start_ns + step * SEGMENT_NS // 2, pixels=pixels))
        found.append(AudioBlock(start_ns=start_ns, samples=generator.normal(0, 0.1, SAMPLE_RATE_HZ).astype(np.float32)))
    return [*found, VideoFrame(start_ns=SECONDS * SEGMENT_NS, pixels=np.zeros((112, 112, 3), np.uint8))]


class Rig:
    """Runs the tiny model on the same seconds, with a home folder of its own."""

    def __init__(self, model: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.model, self.folder, self.monkeypatch = model, folder, monkeypatch
        monkeypatch.setenv("STREAMAV_HOME", str(folder / "home"))
        monkeypatch.setattr(selection, "is_slow", lambda *_: True)

    def run(
        self,
        name: str,
        *,
        engine: str = "auto",
        speed: str = "1",
        meanwhile: Callable[[app.Application, threading.Event], None] | None = None,
    ) -> tuple[list[EventMessage], list[Event], RunSummary]:
        """Run once; *meanwhile* is called in a thread with the application and the gate, which it must open."""
        gate = threading.Event()
        self.monkeypatch.setattr("streamav.app.setups.open_source", lambda *_, **__: FakeSource(items(gate)))
        written, sink = self.folder / f"{name}.jsonl", RecordingSink()
        settings = Settings(
            source=SourceSettings.model_validate({"uri": "fake", "speed": speed}),
            model=ModelSettings.model_validate({"name": str(self.model), "engine": engine, "threads": 1}),
            jsonl=str(written),
        )
        application = app.build(settings, [sink])
        thread = threading.Thread(target=gate.set if meanwhile is None else lambda: meanwhile(application, gate))
        thread.start()
        summary = asyncio.run(app.run(application))
        thread.join(30)
        return [decode(line.encode()) for line in written.read_text(encoding="utf-8").splitlines()], sink.events, summary


@pytest.fixture
def rig(tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Rig:
    return Rig(tiny_bundle, tmp_path, monkeypatch)


def after_the_build(application: app.Application, gate: threading.Event) -> None:
    """Open the gate when the other engine is ready."""
    if isinstance(application.engine, SwapEngine):
        application.engine.wait(90)
    gate.set()


def test_a_run_changes_over_without_losing_a_second(rig: Rig) -> None:
    """The first events come from torch and the later ones from the engine of a real builder; each segment has its event.

    Only the name of the engine and the last digits differ from a run on one engine.
    """
    changing, events, summary = rig.run("changing", meanwhile=after_the_build)
    plain, _, _ = rig.run("plain", engine="torch")
    backends = [message.model.backend for message in changing]
    first = backends.index(next(name for name in backends if name != "torch-fp32"))
    assert first > 0
    assert set(backends[:first]) == {"torch-fp32"}
    assert len(set(backends[first:])) == 1
    assert backends[first] in CPU
    told = [message for message in changing if message.type != "end"]
    assert [message.type for message in changing] == [message.type for message in plain]
    assert np.all(np.diff([event.newest_end_ns for event in events if event.end_ns is None]) == SEGMENT_NS)
    for one, other in zip(told, plain, strict=False):
        assert (one.id, one.seq, one.label, one.media_start_s, one.duration_s) == (
            other.id,
            other.seq,
            other.label,
            other.media_start_s,
            other.duration_s,
        )
        assert one.score == pytest.approx(other.score, abs=2e-3)
    assert summary.media_s == SECONDS
    assert summary.dropped_segments == 0
    # The built engine stays: the next run begins on it.
    again, _, _ = rig.run("again")
    assert {message.model.backend for message in again} == {backends[first]}


def test_a_build_never_stands_in_the_way(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A builder that hangs delays no label, and has ended when the run ends."""
    import sys

    note = rig.folder / "pid"
    program = "import os, pathlib, sys, time; pathlib.Path(sys.argv[1]).write_text(str(os.getpid())); time.sleep(600)"
    monkeypatch.setattr(swap, "build_command", lambda *_: [sys.executable, "-c", program, str(note)])

    def once_it_runs(_: app.Application, gate: threading.Event) -> None:
        wait_until("the builder", lambda: note.exists() and note.read_text(encoding="ascii") != "", 30)
        gate.set()

    found, _, summary = rig.run("hanging", meanwhile=once_it_runs)
    assert summary.media_s == SECONDS
    assert found[-1].end_reason == "ended"
    assert {message.model.backend for message in found} == {"torch-fp32"}
    assert not Path(f"/proc/{note.read_text(encoding='ascii')}").exists()


def test_a_replay_at_full_speed_waits(rig: Rig) -> None:
    """The results of a replay do not depend on the build time: the wanted engine computes every event."""

    def at_once(application: app.Application, gate: threading.Event) -> None:
        assert not isinstance(application.engine, SwapEngine)
        gate.set()

    found, _, _ = rig.run("max", speed="max", meanwhile=at_once)
    assert {message.model.backend for message in found} < CPU
