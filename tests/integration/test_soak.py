"""A short soak: `make soak` runs for an hour."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from rigs.services import need

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.rtsp
@pytest.mark.timeout(180)
def test_six_sources_outlive_their_first_faults() -> None:
    """In less than a minute of six sources a killed RTSP server is noticed, and is back."""
    need("ffmpeg", "ffmpeg")
    program = [sys.executable, "-m", "tests.bench.soak", "--minutes", "0.8", "--faults-only"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}
    done = subprocess.run(program, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=170, check=False)
    assert "| RTSP server killed for 8 s | 1 |" in done.stdout
    assert done.returncode == 0, done.stdout + done.stderr[-2_000:]
