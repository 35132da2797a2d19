"""Runs a frozen network as a function of arrays, in ONNX Runtime: encoders and teachers that are not trained.

It loads no weights and makes no examples.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray
    from torch import Tensor, nn

__all__ = ["session"]


def session(network: nn.Module, example: Tensor) -> Callable[[NDArray[np.generic]], NDArray[np.float32]]:
    """Return a network in eval mode as a function of arrays, in ONNX Runtime with torch's number of threads, for batches of 1 to 512."""
    from streamav.engines.onnx_runtime import onnxruntime

    batch = torch.export.Dim("batch", min=1, max=512)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "network.onnx"
        torch.onnx.export(network, (example,), file, dynamo=True, dynamic_shapes=({0: batch},), external_data=False, verbose=False)
        running = onnxruntime.InferenceSession(file.read_bytes(), options, providers=["CPUExecutionProvider"])
    name = running.get_inputs()[0].name
    return lambda x: np.asarray(running.run(None, {name: x})[0], dtype=np.float32)
