"""Makes int8 ONNX files from float32 files: weights by channel, activations by their range over calibration inputs.

ONNX Runtime's own quantiser does the work; both CPU runtimes run its files. NNCF, which OpenVINO recommends, was rejected: its
files run in OpenVINO only, and it needs pandas, scikit-learn and a telemetry package.
"""

from __future__ import annotations

import contextlib
import logging
import warnings
from typing import TYPE_CHECKING

import streamav.engines.onnx_runtime  # noqa: F401 - turns the library's telemetry off, so it must come first
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
        # All pieces have the same size: the quantiser cannot merge ranges of unequal batches.
        self._pieces = iter(inputs[first : first + _PIECE] for first in range(0, len(inputs) - _PIECE + 1, _PIECE))

    def get_next(self) -> dict[str, NDArray[np.generic]] | None:
        piece = next(self._pieces, None)
        return None if piece is None else {"in0": piece}


def quantise(source: Path, target: Path, inputs: NDArray[np.generic]) -> None:
    """Write *target*: the network of *source* with int8 weights and uint8 activations.

    Args:
        source: an ONNX file with one input, in0.
        target: the ONNX file to write, in QDQ format.
        inputs: inputs on which the smallest and largest value of each activation are measured; the first axis is the batch, at least 2.

    Raises:
        EngineError: when there are too few inputs, or the quantiser fails.
    """
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    if len(inputs) < _PIECE:
        msg = f"calibration needs at least {_PIECE} inputs, got {len(inputs)}; give a longer clip"
        raise EngineError(msg)
    with _quiet():
        try:
            quantize_static(
                source,
                target,
                _Feeds(inputs),
                quant_format=QuantFormat.QDQ,
                per_channel=True,
                # Unsigned activations times signed weights: the only pair for which every x86 processor has instructions.
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                calibrate_method=CalibrationMethod.MinMax,
            )
        except Exception as exc:  # its exceptions have no common base but Exception
            msg = f"{source.name} cannot be quantised: {exc}"
            raise EngineError(msg) from exc


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
