"""Prepares torch modules for a GPU: folds batch norms, brings encoders to the recipe's precision, keeps float32 at every border.

The localizer stays in float32 in every recipe. float32 costs almost nothing there: the window part is many small steps, whose
number decides the time, and one attention is 26 MFLOP. And it decides by hard comparison: positive sample propagation keeps
a pair whose share exceeds 0.99 / 10, where an even share is 1 / 10; the two numbers are two steps of bfloat16 apart.
It moves nothing to a device.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.utils import fuse_conv_bn_eval

from streamav.engines.modules import FLOAT32_ALWAYS, ScoringEncoder
from streamav.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from streamav.engines.recipe import Precision

__all__ = ["ENCODERS", "fold_norms", "lower"]

ENCODERS = ("visual", "audio")
_TYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def lower(modules: Mapping[str, nn.Module], precision: Precision) -> dict[str, nn.Module]:
    """Return the four modules in the given precision; *modules* are changed.

    Args:
        modules: float32, in evaluation mode.
        precision: fp32, fp16 or bf16; it holds for the two encoders, except those of `FLOAT32_ALWAYS`.

    Raises:
        EngineError: when the precision is another one.
    """
    if precision not in _TYPES:
        msg = f"the engine cuda must run in {', '.join(_TYPES)}, got {precision}; change the recipe"
        raise EngineError(msg)
    return {name: _lowered(module, _TYPES[precision]) if name in ENCODERS else module for name, module in modules.items()}


def fold_norms(module: nn.Module) -> None:
    """Fold each batch norm into the convolution directly before it. This saves one pass over memory for each.

    A norm that directly follows a convolution among a module's children is assumed to belong to that convolution. This holds in all
    our encoders; the comparison with the reference would detect an exception.
    """
    for (name, convolution), (norm_name, norm) in itertools.pairwise(list(module.named_children())):
        if isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
            setattr(module, name, fuse_conv_bn_eval(convolution, norm))
            setattr(module, norm_name, nn.Identity())
    for child in module.children():
        fold_norms(child)


class _FloatFeatures(nn.Module):
    """Converts the features of an encoder to float32."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, inputs: Tensor) -> Tensor:
        features: Tensor = self.encoder(inputs)
        return features.to(torch.float32)

    def scores(self, features: Tensor) -> Tensor:
        """Return the class scores of float32 features, in float32."""
        scores: Tensor = self.encoder.scores(features)  # type: ignore[operator] # a ScoringEncoder's encoder has this method
        return scores


def _lowered(encoder: nn.Module, dtype: torch.dtype) -> nn.Module:
    """Convert an encoder's layers to *dtype*. A classifier on its features stays float32: bfloat16 is coarse for a sigmoid."""
    if isinstance(encoder, ScoringEncoder):
        return ScoringEncoder(_lowered_features(encoder.encoder, dtype))  # type: ignore[arg-type] # it has what ScoringEncoder calls
    return _lowered_features(encoder, dtype)


def _lowered_features(encoder: nn.Module, dtype: torch.dtype) -> _FloatFeatures:
    """Convert the layers that hold weights to *dtype*; what comes before the first of them (pixels to numbers) stays float32."""
    fold_norms(encoder)
    if isinstance(encoder, FLOAT32_ALWAYS):
        dtype = torch.float32
    # Tensor cores are fast in half precision with channels last; without them (float32) cuDNN is optimised for channels first.
    layout = torch.contiguous_format if dtype == torch.float32 else torch.channels_last
    for name, layer in encoder.named_modules():
        if isinstance(layer, nn.Conv2d):
            layer.to(dtype=dtype, memory_format=layout)  # type: ignore[call-overload] # torch's stubs lack the two together
            layer.register_forward_pre_hook(_Takes(dtype, layout))
        elif isinstance(layer, nn.Linear) and name != "classifier":
            layer.to(dtype)
            layer.register_forward_pre_hook(_Takes(dtype, None))
    return _FloatFeatures(encoder)


class _Takes:
    """Converts the input of a layer to a type and a layout; an input that has both is not changed."""

    def __init__(self, dtype: torch.dtype, layout: torch.memory_format | None) -> None:
        self._dtype = dtype
        self._layout = layout

    def __call__(self, _layer: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        if self._layout is None:
            return tuple(tensor.to(self._dtype) for tensor in inputs)
        return tuple(tensor.to(self._dtype).contiguous(memory_format=self._layout) for tensor in inputs)
