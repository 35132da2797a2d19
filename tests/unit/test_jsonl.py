"""Tests of JSON lines, and of several sinks at once."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from rigs.published_events import MODEL, SCORES, make_event, story

from streamav.errors import SettingsError
from streamav.publish import FanOut, JsonlSink
from streamav.publish.message import decode
from streamav.types import Event, FinalScores, SourceState, Telemetry

TELEMETRY = Telemetry(frames_per_second=8.0, level_dbfs=None, latency_s=0.2, skew_ms=None, realtime_factor=0.1, dropped_segments=0)


async def test_each_event_is_one_line_and_is_there_at_once(tmp_path: Path) -> None:
    """Each event is written as one line and flushed at once, and nothing else is written."""
    sink = JsonlSink(tmp_path / "events.jsonl", lambda: MODEL)
    await sink.start()
    for count, event in enumerate(story(1, updates=2), start=1):
        sink.event(event, 0.25)
        sink.source_state("porch", SourceState.ONLINE, "because")
        sink.telemetry("porch", TELEMETRY)
        lines = (tmp_path / "events.jsonl").read_bytes().splitlines()
        assert len(lines) == count
        assert decode(lines[-1]).seq == event.sequence
    await sink.close()
    await sink.close()
    sink.event(make_event(), 0.1)
    assert sink.written == 4


async def test_a_second_run_appends(tmp_path: Path) -> None:
    """A second run appends to the lines of the first run."""
    for number in (1, 2):
        sink = JsonlSink(tmp_path / "events.jsonl", lambda: MODEL)
        sink.event(make_event(number), 0.1)
        await sink.close()
    assert len((tmp_path / "events.jsonl").read_bytes().splitlines()) == 2


def test_a_file_that_cannot_be_opened_is_said_before_the_run(tmp_path: Path) -> None:
    """A file that cannot be opened is a SettingsError before the run."""
    with pytest.raises(SettingsError, match="must be writable"):
        JsonlSink(tmp_path / "no" / "events.jsonl", lambda: MODEL)


def test_a_reader_that_goes_away_ends_the_writing_cleanly(tmp_path: Path) -> None:
    """With `... --jsonl - | head -1` the process notices the closed pipe and exits without an error."""
    program = tmp_path / "program.py"
    program.write_text(
        "import sys\n"
        f"sys.path[:0] = {[str(Path(__file__).parent.parent)]!r}\n"
        "from rigs.published_events import MODEL, make_event\n"
        "from streamav.publish import JsonlSink\n"
        "gone = []\n"
        "sink = JsonlSink('-', lambda: MODEL, on_gone=lambda: gone.append(1))\n"
        "for n in range(100000):\n"
        "    sink.event(make_event(n), 0.1)\n"
        "    if gone:\n"
        "        break\n"
        "print('this must not raise either')\n"
        "sys.exit(3 if gone == [1] else 4)\n",
        encoding="utf-8",
    )
    with subprocess.Popen([sys.executable, str(program)], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert json.loads(process.stdout.readline())["schema"] == "streamav.event/1"
        process.stdout.close()
        noise = process.stderr.read().decode()
        code = process.wait(timeout=60)
    assert (code, "Traceback" in noise, "Exception ignored" in noise) == (3, False, False)


async def test_one_broken_sink_does_not_silence_the_others(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Every call reaches every sink; the first failure of a sink is logged, further failures are only counted."""

    class Broken:
        async def start(self) -> None:
            raise OSError

        def event(self, event: Event, latency_s: float) -> None:
            raise ValueError

        def source_state(self, source: str, state: SourceState, reason: str) -> None:
            raise ValueError

        def telemetry(self, source: str, telemetry: Telemetry) -> None:
            raise ValueError

        def scores(self, source: str, scores: FinalScores) -> None:
            raise ValueError

        async def close(self) -> None:
            raise OSError

    good = JsonlSink(tmp_path / "events.jsonl", lambda: MODEL)
    sinks = FanOut([Broken(), good])
    await sinks.start()
    for event in story(1):
        sinks.event(event, 0.1)
    sinks.source_state("porch", SourceState.LOST, "unplugged")
    sinks.telemetry("porch", TELEMETRY)
    sinks.scores("porch", SCORES)
    await sinks.close()
    assert good.written == 3
    assert sinks.failures == 8
    assert len(caplog.records) == 1


def test_a_full_disk_leaves_whole_lines_and_is_counted(tmp_path: Path) -> None:
    """An event that does not fit is taken back to the last whole line and counted; when there is room again, the next one is written."""
    file = tmp_path / "events.jsonl"
    program = (
        "import resource, sys\n"
        f"sys.path[:0] = {[str(Path(__file__).parent.parent)]!r}\n"
        "from rigs.published_events import MODEL, make_event\n"
        "from streamav.publish.jsonl import JsonlSink\n"
        f"sink = JsonlSink({str(file)!r}, lambda: MODEL)\n"
        "sink.event(make_event(1), 0.1)\n"
        "size = __import__('os').path.getsize(sink._target)\n"
        "hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (size + 40, hard))\n"
        "sink.event(make_event(2), 0.1)\n"
        "sink.event(make_event(3), 0.1)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))\n"
        "sink.event(make_event(4), 0.1)\n"
        "print(sink.written, sink.shortfall)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == f"2 2 events were not written to {file} (File too large)\n"
    assert done.stderr.count("not written") == 1
    lines = file.read_bytes().splitlines(keepends=True)
    assert len(lines) == 2
    assert all(json.loads(line)["type"] == "new" and line.endswith(b"\n") for line in lines)
