"""Test of the first thing that a newcomer runs, `make run`, on a shorter scene."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from rigs.mosquitto import need_mosquitto


@pytest.mark.slow
@pytest.mark.broker
def test_the_demonstration_shows_its_events_and_the_next_commands(tmp_path: Path) -> None:
    """The demo finds the event of the scene, prints its begin and its end once, names the page, and ends with commands to go on with."""
    need_mosquitto()
    environment = {"PATH": "/usr/bin:/bin:/usr/sbin", "HOME": str(tmp_path), "PYTHONPATH": os.environ.get("PYTHONPATH", "")}
    if (cache := os.environ.get("XDG_CACHE_HOME") or str(Path("~/.cache").expanduser())) and Path(cache).is_dir():
        environment["XDG_CACHE_HOME"] = cache  # engines that are made already
    command = [sys.executable, "-m", "streamav", "demo", "--seconds", "12", "--speed", "max"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=110)
    lines = done.stdout.splitlines()
    assert done.returncode == 0, done.stdout + done.stderr
    told = [line for line in lines if re.search(r" clock +score ", line)]
    assert [re.sub(r".*Z  scene +(\w+) .*", r"\1", line) for line in told] == ["new", "end"]
    assert any("1 of 1 events found, 0 false events" in line for line in lines)
    assert any(re.search(r"\| view: http://127\.0\.0\.1:\d+/$", line) for line in lines)
    assert any(re.search(r"\|   \S*streamav run --source CLIP\.mp4 --view$", line) for line in lines)
    assert not any(line.startswith("demo      | p95") for line in lines)  # each line can be read alone
    assert done.stderr == ""
