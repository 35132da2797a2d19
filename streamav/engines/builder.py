"""Builds one engine in a separate process of lower priority, which always ends when this process ends.

A builder that crashes, hangs or prints without end cannot harm the process that wants the engine. That process gets one sentence of
bounded length.
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

from streamav.errors import reason_of
from streamav.setting_names import HOME, PREFIX

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import IO

    from streamav.engines.cache import EngineCache
    from streamav.engines.maker import EngineRequest

__all__ = ["BUILD_LIMIT_S", "build_command", "builder_environment", "end_with_parent", "run_builder"]

BUILD_LIMIT_S = 3600.0
"""A build that takes longer is stopped, s (our choice; TensorRT may take minutes for each large network)."""
_NICENESS = 5
"""By how much the builder's nice value is above ours. The builder gets a third of the run's share of a busy core (Linux: a factor of
1.25 a step); a higher value would starve it there."""
_LOWEST = 19
"""The highest nice value that Linux has."""
_STEP_S = 0.1
"""How often the builder's end and the stop event are checked, s."""
_FOR_BUILDER = frozenset({HOME})
"""The folder of models and engines; everything else that a builder needs is on its command line."""
_TAIL_BYTES = 4096
"""Bytes of the builder's output that are kept: the end names the error."""
_REASON_LETTERS = 300
"""Letters of this end that an error message shows."""


def build_command(request: EngineRequest, cache: EngineCache) -> list[str]:
    """Return the command line that makes an engine and puts it into *cache*; the command ends when its standard input is closed."""
    command = [sys.executable, "-m", "streamav", "engines", "build", "--model", str(request.bundle.path.resolve())]
    command += ["--engine", request.recipe.engine, "--precision", request.recipe.precision]
    command += ["--cache", str(cache.folder.resolve()), "--with-parent"]
    if request.settings.weights_dir is not None:
        command += ["--weights", str(request.settings.weights_dir)]
    return command


def builder_environment() -> dict[str, str]:
    """Return this process's environment without streamav's settings (broker's password, source URLs), except the home folder.

    `python -m` also imports modules from the working folder. The builder does so only if this process does.
    """
    kept = {name: value for name, value in os.environ.items() if name in _FOR_BUILDER or not name.startswith(PREFIX)}
    return kept if {"", str(Path.cwd())} & {*sys.path} else kept | {"PYTHONSAFEPATH": "1"}


def run_builder(command: Sequence[str], stop: threading.Event, limit_s: float = BUILD_LIMIT_S) -> str | None:
    """Run a builder until it ends; return the reason of a failure in half a sentence, or None after success.

    Args:
        command: the builder's command line.
        stop: once set, the builder is killed.
        limit_s: the builder is killed after this time, seconds.
    """
    try:
        # A new session, so that Ctrl-C at the terminal reaches only the run. The run then ends the builder and its child processes.
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
        return f"the builder cannot be started: {reason_of(exc)}"
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, process.pid, min(os.nice(0) + _NICENESS, _LOWEST))
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
    """End this process at once when its standard input is closed; that happens when the process that holds it ends in any way."""

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
    """End the builder and its children. This is safe for the cache: no lock stays and no half entry is seen."""
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    if process.stdin is not None:
        process.stdin.close()


def _keep_tail(stream: IO[bytes], tail: bytearray) -> None:
    """Read the whole output and keep only its end."""
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
    said = next((line.strip() for line in reversed(lines) if line.strip()), "it printed nothing")
    return f"the builder ended with status {status}: {said[-_REASON_LETTERS:]}"
