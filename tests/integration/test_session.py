"""Tests `streamav record` and `streamav replay` as programs: real media, real networks (random weights), a recorder that is killed."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from rigs.program_environment import program_environment

pytestmark = pytest.mark.slow

CLIP = "lavfi:testsrc=size=64x48:rate=12:duration={0}[out0];sine=frequency=440:sample_rate=16000:duration={0}[out1]"


@pytest.fixture
def environment(engine_home: Path, tmp_path: Path) -> dict[str, str]:
    clean = program_environment()
    return clean | {"STREAMAV_HOME": str(engine_home), "STREAMAV_STATE_DIR": str(tmp_path / "state"), "COLUMNS": "200"}


def run(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "streamav", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=100, env=environment, check=False)


def test_a_recorded_run_is_repeated_byte_for_byte(environment: dict[str, str], tiny_bundle: Path, tmp_path: Path) -> None:
    """What record prints as events, replay prints again, also from a moved folder; --check says so, and finds one changed byte."""
    session, moved = tmp_path / "session", tmp_path / "moved"
    recorded = run(environment, "record", "--source", CLIP.format(14), "--out", str(session), "--model", str(tiny_bundle), "--jsonl", "-")
    assert recorded.returncode == 0, recorded.stderr
    assert recorded.stdout.count("\n") > 2
    session.rename(moved)
    replayed = run(environment, "replay", str(moved), "--jsonl", "-", "--check")
    assert replayed.returncode == 0, replayed.stderr
    assert replayed.stdout == recorded.stdout
    assert "the same as in the recorded run" in replayed.stderr
    events = moved / "events.jsonl"
    events.write_text(events.read_text().replace('"confirmed":true', '"confirmed":null', 1))
    other = run(environment, "replay", str(moved), "--check")
    assert other.returncode == 7
    assert "differs in confirmed" in other.stderr


def test_a_killed_recording_is_replayed_up_to_the_kill(environment: dict[str, str], tiny_bundle: Path, tmp_path: Path) -> None:
    """After kill -9 the session holds what was seen until then; its replay gives the events until then and says that it was cut off."""
    session = tmp_path / "session"
    options = ("--source", CLIP.format(60), "--speed", "1", "--out", str(session), "--model", str(tiny_bundle))
    process = subprocess.Popen([sys.executable, "-m", "streamav", "record", *options], stderr=subprocess.PIPE, env=environment)
    end_s = time.monotonic() + 60.0
    while not (session / "events.jsonl").exists() or not (session / "events.jsonl").stat().st_size:
        assert time.monotonic() < end_s
        time.sleep(0.2)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    replayed = run(environment, "replay", str(session), "--jsonl", "-", "--check")
    assert replayed.returncode == 0, replayed.stderr
    assert "cut off" in replayed.stderr
    assert replayed.stdout.splitlines()[0] == (session / "events.jsonl").read_text().splitlines()[0]
