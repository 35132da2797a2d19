"""Tests of `streamav run` as a separate program: real media, real networks (random weights), a real broker."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiomqtt
import av
import numpy as np
import pytest
from rigs.mosquitto import Broker
from rigs.program_environment import program_environment
from rigs.roles import LABELS
from rigs.services import free_port

from streamav.publish import EventMessage, decode

pytestmark = pytest.mark.slow  # whole programs, some seconds each

CLIP = "lavfi:testsrc=size=64x48:rate=12:duration={0}[out0];sine=frequency=440:sample_rate=16000:duration={0}[out1]"
WALL = {"start_time", "end_time", "start_ts", "end_ts", "latency_s", "segments"}
"""Fields that depend on the time of the run; `segments` contains such times."""


class Streamav:
    """The program with its own home folder."""

    def __init__(self, home: Path, state: Path) -> None:
        clean = program_environment()
        self.environment = clean | {"STREAMAV_HOME": str(home), "STREAMAV_STATE_DIR": str(state), "COLUMNS": "200"}

    def __call__(self, *arguments: str, timeout_s: float = 60.0) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "streamav", *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, env=self.environment, check=False)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "streamav", *arguments]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=self.environment)


@pytest.fixture
def streamav(engine_home: Path, tmp_path: Path) -> Streamav:
    return Streamav(engine_home, tmp_path / "state")


@pytest.fixture
def model(tiny_bundle: Path) -> tuple[str, str]:
    return "--model", str(tiny_bundle)


def messages(text: str) -> list[EventMessage]:
    """Read events, one per line; anything else fails."""
    return [decode(line.encode()) for line in text.splitlines()]


def timeless(text: str) -> list[dict[str, object]]:
    """Read events without the fields that depend on the wall clock."""
    found = []
    for line in text.splitlines():
        tree = json.loads(line)
        tree["seconds"] = [(one["score"], one["is_event"]) for one in tree["segments"]]
        found.append({key: value for key, value in tree.items() if key not in WALL})
    return found


def wait_for(process: subprocess.Popen[str], word: str) -> list[str]:
    """Read standard error until a line contains *word*."""
    lines: list[str] = []
    assert process.stderr is not None
    for line in process.stderr:
        lines.append(line)
        if word in line:
            return lines
    pytest.fail(f"{word!r} never came: {''.join(lines)}")


def test_a_file_becomes_lines_of_events_and_nothing_else(streamav: Streamav, model: tuple[str, str]) -> None:
    """Standard output holds complete messages only, standard error the summary; the exit status is 0."""
    done = streamav("run", "--source", CLIP.format(14), *model, "--speed", "max", "--jsonl", "-", "--id", "lab")
    assert done.returncode == 0, done.stderr
    found = messages(done.stdout)
    assert [found[0].type, found[-1].type, found[-1].end_reason] == ["new", "end", "ended"]
    assert {message.source for message in found} == {"lab"}
    assert found[-1].media_end_s == 14.0
    assert "no broker is named" in done.stderr
    assert "14 s of media" in done.stderr


@pytest.mark.slow
def test_a_run_at_its_own_pace_gives_what_a_fast_one_gives(streamav: Streamav, model: tuple[str, str]) -> None:
    """A live run and an offline run give the same messages and ids, except fields that depend on the wall clock."""
    runs = [
        streamav("run", "--source", CLIP.format(13), *model, "--speed", speed, "--jsonl", "-", "--latency", "3")
        for speed in ("1", "max", "max")
    ]
    assert [done.returncode for done in runs] == [0, 0, 0]
    first, *others = (timeless(done.stdout) for done in runs)
    assert first
    assert all(other == first for other in others)


@pytest.mark.broker
def test_events_reach_a_subscriber_over_a_real_broker(streamav: Streamav, model: tuple[str, str], broker: Broker, tmp_path: Path) -> None:
    """The messages that arrive through Mosquitto equal the written JSON lines, byte for byte except the latency."""
    url = f"mqtt://127.0.0.1:{broker.port}/house"
    written = tmp_path / "events.jsonl"
    listener = streamav.start("subscribe", url, "--json", "--for", "60")
    try:
        wait_for(listener, "listening")
        done = streamav(
            "run", "--source", CLIP.format(13), *model, "--speed", "max", "--mqtt", url, "--jsonl", str(written), "--id", "porch"
        )
        assert done.returncode == 0, done.stderr
        time.sleep(0.3)
    finally:
        listener.send_signal(signal.SIGINT)
        received, _ = listener.communicate(timeout=20)
    assert timeless(received) == timeless(written.read_text(encoding="utf-8"))
    assert messages(received)[-1].end_reason == "ended"


@pytest.mark.broker
async def test_scores_reach_a_subscriber_over_a_real_broker(streamav: Streamav, model: tuple[str, str], broker: Broker) -> None:
    """`--set mqtt.scores=true` publishes one message for each segment after the connection, in order, with all scores."""
    heard: list[dict[str, Any]] = []

    async def listen() -> None:
        async with aiomqtt.Client("127.0.0.1", broker.port) as client:
            await client.subscribe("house/porch/scores")
            listening.set()
            async for message in client.messages:
                heard.append(json.loads(bytes(message.payload)))  # noqa: PERF401 - it is looked at meanwhile

    listening = asyncio.Event()
    listener = asyncio.create_task(listen())
    await asyncio.wait_for(listening.wait(), 20)
    url = f"mqtt://127.0.0.1:{broker.port}/house"
    options = ("--speed", "max", "--mqtt", url, "--id", "porch", "--set", "mqtt.scores=true")
    done = await asyncio.to_thread(streamav, "run", "--source", CLIP.format(13), *model, *options)
    assert done.returncode == 0, done.stderr
    async with asyncio.timeout(20):
        while not heard or heard[-1]["media_start_s"] < 12:  # noqa: ASYNC110 - it is another process
            await asyncio.sleep(0.05)
    listener.cancel()
    assert [one["media_start_s"] for one in heard] == [float(second) for second in range(13 - len(heard), 13)]
    assert {frozenset(one["scores"]) for one in heard} == {frozenset(LABELS)}


@pytest.mark.slow
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 0), (signal.SIGHUP, 0)])
def test_a_signal_ends_the_run_in_order(streamav: Streamav, model: tuple[str, str], number: signal.Signals, status: int) -> None:
    """A signal ends open events as shut down and prints the summary; the exit status shows whether it was Ctrl-C."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests themselves may run under nohup, whose ignored SIGHUP is inherited
    process = streamav.start("run", "--source", CLIP.format(600), *model, "--jsonl", "-", "--set", "capture.queue_segments=1", "--verbose")
    wait_for(process, "new")
    process.send_signal(number)
    out, err = process.communicate(timeout=20)
    assert process.returncode == status, err
    found = messages(out)
    assert found[-1].type == "end"
    assert found[-1].end_reason == "shutdown"
    assert "s of media" in err


