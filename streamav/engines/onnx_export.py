"""Turns torch modules into ONNX files with a free batch axis; needed once for each model, never while it runs."""

from __future__ import annotations

import contextlib
import logging
import warnings
from typing import TYPE_CHECKING

import torch

from streamav.engines.onnx_recurrent import with_onnx_recurrent
from streamav.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray
    from torch import nn

__all__ = ["export_onnx"]

MAX_BATCH = 1024
"""Largest batch that the free axis is declared for; the exporter wants a bound."""
NOISY = ("torch.onnx", "onnxscript", "onnx_ir")


def export_onnx(module: nn.Module, example: Sequence[NDArray[np.generic]], path: Path) -> None:
    """Write *module* as one ONNX file, weights inside.

    Args:
        module: in evaluation mode, on the CPU.
        example: inputs with a batch of at least two (torch takes a batch of one for a constant).
        path: file to write.

    Raises:
        EngineError: when the module holds something that ONNX cannot say.
    """
    batch = torch.export.Dim("batch", min=1, max=MAX_BATCH)
    tensors = tuple(torch.tensor(array[:2]) for array in example)
    try:
        with _quiet():
            program = torch.onnx.export(
                with_onnx_recurrent(module),
                tensors,
                dynamo=True,
                dynamic_shapes=tuple({0: batch} for _ in tensors),
                verbose=False,
                external_data=False,
            )
            if program is None:
                msg = "the exporter gave nothing"
                raise EngineError(msg)
            program.save(path, external_data=False)
    except (RuntimeError, ValueError, TypeError, NotImplementedError, AssertionError) as exc:
        msg = f"{type(module).__name__} cannot be exported to ONNX: {exc}"
        raise EngineError(msg) from exc


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's notes (torchvision is absent, functions of torch itself are deprecated) out of the log."""
    loggers = [logging.getLogger(name) for name in NOISY]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
