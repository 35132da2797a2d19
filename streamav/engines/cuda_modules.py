"""Makes torch modules fit for a GPU: batch norms folded away, encoders in the recipe's precision, float32 at every border.

The localizer stays in float32 in every recipe. It costs next to nothing there (the window part is many small steps whose
time is their number, and one attention is 26 MFLOP), and it decides by hard comparison: positive sample propagation keeps
a pair whose share exceeds 0.99 / 10 where an even share is 1 / 10; the two are two steps of bfloat16 apart.
It knows no device.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.utils import fuse_conv_bn_eval

from streamav.engines.modules import FLOAT32_ALWAYS
from streamav.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from streamav.engines.recipe import Precision

__all__ = ["ENCODERS", "fold_norms", "lower"]

ENCODERS = ("visual", "audio")
_TYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def lower(modules: Mapping[str, nn.Module], precision: Precision) -> dict[str, nn.Module]:
    """Give the four modules in a precision; *modules* are changed.

    Args:
        modules: float32, in evaluation mode.
        precision: fp32, fp16 or bf16, of the two encoders but those of `FLOAT32_ALWAYS`.

    Raises:
        EngineError: when the precision is another one.
    """
    if precision not in _TYPES:
        msg = f"the engine cuda runs in {', '.join(_TYPES)}, got {precision}; change the recipe"
        raise EngineError(msg)
    return {name: _lowered(module, _TYPES[precision]) if name in ENCODERS else module for name, module in modules.items()}


def fold_norms(module: nn.Module) -> None:
    """Fold each batch norm into the convolution right before it: one pass over memory less for each.

    A norm that directly follows a convolution among a module's children is taken for that convolution's, as it is in all
    our encoders; the comparison with the reference would show one that is not.
    """
    for (name, convolution), (norm_name, norm) in itertools.pairwise(list(module.named_children())):
        if isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
            setattr(module, name, fuse_conv_bn_eval(convolution, norm))
            setattr(module, norm_name, nn.Identity())
    for child in module.children():
        fold_norms(child)


class _FloatOutput(nn.Module):
    """An encoder whose answer is float32."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, inputs: Tensor) -> Tensor:
        features: Tensor = self.encoder(inputs)
        return features.to(torch.float32)


def _lowered(encoder: nn.Module, dtype: torch.dtype) -> nn.Module:
    """Bring the layers that hold weights to *dtype*; what comes before the first of them (pixels to numbers) stays float32."""
    fold_norms(encoder)
    if isinstance(encoder, FLOAT32_ALWAYS):
        dtype = torch.float32
    # Half precision is fast on tensor cores, which want channels last; without them (float32) cuDNN is made for channels first.
    layout = torch.contiguous_format if dtype == torch.float32 else torch.channels_last
    for layer in encoder.modules():
        if isinstance(layer, nn.Conv2d):
            layer.to(dtype=dtype, memory_format=layout)  # type: ignore[call-overload] # torch's stubs lack the two together
            layer.register_forward_pre_hook(_Takes(dtype, layout))
        elif isinstance(layer, nn.Linear):
            layer.to(dtype)
            layer.register_forward_pre_hook(_Takes(dtype, None))
    return _FloatOutput(encoder)


class _Takes:
    """Gives a layer its input in a type and a layout; does nothing to what has both."""

    def __init__(self, dtype: torch.dtype, layout: torch.memory_format | None) -> None:
        self._dtype = dtype
        self._layout = layout

    def __call__(self, _layer: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        if self._layout is None:
            return tuple(tensor.to(self._dtype) for tensor in inputs)
        return tuple(tensor.to(self._dtype).contiguous(memory_format=self._layout) for tensor in inputs)