@pytest.mark.slow
def test_a_hangup_reloads_the_file_of_a_service(streamav: Streamav, model: tuple[str, str], tmp_path: Path) -> None:
    """Without a terminal, SIGHUP makes a run with --config take over new thresholds and name what needs a restart; the run goes on."""
    file = tmp_path / "run.toml"
    text = "log.format = 'json'\n[[sources]]\nid = 'porch'\nscene = true\n"
    file.write_text(text, encoding="utf-8")
    command = [sys.executable, "-m", "streamav", "run", "--config", str(file), *model]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=streamav.environment, start_new_session=True
    ) as run:
        assert run.stderr is not None
        said = []
        for changed in (None, "[sources.detection]\non = 0.91\noff = 0.3\n[view]\nport = 1234\n", "[sources.detection]\non = 7\n", ""):
            word = "warming up" if changed is None else "reloaded"
            if changed is not None:
                file.write_text(text + changed, encoding="utf-8")
                run.send_signal(signal.SIGHUP)
            for line in run.stderr:
                said.append(json.loads(line))
                if word in said[-1]["message"]:
                    break
        run.terminate()
        said += [json.loads(line) for line in run.stderr]
        assert run.wait(30) == 0
    reloads = [line for line in said if "reloaded" in line["message"]]
    assert [line.get("sources_changed") for line in reloads] == ["porch", None, "porch"]
    assert "detection.on" in reloads[1]["message"]
    assert any("after a restart only: view.port" in line["message"] for line in said)


