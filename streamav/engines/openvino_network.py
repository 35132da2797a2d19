"""Runs one ONNX file in OpenVINO on the CPU in float32, bfloat16, or int8 where the file is quantised.

The package is imported when the first network is loaded, and its telemetry is disabled: `import openvino` alone would report
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
    """Return why OpenVINO cannot be used here, in half a sentence, or None when it can.

    Args:
        hint: "bf16" also requires a processor that computes in bfloat16.
    """
    try:
        core = _core()
        able = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    except ImportError as exc:
        return f"the package openvino cannot be imported: {exc}; run: pip install openvino"
    except RuntimeError as exc:
        return f"OpenVINO does not support this CPU: {exc}"
    if hint == "bf16" and "BF16" not in able:
        return "this processor does not compute in bfloat16 (it has neither AVX512-BF16 nor AMX)"
    return None


class OpenVinoNetwork:
    """An ONNX file compiled for this processor; calls from several threads run one after another."""

    def __init__(self, path: Path, threads: int, hint: Hint = "f32") -> None:
        """Compile *path*.

        Args:
            path: the ONNX file; its quantised parts run in int8.
            threads: number of threads of each run.
            hint: precision of float numbers: exact float32, or bfloat16. On a processor with AMX OpenVINO would
                choose bfloat16 by itself; here it is used only on request.

        Raises:
            EngineError: when OpenVINO refuses the file.
        """
        settings = {
            "INFERENCE_PRECISION_HINT": hint,
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": threads,
            # Pinned threads would compete with those of capture, and with a second process, for the same cores.
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
            EngineError: when the inputs do not have the shapes and types that the network takes.
        """
        arrays = [np.ascontiguousarray(array) for array in inputs]
        try:
            with self._lock:
                results = self._request.infer(arrays, share_inputs=True)
                # Copies, since the next run overwrites the request's memory.
                return tuple(np.array(results[place], dtype=np.float32) for place in range(len(results)))
        except (RuntimeError, TypeError, ValueError) as exc:
            shapes = [f"{array.dtype} {array.shape}" for array in inputs]
            msg = f"network {self._name} cannot run on inputs of {shapes}: {' '.join(str(exc).split())}"
            raise EngineError(msg) from exc


@functools.cache
def _core() -> Any:  # noqa: ANN401 - the package ships no types
    """Return the one openvino.Core of this process."""
    with _telemetry_kept_out():
        import openvino

    return openvino.Core()


@contextlib.contextmanager
def _telemetry_kept_out() -> Iterator[None]:
    """Hide the telemetry package while OpenVINO is imported; OpenVINO then uses its own stub, which does nothing."""
    present = _TELEMETRY in sys.modules
    if not present:
        sys.modules[_TELEMETRY] = None  # type: ignore[assignment]  # None makes the import fail
    try:
        yield
    finally:
        if not present:
            del sys.modules[_TELEMETRY]
