"""Builds one engine in a process of its own, of lower priority, which nothing can keep alive longer than this one.

A builder that crashes, hangs or babbles cannot harm the process that wants the engine: it learns one sentence, within bounds.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from streamav.setting_names import HOME, PREFIX

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import IO

    from streamav.engines.cache import EngineCache
    from streamav.engines.making import EngineRequest

__all__ = ["BUILD_LIMIT_S", "build_command", "builder_environment", "end_with_parent", "run_builder"]

BUILD_LIMIT_S = 3600.0
"""A build that takes longer is given up (our choice; TensorRT may take minutes for each large network)."""
_NICENESS = 5
"""How far the builder steps back behind the run: a third of its share of a busy core (Linux: 1.25 a step); more would starve it there."""
_STEP_S = 0.1
"""How soon the end of the run is noticed."""
_FOR_BUILDER = frozenset({HOME})
"""Where models and engines lie; all else a builder needs is on its command line."""
_TAIL_BYTES = 4096
_REASON_LETTERS = 300


def build_command(request: EngineRequest, cache: EngineCache) -> list[str]:
    """Give the command line that makes an engine and puts it into *cache*; it ends when its standard input is closed."""
    command = [sys.executable, "-m", "streamav", "engines", "build", "--model", str(request.bundle.path.resolve())]
    command += ["--engine", request.recipe.engine, "--precision", request.recipe.precision]
    command += ["--cache", str(cache.folder.resolve()), "--with-parent"]
    if request.settings.weights_dir is not None:
        command += ["--weights", str(request.settings.weights_dir)]
    return command


def builder_environment() -> dict[str, str]:
    """Give the environment of a builder: ours without what it has no business with, the broker's password and addresses of sources.

    `python -m` would also import what lies in the working folder; where this process does not, the builder does not either.
    """
    kept = {name: value for name, value in os.environ.items() if name in _FOR_BUILDER or not name.startswith(PREFIX)}
    return kept if {"", str(Path.cwd())} & {*sys.path} else kept | {"PYTHONSAFEPATH": "1"}


def run_builder(command: Sequence[str], stop: threading.Event, limit_s: float = BUILD_LIMIT_S) -> str | None:
    """Run a builder until it ends; give what went wrong, in half a sentence, or None.

    Args:
        command: the builder.
        stop: once set, the builder is killed.
        limit_s: after so many seconds it is killed.
    """
    try:
        # A session of its own: Ctrl-C at the terminal is for the run, which then ends the builder and whatever that one started.
        process = subprocess.Popen(  # noqa: S603 - our own program
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            bufsize=0,
            start_new_session=True,
            env=builder_environment(),
        )
    except OSError as exc:
        return f"the builder cannot be started: {exc}"
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, process.pid, _NICENESS)
    tail = bytearray()
    reader = threading.Thread(target=_keep_tail, args=(process.stdout, tail), name="builder-output", daemon=True)
    reader.start()
    try:
        status = _wait(process, stop, limit_s)
    finally:
        _kill(process)
        reader.join(1.0)
    return _reason(status, bytes(tail)) if isinstance(status, int) else status


def end_with_parent() -> None:
    """End this process at once when its standard input is closed, which it is when the process that holds it dies in any way."""

    def watch() -> None:
        # os.read, not sys.stdin: a thread that waits inside sys.stdin would break the interpreter's orderly end.
        with contextlib.suppress(OSError):
            while os.read(0, 1):
                pass
        os._exit(1)

    threading.Thread(target=watch, name="parent", daemon=True).start()


def _wait(process: subprocess.Popen[bytes], stop: threading.Event, limit_s: float) -> int | str:
    end_s = time.monotonic() + limit_s
    while True:
        with contextlib.suppress(subprocess.TimeoutExpired):
            return process.wait(_STEP_S)
        if stop.is_set():
            return "the run ended first"
        if time.monotonic() > end_s:
            return f"the builder took longer than {limit_s:.0f} s"


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End the builder and its children; the cache is made for that: no lock stays, no half entry is seen."""
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    if process.stdin is not None:
        process.stdin.close()


def _keep_tail(stream: IO[bytes], tail: bytearray) -> None:
    """Read all that comes and keep the end of it."""
    with stream, contextlib.suppress(OSError, ValueError):
        while piece := stream.read(_TAIL_BYTES):
            tail += piece
            del tail[:-_TAIL_BYTES]


def _reason(status: int, tail: bytes) -> str | None:
    if status == 0:
        return None
    if status < 0:
        with contextlib.suppress(ValueError):
            return f"the builder was ended by {signal.Signals(-status).name}"
        return f"the builder was ended by signal {-status}"
    lines = ["".join(letter if letter.isprintable() else " " for letter in line) for line in tail.decode(errors="replace").splitlines()]
    said = next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")
    return f"the builder ended with status {status}: {said[-_REASON_LETTERS:]}"
