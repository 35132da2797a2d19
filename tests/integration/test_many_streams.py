"""Tests several sources in one process: real media, real networks (random weights), a real broker, a source that really stops."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from rigs.mosquitto import Broker
from rigs.program_environment import program_environment
from rigs.services import free_port

from streamav.publish import EventMessage, decode

pytestmark = pytest.mark.slow  # whole programs, in real time

CLIP = "lavfi:testsrc=size=64x48:rate=12:duration={0}[out0];sine=frequency=440:sample_rate=16000:duration={0}[out1]"

CAMERA = """
import sys, time
import av, numpy as np
out = av.open(f"tcp://127.0.0.1:{sys.argv[1]}?listen=1", "w", format="mpegts")
picture, sound = out.add_stream("mpeg2video", rate=25), out.add_stream("mp2", rate=48000)
picture.width, picture.height, picture.pix_fmt = 64, 48, "yuv420p"
rng, began = np.random.default_rng(0), time.monotonic()
for number in range(25 * 600):
    shown = rng.integers(0, 256, (48, 64, 3), np.uint8)
    out.mux(picture.encode(av.VideoFrame.from_ndarray(shown, "rgb24")))
    heard = av.AudioFrame.from_ndarray(rng.integers(-9000, 9000, (1, 1920), np.int16), "s16", "mono")
    heard.sample_rate, heard.pts = 48000, number * 1920
    out.mux(sound.encode(heard))
    time.sleep(max(0.0, began + number / 25 - time.monotonic()))
