"""Helpers of the rigs that start real services: a check for a needed program, a free port, a wait for a condition."""

from __future__ import annotations

import os
import shutil
import socket
import time
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable


def need(program: str, package: str) -> None:
    """Skip the test when *program* is missing; fail when CI=true, because a test that CI skips is never run."""
    if shutil.which(program) is None:
        missing(f"{program} is missing: apt-get install {package}")


def missing(message: str) -> None:
    """Fail the test in CI; skip it elsewhere."""
    if os.environ.get("CI") == "true":
        pytest.fail(message)
    pytest.skip(message)


def free_port() -> int:
    """Return a port of the loopback interface that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until(what: str, holds: Callable[[], bool], seconds: float = 10.0) -> None:
    """Wait until a condition holds; fail the test with the condition's name after *seconds*."""
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            pytest.fail(f"waited {seconds} s without success for: {what}")
        time.sleep(0.02)
