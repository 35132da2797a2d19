"""Turns torch modules into ONNX files with a free batch axis; needed once for each model, never while it runs.

It uses torch's older exporter, by tracing: on these networks, which have no branch that depends on data, it gives the same
operators as the newer one, in a fiftieth of the time, which is what a user waits for at the first start. The parity check
that follows every export would notice if a trace had frozen something.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import torch

from streamav.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray
    from torch import nn

__all__ = ["export_onnx"]

OPSET = 18
"""Version of the operators; LSTM and GRU have been the same since 14."""


def export_onnx(module: nn.Module, example: Sequence[NDArray[np.generic]], path: Path, outputs: int) -> None:
    """Write *module* as one ONNX file, weights inside.

    Args:
        module: in evaluation mode, on the CPU.
        example: inputs; a batch of two is traced, since a batch of one is easily taken for a constant.
        path: file to write.
        outputs: how many arrays the module gives.

    Raises:
        EngineError: when the module holds something that ONNX cannot say.
    """
    tensors = tuple(torch.tensor(array[:2]) for array in example)
    inputs = [f"in{place}" for place in range(len(tensors))]
    results = [f"out{place}" for place in range(outputs)]
    try:
        # Its warnings are of itself (it is the older one) and of shapes that are checked in Python, which are constants here.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                module,
                tensors,
                path,
                dynamo=False,
                input_names=inputs,
                output_names=results,
                dynamic_axes={name: {0: "batch"} for name in inputs + results},
                opset_version=OPSET,
            )
    except (RuntimeError, ValueError, TypeError, NotImplementedError, torch.onnx.errors.OnnxExporterError) as exc:
        msg = f"{type(module).__name__} cannot be exported to ONNX: {exc}"
        raise EngineError(msg) from exc