"""
"""A network camera: MPEG-TS to the first client, at its own pace."""


@pytest.fixture
def camera() -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    """Return the port of a camera, and its process."""
    port = free_port()
    process = subprocess.Popen([sys.executable, "-c", CAMERA, str(port)], stderr=subprocess.DEVNULL)
    time.sleep(0.5)
    yield port, process
    process.kill()
    process.wait(10)


class Program:
    """The program with its own home folder, and a configuration of several sources."""

    def __init__(self, home: Path, folder: Path, model: Path) -> None:
        clean = program_environment()
        self.environment = clean | {"STREAMAV_HOME": str(home), "STREAMAV_STATE_DIR": str(folder / "state"), "COLUMNS": "200"}
        self.folder, self.model = folder, model

    def config(self, **sources: str) -> Path:
        """Write a file with a source for each name, with the given lines."""
        file = self.folder / "many.toml"
        tables = "".join(f'[[sources]]\nid = "{name}"\n{lines}\n' for name, lines in sources.items())
        file.write_text(f'{tables}[model]\nname = "{self.model}"\n', encoding="utf-8")
        return file

    def start(self, *arguments: str | Path) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "streamav", *map(str, arguments)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=self.environment)

    def __call__(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        process = self.start(*arguments)
        out, err = process.communicate(timeout=100)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)


@pytest.fixture
def program(engine_home: Path, tmp_path: Path, tiny_bundle: Path) -> Program:
    return Program(engine_home, tmp_path, tiny_bundle)


def read_until(process: subprocess.Popen[str], word: str) -> str:
    """Read standard error up to the line that holds *word*."""
    lines: list[str] = []
    assert process.stderr is not None
    for line in process.stderr:
        lines.append(line)
        if word in line:
            return "".join(lines)
    pytest.fail(f"{word!r} never came: {''.join(lines)}")


def messages(text: str) -> list[EventMessage]:
    return [decode(line.encode()) for line in text.splitlines()]


def test_a_camera_that_stops_ends_alone(program: Program, camera: tuple[int, subprocess.Popen[bytes]], tmp_path: Path) -> None:
    """A camera frozen by SIGSTOP is lost; the files run to their end with every segment, and the error names the camera."""
    port, process = camera
    once = "\n[sources.capture]\ntimeout_s = 1.0\nreconnect = false"
    file = program.config(
        gate=f'uri = "tcp://127.0.0.1:{port}"{once}', attic=f'uri = "{CLIP.format(22)}"', yard=f'uri = "{CLIP.format(23)}"'
    )
    written = tmp_path / "events.jsonl"
    run = program.start("run", "--config", file, "--jsonl", written, "--summary", tmp_path / "summary.json")
    read_until(run, "gate: online")
    process.send_signal(signal.SIGSTOP)
    _, err = run.communicate(timeout=100)
    assert run.returncode == 3, err
    assert "source gate: tcp://127.0.0.1" in err.splitlines()[-1]
    found = {one["id"]: one for one in json.loads((tmp_path / "summary.json").read_text(encoding="utf-8"))["sources"]}
    assert (found["attic"]["media_s"], found["yard"]["media_s"]) == (22.0, 23.0)
    assert found["gate"]["error"] is not None
    assert [found[name]["error"] for name in ("attic", "yard")] == [None, None]
    ends = {(one.source, one.end_reason) for one in messages(written.read_text(encoding="utf-8")) if one.type == "end"}
    assert {("attic", "ended"), ("yard", "ended")} <= ends
    assert all(reason in {"source_lost", "ended"} for source, reason in ends if source == "gate")


def test_a_file_that_is_missing_ends_the_run(program: Program) -> None:
    """The exit code is 3, and the error names the source. A camera that is missing keeps nobody from running: it is tried again."""
    done = program("run", "--config", program.config(attic=f'uri = "{CLIP.format(60)}"', gate='uri = "missing.mp4"'))
    assert done.returncode == 3, done.stderr
    assert "source gate: " in done.stderr.splitlines()[-1]
    assert "missing.mp4" in done.stderr


@pytest.mark.broker
def test_each_source_has_its_own_topics(program: Program, tmp_path: Path) -> None:
    """Events, states and availability have topics under each id, over one connection; JSON lines and terminal name the source too."""
    broker = Broker(tmp_path / "broker").start()
    try:
        url = f"mqtt://127.0.0.1:{broker.port}/house"
        listener = program.start("subscribe", url, "--json", "--for", "90")
        read_until(listener, "listening")
        lines = [f'uri = "{CLIP.format(seconds)}"\nspeed = "max"' for seconds in (13, 15)]
        done = program("run", "--config", program.config(attic=lines[0], yard=lines[1]), "--mqtt", url, "--jsonl", tmp_path / "e.jsonl")
        assert done.returncode == 0, done.stderr
        time.sleep(0.3)
        listener.send_signal(signal.SIGINT)
        received, _ = listener.communicate(timeout=20)
    finally:
        broker.stop()
    ends = {one.source: one.media_end_s for one in messages(received) if one.type == "end"}
    assert ends == {"attic": 13.0, "yard": 15.0}
    assert {one.source for one in messages((tmp_path / "e.jsonl").read_text(encoding="utf-8"))} == {"attic", "yard"}
    assert "2 sources (attic, yard)" in done.stderr
    assert "28 s of media" in done.stderr
    assert "attic: 13 s of media" in done.stderr


def test_how_many_streams_a_machine_carries_is_found(program: Program) -> None:
    """`streamav bench --streams 2 --json` lists each trial with its numbers, and the largest number carried."""
    done = program("bench", "--streams", "2", "--trial", "2", "--profile", program.model, "--threads", "1", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)["streams"]
    assert found["trials"][0]["streams"] == 1
    for trial in found["trials"]:
        assert trial["memory_mb"] > 1
        assert trial["load"] == pytest.approx(trial["streams"] * trial["realtime_factor"])
        assert 0 < trial["latency_p50_s"] <= trial["latency_p95_s"] <= trial["latency_p99_s"]
        carried = trial["dropped"] == trial["thinned"] == 0 and trial["latency_p95_s"] < 1.0
        assert trial["carried"] is carried
    assert found["most"] == max([trial["streams"] for trial in found["trials"] if trial["carried"]], default=0)


def test_a_file_can_be_decoded_by_every_stream(program: Program) -> None:
    """With `--source` each stream decodes the file itself, in a loop."""
    done = program(
        "bench", "--streams", "1", "--trial", "1", "--source", CLIP.format(3), "--profile", program.model, "--threads", "1", "--json"
    )
    assert done.returncode == 0, done.stderr
    (trial,) = json.loads(done.stdout)["streams"]["trials"]
    assert trial["latency_p50_s"] is not None
