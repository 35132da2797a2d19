"""Makes int8 ONNX files from float32 files: weights by channel, activations by their range over calibration inputs, biases corrected.

ONNX Runtime's own quantiser does the work; both CPU runtimes run its files. NNCF, which OpenVINO recommends, was rejected: its
files run in OpenVINO only, and it needs pandas, scikit-learn and a telemetry package.
"""

from __future__ import annotations

import contextlib
import logging
import warnings
from typing import TYPE_CHECKING

import onnx

from streamav.engines.bias_correction import REDUCED_STEPS, STEPS, convolutions, correct_biases, is_pointwise
from streamav.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

__all__ = ["quantise"]

_PIECE = 2
"""Inputs that run at once while ranges are measured: VGG-19's activations of two pictures take 100 MB."""


class _Feeds:
    """Passes inputs to the quantiser in pieces."""

    def __init__(self, inputs: NDArray[np.generic]) -> None:
        self._pieces = iter(_pieces(inputs))

    def get_next(self) -> dict[str, NDArray[np.generic]] | None:
        piece = next(self._pieces, None)
        return None if piece is None else {"in0": piece}


def _pieces(inputs: NDArray[np.generic]) -> list[NDArray[np.generic]]:
    """Cut inputs into batches of one size: the quantiser cannot merge ranges of unequal batches."""
    return [inputs[first : first + _PIECE] for first in range(0, len(inputs) - _PIECE + 1, _PIECE)]


def quantise(source: Path, target: Path, inputs: NDArray[np.generic], *, pointwise: bool = False, reduced: bool = False) -> None:
    """Write *target*: the network of *source* with int8 weights and uint8 activations.

    Args:
        source: an ONNX file with one input, in0.
        target: the ONNX file to write, in QDQ format.
        inputs: inputs on which the smallest and largest value of each activation are measured; the first axis is the batch, at least 2.
        pointwise: True lowers the convolutions of 1 x 1 alone. They hold most of the work of small encoders and bear int8 best; all
            others stay float32. The layers of the class scores, which follow the features, always do.
        reduced: True uses seven of the eight bits of a weight, for processors on which int8 saturates (`machine.int8_saturates`).

    Raises:
        EngineError: when there are too few inputs, or the quantiser fails.
    """
    if len(inputs) < _PIECE:
        msg = f"calibration needs at least {_PIECE} inputs, got {len(inputs)}; use a longer clip"
        raise EngineError(msg)
    corrected = target.with_suffix(".corrected.onnx")
    with _quiet():
        try:
            model = onnx.load(source)
            spared = _beyond_features(model)
            if pointwise:
                spared |= {node.name for node in convolutions(model) if not is_pointwise(model, node)}
            lowered = [node for node in convolutions(model) if node.name not in spared]
            correct_biases(model, lowered, _pieces(inputs), corrected, REDUCED_STEPS if reduced else STEPS)
            onnx.save(model, corrected)
            _quantise(corrected, target, inputs, spared, pointwise=pointwise, reduced=reduced)
        except EngineError:
            raise
        except Exception as exc:  # its exceptions have no common base but Exception
            msg = f"{source.name} cannot be quantised: {exc}"
            raise EngineError(msg) from exc
        finally:
            corrected.unlink(missing_ok=True)


def _beyond_features(model: onnx.ModelProto) -> set[str]:
    """Return the names of the nodes that the first output, the features, does not depend on: they make the class scores.

    They hold little work, and 256 steps are too few for probabilities of a thousand classes.
    """
    made_by = {name: node for node in model.graph.node for name in node.output}
    needed, wanted = set(), [model.graph.output[0].name]
    while wanted:
        node = made_by.get(wanted.pop())
        if node is not None and node.name not in needed:
            needed.add(node.name)
            wanted += node.input
    return {node.name for node in model.graph.node} - needed


def _quantise(source: Path, target: Path, inputs: NDArray[np.generic], spared: set[str], *, pointwise: bool, reduced: bool) -> None:
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    quantize_static(
        source,
        target,
        _Feeds(inputs),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        reduce_range=reduced,
        # Unsigned activations times signed weights: the only pair for which every x86 processor has instructions.
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        calibrate_method=CalibrationMethod.MinMax,
        nodes_to_exclude=sorted(spared),
        op_types_to_quantize=["Conv"] if pointwise else None,
        # The sums before an activation have a wide range, of which the activation keeps a small part.
        extra_options={"OpTypesToExcludeOutputQuantization": ["Conv"]} if pointwise else {},
    )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Suppress the quantiser's messages to the root logger (which it would also set up) and its Python warnings."""
    root, nowhere = logging.getLogger(), logging.NullHandler()
    before = root.level
    root.addHandler(nowhere)
    root.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        root.setLevel(before)
        root.removeHandler(nowhere)
