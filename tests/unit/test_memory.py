"""Tests of the resident memory that a process reports of itself."""

from __future__ import annotations

import subprocess
import sys

import pytest

CHILD = "from streamav.memory import peak_memory_mb; print(peak_memory_mb())"
PARENT = f"""
import subprocess, sys
held = bytearray(300_000_000)
print(subprocess.run([sys.executable, "-c", {CHILD!r}], capture_output=True, text=True, check=True, timeout=60).stdout)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells the peak of a process without that of its parent")
def test_the_memory_of_a_parent_is_not_counted() -> None:
    """A small process that a large one started reports its own peak; getrusage reports that of the large one."""
    done = subprocess.run([sys.executable, "-c", PARENT], capture_output=True, text=True, check=True, timeout=60)
    assert 5 < float(done.stdout) < 250


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells the peak of a process without that of its parent")
def test_the_peak_stays_when_memory_is_freed() -> None:
    """The peak holds what was used and freed before."""
    program = f"held = bytearray(300_000_000); del held\n{CHILD}"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert float(done.stdout) > 300
