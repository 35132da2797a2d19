"""Corrects the biases of an ONNX network for the mean error that int8 weights will cause.

Rounding a weight shifts the mean of its output by the rounding error times the mean of its input. Over the fifty layers of a small
encoder these shifts add up. Each is known before the network is quantised, so the bias can take it away. Source: Nagel et al., Data-Free
Quantization Through Weight Equalization and Bias Correction, 2019, section 4.2, with measured means in the place of their estimate.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

import numpy as np
import onnx
from onnx import numpy_helper

from streamav.engines.onnx_network import OnnxNetwork

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["REDUCED_STEPS", "STEPS", "convolutions", "correct_biases", "is_pointwise"]

STEPS: Final = 127
"""Largest int8 weight: ONNX Runtime's quantiser scales the largest weight of each output channel to it."""
REDUCED_STEPS: Final = 64
"""The same with seven bits (`reduce_range`)."""


def convolutions(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """Return the convolutions of a network, in the order of the file."""
    return [node for node in model.graph.node if node.op_type == "Conv"]


def is_pointwise(model: onnx.ModelProto, node: onnx.NodeProto) -> bool:
    """Return whether a convolution is of 1 x 1 and takes all channels."""
    dims = next((one.dims for one in model.graph.initializer if one.name == node.input[1]), ())
    return _groups(node) == 1 and all(size == 1 for size in dims[2:])


def _groups(node: onnx.NodeProto) -> int:
    """Return the number of groups of a convolution; a depthwise one has as many as channels."""
    return next((one.i for one in node.attribute if one.name == "group"), 1)


def correct_biases(
    model: onnx.ModelProto, nodes: Sequence[onnx.NodeProto], pieces: Iterable[NDArray[np.generic]], scratch: Path, steps: int
) -> None:
    """Change the biases of *nodes* in place, so that rounded weights leave the mean of each output channel as it is.

    Args:
        model: a float32 network with one input, in0.
        nodes: convolutions of *model* whose weights will be int8. Those without a stored weight and bias are left alone.
        pieces: calibration inputs, each a batch.
        scratch: a file that may be written and deleted: the network with all these inputs as outputs.
        steps: largest stored value of a weight: `STEPS`, or `REDUCED_STEPS`.

    Raises:
        EngineError: when the network does not run on the inputs.
    """
    stored = {one.name: one for one in model.graph.initializer}
    nodes = [node for node in nodes if len(node.input) > 2 and {node.input[1], node.input[2]} <= {*stored}]  # noqa: PLR2004 - x, w, b
    means = _input_means(model, list(dict.fromkeys(node.input[0] for node in nodes)), pieces, scratch)
    for node in nodes:
        weight, bias = (numpy_helper.to_array(stored[name]) for name in node.input[1:3])
        error = (_rounded(weight, steps) - weight).sum(axis=tuple(range(2, weight.ndim)))
        share = means[node.input[0]].reshape(_groups(node), 1, -1)
        shift = (error.reshape(_groups(node), -1, error.shape[1]) * share).sum(-1).reshape(-1)
        stored[node.input[2]].CopyFrom(numpy_helper.from_array((bias - shift).astype(bias.dtype), node.input[2]))


def _rounded(weight: NDArray[np.floating], steps: int) -> NDArray[np.floating]:
    """Return a weight, output channels first, as int8 by channel will store it."""
    largest = np.abs(weight).max(axis=tuple(range(1, weight.ndim)), keepdims=True)
    step = np.where(largest > 0, largest / steps, 1)
    return np.asarray(np.round(weight / step) * step)


def _input_means(
    model: onnx.ModelProto, names: Sequence[str], pieces: Iterable[NDArray[np.generic]], scratch: Path
) -> dict[str, NDArray[np.floating]]:
    """Return the mean of each named value over the batch and the places, by channel."""
    open_model = onnx.ModelProto()
    open_model.CopyFrom(model)
    known = [one.name for one in (*model.graph.output, *model.graph.input)]
    open_model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in known)
    shown = [one.name for one in open_model.graph.output]
    onnx.save(open_model, scratch)
    try:
        network = OnnxNetwork(scratch, threads=len(os.sched_getaffinity(0)))
        sums: dict[str, NDArray[np.floating]] = {}
        count = 0
        for piece in pieces:
            values = dict(zip(shown, network(piece), strict=True)) | {"in0": piece}
            for name in names:
                sums[name] = sums.get(name, 0) + values[name].mean(axis=tuple(range(2, values[name].ndim))).sum(axis=0)
            count += len(piece)
    finally:
        scratch.unlink(missing_ok=True)
    return {name: total / count for name, total in sums.items()}