def test_a_reader_that_goes_away_ends_the_run(streamav: Streamav, model: tuple[str, str]) -> None:
    """`streamav run --jsonl - | head -1` ends soon and without a traceback."""
    with streamav.start("run", "--source", CLIP.format(3000), *model, "--jsonl", "-", "--speed", "max") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert decode(process.stdout.readline().encode()).type == "new"
        process.stdout.close()
        err = process.stderr.read()
        assert process.wait(20) == 0, err
    assert "Traceback" not in err


def write_clip(path: Path, seconds: int = 3) -> Path:
    """Write a small MP4 file."""
    with av.open(str(path), "w") as out:
        video, audio = out.add_stream("mpeg4", rate=12), out.add_stream("aac", rate=16_000)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        for number in range(12 * seconds):
            picture = av.VideoFrame.from_ndarray(np.full((48, 64, 3), number * 5 % 256, np.uint8), "rgb24")
            out.mux(video.encode(picture))
        out.mux(video.encode())
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 16_000 * seconds), np.float32), "fltp", "mono")
        silence.sample_rate = 16_000
        out.mux(audio.encode(silence))
        out.mux(audio.encode())
    return path


def truncated(folder: Path) -> Path:
    whole = write_clip(folder / "whole.mp4").read_bytes()
    path = folder / "cut.mp4"
    path.write_bytes(whole[: len(whole) // 2])
    return path


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda folder: folder / "missing.mp4", "missing.mp4"),
        (truncated, "cut.mp4"),
        (lambda folder: folder, "cannot"),
    ],
    ids=["missing", "truncated", "folder"],
)
def test_media_that_cannot_be_used_end_with_3(
    streamav: Streamav, model: tuple[str, str], tmp_path: Path, make: Callable[[Path], Path], words: str
) -> None:
    """A wrong source gives one clear message, no traceback and no event."""
    done = streamav("run", "--source", str(make(tmp_path)), *model, "--speed", "max", "--jsonl", "-")
    assert done.returncode == 3, done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_a_file_that_is_no_media_is_told_once(streamav: Streamav, model: tuple[str, str], tmp_path: Path) -> None:
    """One sentence says what is wrong with a file, also with a live page: no state of a source, no figures, no advice on a page."""
    notes = tmp_path / "notes.mp4"
    notes.write_text("the camera is at the gate\n" * 100, encoding="utf-8")
    done = streamav("run", "--source", str(notes), *model, "--view-port", "0")
    assert done.returncode == 3, done.stderr
    assert done.stderr.count("notes.mp4") == 1, done.stderr
    assert not any(word in done.stderr for word in ("lost", "s of media", "--html"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(("--camera", "97", "--mic", "none such"), "none such"), (("--camera", "0"), "mic"), (("--mic", "default"), "camera")],
    ids=["unplugged", "no microphone", "no camera"],
)
def test_a_device_that_is_not_there_ends_with_3(streamav: Streamav, model: tuple[str, str], arguments: tuple[str, ...], words: str) -> None:
    """The message for a missing camera or microphone names it, and the run exits with 3."""
    done = streamav("run", *arguments, *model)
    assert done.returncode == 3, done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_a_damaged_bundle_ends_with_4(streamav: Streamav, tiny_bundle: Path, tmp_path: Path) -> None:
    """A missing or truncated model exits with 4 and without a traceback."""
    broken = tmp_path / "broken"
    broken.mkdir()
    for file in tiny_bundle.iterdir():
        content = file.read_bytes()
        (broken / file.name).write_bytes(content[: len(content) // 2] if file.suffix == ".safetensors" else content)
    for model in (broken, tmp_path / "none"):
        done = streamav("run", "--source", "scene", "--model", str(model))
        assert done.returncode == 4, done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("--set", "detection.latncy=3"),
        ("--set", "detection.classes.brak.on=0.5"),
        ("--mqtt", "mqtt://me:secret@127.0.0.1"),
        ("--jsonl", "/does/not/exist/events.jsonl"),
        ("--config", "/does/not/exist.toml"),
    ],
    ids=["unknown", "label", "password", "folder", "file"],
)
def test_a_wrong_setting_ends_with_2(streamav: Streamav, model: tuple[str, str], arguments: tuple[str, ...]) -> None:
    """A wrong setting exits with 2, without a traceback; a password is not repeated."""
    done = streamav("run", "--source", "scene", "--speed", "max", *model, *arguments)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert "secret" not in done.stderr


