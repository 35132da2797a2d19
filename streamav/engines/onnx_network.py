"""Runs one ONNX file in ONNX Runtime on the CPU. It depends on no model and no other runtime."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from streamav.engines.onnx_runtime import onnxruntime
from streamav.errors import EngineError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["OnnxNetwork"]


class OnnxNetwork:
    """A loaded ONNX file; it may be called from several threads at once."""

    def __init__(self, path: Path, threads: int) -> None:
        """Load *path* with *threads* threads.

        Raises:
            EngineError: when ONNX Runtime refuses the file.
        """
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # Spinning threads would take the cores from capture and from other sources between two runs.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._name = path.stem
        try:
            self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        except Exception as exc:  # its exceptions have no common base but Exception
            msg = f"ONNX Runtime cannot load {path}: {' '.join(str(exc).split())}"
            raise EngineError(msg) from exc
        self._inputs = [port.name for port in self._session.get_inputs()]

    def __call__(self, *inputs: NDArray[np.generic]) -> tuple[NDArray[np.float32], ...]:
        """Run the network.

        Raises:
            EngineError: when the inputs do not have the shapes and types that the network takes.
        """
        try:
            # Only arrays that are not contiguous are copied.
            feed = {name: np.ascontiguousarray(array) for name, array in zip(self._inputs, inputs, strict=True)}
            return tuple(self._session.run(None, feed))
        except Exception as exc:  # its exceptions have no common base but Exception
            shapes = [f"{array.dtype} {array.shape}" for array in inputs]
            msg = f"network {self._name} cannot run on inputs of {shapes}: {' '.join(str(exc).split())}"
            raise EngineError(msg) from exc
