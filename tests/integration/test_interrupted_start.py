"""Tests of Ctrl-C before a command has begun, with real processes: Python loads many modules first, which takes half a second and more."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

LOADING = "import sys, time\nprint('loading', flush=True)\ntime.sleep(60)\n"
"""A module that is loaded when the signal comes, at whatever speed."""


def _heed_ctrl_c() -> None:
    """Take the signal again: a shell lets commands that it starts in the background ignore it, and they pass that on."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.parametrize("module", ["typer", "numpy"])
def test_ctrl_c_while_modules_load_ends_with_130_and_no_traceback(module: str, tmp_path: Path) -> None:
    """Both while the command line itself loads (typer) and while a command loads (numpy)."""
    (tmp_path / f"{module}.py").write_text(LOADING, encoding="utf-8")
    path = os.pathsep.join([str(tmp_path), str(Path(__file__).parents[2])])
    process = subprocess.Popen(
        [sys.executable, "-m", "streamav", "devices"],
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=_heed_ctrl_c,  # noqa: PLW1509 - this process has one thread here
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "loading\n"
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (130, "")
