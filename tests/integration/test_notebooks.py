"""Tests that the notebooks run from their first to their last cell, and say what their texts promise."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

EXAMPLES = Path(__file__).parents[2] / "examples"
EXECUTE = """
import json, sys, nbclient, nbformat
notebook = nbformat.read(sys.argv[1], as_version=4)
nbclient.NotebookClient(notebook, timeout=560, kernel_name="python3", resources={"metadata": {"path": sys.argv[2]}}).execute()
nbformat.write(notebook, sys.argv[3])
"""


def executed(name: str, folder: Path) -> list[dict[str, Any]]:
    """Run a notebook in a Jupyter kernel and return its cells with their outputs."""
    if any(importlib.util.find_spec(package) is None for package in ("nbclient", "ipykernel", "matplotlib")):
        if os.environ.get("CI"):
            pytest.fail("the packages nbclient, ipykernel and matplotlib must be installed")
        pytest.skip("nbclient, ipykernel or matplotlib is not installed")
    out = folder / name
    environment = os.environ | {
        "PYTHONDONTWRITEBYTECODE": "1",
        "IPYTHONDIR": str(folder / "ipython"),
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
    }
    command = [sys.executable, "-c", EXECUTE, str(EXAMPLES / name), str(folder), str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    cells: list[dict[str, Any]] = json.loads(out.read_text(encoding="utf-8"))["cells"]
    return cells


def printed(cells: list[dict[str, Any]]) -> str:
    """Return all text that the cells printed."""
    return "".join("".join(output.get("text", "")) for cell in cells for output in cell.get("outputs", []))


@pytest.mark.timeout(600)
def test_a_clip_is_explored(tmp_path: Path) -> None:
    """The notebook finds the clock, draws spectrogram, timeline and attention, and says why the helicopter is no event."""
    cells = executed("explore_a_clip.ipynb", tmp_path)
    said = printed(cells)
    assert "clock: 3 to " in said
    assert "second 13 of " in said
    assert "no event" in said
    pictures = [output for cell in cells for output in cell.get("outputs", []) if "image/png" in output.get("data", {})]
    assert len(pictures) == 2


@pytest.mark.timeout(600)
def test_two_models_are_trained_and_compared(tmp_path: Path) -> None:
    """The notebook trains two models on clips that it makes, compares them, and finds the event of a new clip."""
    said = printed(executed("train_and_compare.ipynb", tmp_path))
    assert "verdict: " in said
    assert "my_alarm" in said


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.ipynb")), ids=lambda path: path.name)
def test_a_notebook_is_stored_without_outputs(path: Path) -> None:
    """A notebook in the repository holds no outputs: they would be large and stale."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    assert all(not cell.get("outputs") and cell.get("execution_count") is None for cell in cells)
