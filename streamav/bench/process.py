"""Runs a measurement of `streamav bench` in a separate process with pinned threads, and returns its result or its error.

The process is one of our modules run as a program: it reads one request as JSON and writes one result as JSON. An error that
streamav raises on purpose is raised again with the same class and exit status; any other failure becomes one sentence.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from streamav.engines.builder import builder_environment
from streamav.errors import CaptureError, DataError, EngineError, ModelError, SettingsError, StreamavError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["ask", "give"]

_BY_STATUS = {kind.exit_code: kind for kind in (SettingsError, CaptureError, ModelError, EngineError, DataError)}


def ask(module: str, request: Mapping[str, object], *, what: str, threads: int, limit_s: float) -> Any:  # noqa: ANN401 - JSON
    """Run *module* as a program on a request.

    Args:
        module: a module that calls give().
        request: values that JSON can hold.
        what: what is measured, for messages: "a trial of 4 streams".
        threads: value of OMP_NUM_THREADS in the process.
        limit_s: the process is stopped after this time, seconds.

    Raises:
        StreamavError: the error that the program raised.
        EngineError: when it failed in another way, or took too long.
    """
    environment = builder_environment() | {"OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "PASSIVE"}
    command = [sys.executable, "-m", module]
    try:
        done = subprocess.run(  # noqa: S603 - our own module
            command, input=json.dumps(request), capture_output=True, text=True, env=environment, timeout=limit_s, check=False
        )
    except subprocess.TimeoutExpired as exc:
        msg = f"{what} must end within {limit_s:.0f} s and did not; check whether other programs keep the machine busy"
        raise EngineError(msg) from exc
    last = done.stdout.strip().splitlines()[-1:]
    if done.returncode == 0 and last:
        return json.loads(last[0])
    if done.returncode in _BY_STATUS and last:
        msg = f"{what}: {json.loads(last[0])['error']}"
        raise _BY_STATUS[done.returncode](msg)
    said = done.stderr.strip().splitlines() or ["it ended and printed nothing"]
    msg = f"{what} failed: {said[-1]}"
    raise EngineError(msg)


def give(measure: Callable[[dict[str, Any]], object]) -> None:
    """Run as the program: read the request from standard input, and print the result of *measure* or the error that it raised.

    Raises:
        SystemExit: with the exit status of the error, when *measure* raised one of ours.
    """
    try:
        result = measure(json.load(sys.stdin))
    except StreamavError as exc:
        sys.stdout.write(json.dumps({"error": str(exc)}) + "\n")
        raise SystemExit(exc.exit_code) from exc
    sys.stdout.write(json.dumps(result) + "\n")
