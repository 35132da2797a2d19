"""Runs a frozen network as a function of arrays, in ONNX Runtime: encoders and teachers that are not trained.

It loads no weights and makes no examples.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from streamav.engines.onnx_export import export_onnx
from streamav.engines.onnx_runtime import onnxruntime

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray
    from torch import Tensor, nn

__all__ = ["session"]


def session(network: nn.Module, example: Tensor) -> Callable[[NDArray[np.generic]], NDArray[np.float32]]:
    """Return a network as a function of arrays with a free batch axis, in ONNX Runtime with torch's number of threads.

    Args:
        network: in evaluation mode, on the CPU; of several results the function returns the first.
        example: an input of two.

    Raises:
        EngineError: when the network holds something that ONNX cannot express.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "network.onnx"
        export_onnx(network, [example.numpy()], file, outputs=1)
        running = onnxruntime.InferenceSession(file.read_bytes(), options, providers=["CPUExecutionProvider"])
    name = running.get_inputs()[0].name
    return lambda x: np.asarray(running.run(None, {name: x})[0], dtype=np.float32)