def test_without_its_broker_a_run_goes_on(streamav: Streamav, model: tuple[str, str], tmp_path: Path) -> None:
    """Without a broker on the port there is one warning; all events go to the file; the exit status is 5, messages wait."""
    url = f"mqtt://127.0.0.1:{free_port()}"
    events = tmp_path / "events.jsonl"
    done = streamav("run", "--source", CLIP.format(12), *model, "--speed", "max", "--mqtt", url, "--jsonl", str(events))
    assert done.returncode == 5, done.stderr
    assert messages(events.read_text(encoding="utf-8"))[-1].type == "end"
    assert done.stderr.count("nothing listens on that port") == 1


@pytest.mark.broker
def test_a_login_that_is_refused_is_said_once_and_the_run_goes_on(streamav: Streamav, model: tuple[str, str], tmp_path: Path) -> None:
    """The message states what to do and does not contain the password."""
    broker = Broker(tmp_path / "broker", passwords=True).start()
    try:
        streamav.environment["STREAMAV_MQTT_PASSWORD"] = "hunter2"  # noqa: S105 - the wrong one
        url = f"mqtt://publisher@127.0.0.1:{broker.port}"
        done = streamav("run", "--source", CLIP.format(12), *model, "--speed", "max", "--mqtt", url, "--verbose")
    finally:
        broker.stop()
    assert done.returncode == 5, done.stderr
    assert "password" in done.stderr
    assert "hunter2" not in done.stderr


@pytest.mark.slow
@pytest.mark.broker
def test_the_demonstration_runs_and_ends(streamav: Streamav, model: tuple[str, str]) -> None:
    """The demo starts broker, run and subscriber and compares events with the truth; random weights find none, so it exits with 1."""
    done = streamav("demo", "--seconds", "13", "--speed", "max", *model)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "0 of 1 events found" in done.stdout
    assert "real-time factor" in done.stdout
    assert "subscribe | " in done.stdout


@pytest.mark.slow
@pytest.mark.broker
def test_ctrl_c_ends_the_demonstration_and_leaves_nothing_behind(streamav: Streamav, model: tuple[str, str]) -> None:
    """Ctrl-C ends the demo with 130 and leaves no program running."""
    command = [sys.executable, "-m", "streamav", "demo", *model]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=streamav.environment, start_new_session=True
    ) as process:
        assert process.stdout is not None
        lines: list[str] = []
        timer = threading.Timer(50.0, process.kill)
        timer.start()
        for line in process.stdout:
            lines.append(line)
            if "warming up" in line:
                os.killpg(process.pid, signal.SIGINT)
        timer.cancel()
        assert process.wait(30) == 130, "".join(lines)
    port = next(line for line in lines if "mosquitto listens" in line).split("127.0.0.1:")[1].split(",")[0]
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", int(port)), 1.0)


def test_a_run_without_a_home_works(streamav: Streamav, model: tuple[str, str], tmp_path: Path) -> None:
    """In a container HOME may be missing and the user number unknown; models, engines and state are then in the temporary folder."""
    unknown = (
        "import pwd, sys\ndef nobody(uid): raise KeyError(uid)\npwd.getpwuid = nobody\nfrom streamav.cli import main\nsys.exit(main())"
    )
    names = {"HOME", "STREAMAV_HOME", "STREAMAV_STATE_DIR", "XDG_STATE_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME"}
    environment = {key: value for key, value in streamav.environment.items() if key not in names} | {"TMPDIR": str(tmp_path)}
    nowhere = ("--mqtt", f"mqtt://127.0.0.1:{free_port()}")
    done = subprocess.run(
        [sys.executable, "-c", unknown, "run", "--source", CLIP.format(3), *model, "--speed", "max", *nowhere],
        capture_output=True,
        text=True,
        timeout=60,
        env=environment,
        check=False,
    )
    assert done.returncode == 5, done.stderr
    assert "Traceback" not in done.stderr
    assert (tmp_path / f"streamav-{os.getuid()}" / ".local/state/streamav/mqtt").is_dir()
