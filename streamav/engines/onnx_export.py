"""Exports torch modules as ONNX files with a free batch axis; this is done once for each model, never during a run.

It uses torch's older exporter, which traces the module. These networks have no branch that depends on data, so tracing gives the same
operators as the newer exporter, in a fiftieth of the time, and the user waits for the export at the first start. The comparison
that follows every export would detect a value that the trace froze.
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
"""Version of the ONNX operators; LSTM and GRU have been the same since 14."""


def export_onnx(
    module: nn.Module,
    example: Sequence[NDArray[np.generic]],
    path: Path,
    outputs: int,
    names: tuple[Sequence[str], Sequence[str]] | None = None,
) -> None:
    """Write *module* as one ONNX file, weights inside.

    Args:
        module: in evaluation mode, on the CPU.
        example: inputs; two of them are traced, since a batch of one is easily taken for a constant.
        path: the file to write.
        outputs: number of arrays that the module returns.
        names: of inputs and outputs; None for in0, in1 ... and out0, out1 ...

    Raises:
        EngineError: when the module holds something that ONNX cannot express.
    """
    tensors = tuple(torch.tensor(array[:2]) for array in example)
    inputs = [f"in{place}" for place in range(len(tensors))] if names is None else list(names[0])
    results = [f"out{place}" for place in range(outputs)] if names is None else list(names[1])
    try:
        # The exporter warns that it is the older one, and about shapes that are checked in Python; these shapes are constants here.
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
