"""One ONNX file in OpenVINO on the CPU, in float32, bfloat16, or as its quantised numbers say. It knows no model and no other runtime.

The package is asked for when the first network is loaded, and its telemetry is kept out: `import openvino` alone would report
to a server and leave an identifier in the user's home (2026.4.1, seen with strace).
"""

from __future__ import annotations

import contextlib
import functools
import sys
import threading
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from streamav.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["OpenVinoNetwork", "openvino_problem"]

Hint = Literal["f32", "bf16"]
_TELEMETRY = "openvino_telemetry"


@functools.cache
def openvino_problem(hint: Hint = "f32") -> str | None:
    """Say why OpenVINO cannot be used here, in half a sentence, or None when it can.

    Args:
        hint: bf16 asks also for a processor that computes in it.
    """
    try:
        core = _core()
        able = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    except ImportError as exc:
        return f"the package openvino cannot be imported: {exc}; run: pip install openvino"
    except RuntimeError as exc:
        return f"OpenVINO finds no CPU that it knows: {exc}"
    if hint == "bf16" and "BF16" not in able:
        return "this processor does not compute in bfloat16 (it has neither AVX512-BF16 nor AMX)"
    return None


class OpenVinoNetwork:
    """One ONNX file, compiled for this processor; calls from several threads wait for each other."""

    def __init__(self, path: Path, threads: int, hint: Hint = "f32") -> None:
        """Compile *path*.

        Args:
            path: ONNX file; what is quantised in it runs in int8.
            threads: of each run.
            hint: how float numbers are computed: exactly as float32, or in bfloat16. On a processor with AMX OpenVINO would
                take bfloat16 by itself; here nobody gets it without asking.

        Raises:
            EngineError: when OpenVINO refuses the file.
        """
        settings = {
            "INFERENCE_PRECISION_HINT": hint,
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": threads,
            # Pinned threads would fight with those of capture, and with a second process, for the same cores.
            "ENABLE_CPU_PINNING": False,
        }
        self._name = path.stem
        try:
            self._request = _core().compile_model(str(path), "CPU", settings).create_infer_request()
        except RuntimeError as exc:
            msg = f"OpenVINO cannot load {path}: {' '.join(str(exc).split())}"
            raise EngineError(msg) from exc
        self._lock = threading.Lock()

    def __call__(self, *inputs: NDArray[np.generic]) -> tuple[NDArray[np.float32], ...]:
        """Run the network.

        Raises:
            EngineError: when the inputs have not the shapes and types that the network takes.
        """
        arrays = [np.ascontiguousarray(array) for array in inputs]
        try:
            with self._lock:
                results = self._request.infer(arrays, share_inputs=True)
                # Its own copies: the request's memory is written again by the next run.
                return tuple(np.array(results[place], dtype=np.float32) for place in range(len(results)))
        except (RuntimeError, TypeError, ValueError) as exc:
            shapes = [f"{array.dtype} {array.shape}" for array in inputs]
            msg = f"network {self._name} cannot run on inputs of {shapes}: {' '.join(str(exc).split())}"
            raise EngineError(msg) from exc


@functools.cache
def _core() -> Any:  # noqa: ANN401 - the package ships no types
    """Give the one entrance to the library of this process."""
    with _telemetry_kept_out():
        import openvino

    return openvino.Core()


@contextlib.contextmanager
def _telemetry_kept_out() -> Iterator[None]:
    """Make the telemetry package look absent while OpenVINO is imported; OpenVINO then takes a stub of its own that does nothing."""
    present = _TELEMETRY in sys.modules
    if not present:
        sys.modules[_TELEMETRY] = None  # type: ignore[assignment]  # what makes an import fail
    try:
        yield
    finally:
        if not present:
            del sys.modules[_TELEMETRY]
