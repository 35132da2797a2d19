"""Tests that a long run keeps its memory together."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

PROGRAM = """
import ctypes, threading
from streamav.heaps import keep_heaps_few
limited = keep_heaps_few() if {limit} else False
ready, done = threading.Barrier(13), threading.Barrier(13)
def fill():
    ready.wait()
    kept = [bytearray(10_000) for _ in range(50)]
    done.wait()
for _ in range(12):
    threading.Thread(target=fill, daemon=True).start()
ready.wait()
done.wait()
ctypes.CDLL(None).malloc_stats()
print(limited)
"""


def heaps(*, limit: bool, environment: dict[str, str] | None = None) -> tuple[int, str]:
    """Return how many heaps twelve threads get that allocate at the same time, and what was returned."""
    program = [sys.executable, "-c", PROGRAM.format(limit=limit)]
    done = subprocess.run(program, capture_output=True, text=True, check=True, timeout=60, env=environment)
    return done.stderr.count("Arena "), done.stdout.strip()


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has such heaps")
def test_many_threads_share_two_heaps() -> None:
    """Without the limit twelve threads get more than two heaps, with it two."""
    assert heaps(limit=False)[0] > 2
    assert heaps(limit=True) == (2, "True")


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has such heaps")
def test_the_environment_has_precedence(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who sets MALLOC_ARENA_MAX gets that number of heaps."""
    monkeypatch.setenv("MALLOC_ARENA_MAX", "4")
    assert heaps(limit=True) == (4, "False")
