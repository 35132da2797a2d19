"""EfficientNet-Lite: public picture encoders that were made for int8 (ReLU6, no squeeze-and-excitation), with ImageNet's classes.

Source: tensorflow/tpu models/official/efficientnet/lite (README and efficientnet_lite_builder.py); arXiv 1905.11946, Table 1.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from streamav.errors import ModelError
from streamav.networks.regions import region_means
from streamav.networks.same_padding import SameConv2d

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["EFFICIENTNET_LITE_CHANNELS", "EfficientNetLite", "efficientnet_lite_state"]

EFFICIENTNET_LITE_CHANNELS = 1280
"""V: features of one grid cell. The lite networks do not scale the last layer."""
IMAGENET_CLASSES = 1000
"""Classes of the classifier: ImageNet-1k."""
_MEAN, _SCALE = 127.0, 128.0
"""Source: efficientnet_lite_builder.py, MEAN_RGB and STDDEV_RGB."""
_EPSILON = 1e-3
_STEM = 32


class _Stage(NamedTuple):
    repeats: int
    kernel: int
    stride: int
    expansion: int
    channels: int


_STAGES = (
    _Stage(1, 3, 1, 1, 16),
    _Stage(2, 3, 2, 6, 24),
    _Stage(2, 5, 2, 6, 40),
    _Stage(3, 3, 2, 6, 80),
    _Stage(3, 5, 1, 6, 112),
    _Stage(4, 5, 2, 6, 192),
    _Stage(1, 3, 1, 6, 320),
)
"""EfficientNet-B0. The lite networks do not repeat the first and the last stage more often."""
_SCALES = {0: (1.0, 1.0), 1: (1.0, 1.1), 2: (1.1, 1.2)}
"""Factors of width and depth, by the number in the name."""


class _Convolution(nn.Module):
    """Convolution with TensorFlow's SAME padding, and batch norm."""

    def __init__(self, inputs: int, outputs: int, *, kernel: int = 1, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.convolution = SameConv2d(inputs, outputs, kernel, stride, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(outputs, eps=_EPSILON)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.norm(self.convolution(x))
        return y


class _Block(nn.Module):
    """Inverted residual: expand, depthwise, project."""

    def __init__(self, inputs: int, outputs: int, stage: _Stage, stride: int) -> None:
        super().__init__()
        inner = inputs * stage.expansion
        self.expand = _Convolution(inputs, inner) if stage.expansion > 1 else None
        self.depthwise = _Convolution(inner, inner, kernel=stage.kernel, stride=stride, groups=inner)
        self.project = _Convolution(inner, outputs)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x if self.expand is None else functional.relu6(self.expand(x))
        y = self.project(functional.relu6(self.depthwise(y)))
        return y + x if self.residual else y


class EfficientNetLite(nn.Module):
    """EfficientNet-Lite0, -Lite1 or -Lite2."""

    def __init__(self, number: int = 0) -> None:
        """Build the network with fresh random weights.

        Args:
            number: 0, 1 or 2.

        Raises:
            ModelError: when there is no such network here.
        """
        super().__init__()
        if number not in _SCALES:
            msg = f"the number of an EfficientNet-Lite must be one of {', '.join(map(str, _SCALES))}, got {number}"
            raise ModelError(msg)
        width, depth = _SCALES[number]
        self.stem = _Convolution(3, _STEM, kernel=3, stride=2)
        blocks: list[nn.Module] = []
        channels = _STEM
        for place, stage in enumerate(_STAGES):
            outputs = _rounded(stage.channels * width)
            repeats = stage.repeats if place in (0, len(_STAGES) - 1) else math.ceil(stage.repeats * depth)
            for n in range(repeats):
                blocks.append(_Block(channels, outputs, stage, stage.stride if n == 0 else 1))
                channels = outputs
        self.blocks = nn.Sequential(*blocks)
        self.head = _Convolution(channels, EFFICIENTNET_LITE_CHANNELS)
        self.classifier = nn.Linear(EFFICIENTNET_LITE_CHANNELS, IMAGENET_CLASSES)

    def forward(self, pictures: Tensor) -> Tensor:
        """Return the grid, shape (B, G, G, 1280), range 0 to 6, from RGB pictures (B, 32 G, 32 G, 3), uint8; G is 7 at 224 pixels."""
        x = (pictures.permute(0, 3, 1, 2).to(self.head.convolution.weight.dtype) - _MEAN) / _SCALE
        x = functional.relu6(self.stem(x))
        y = functional.relu6(self.head(self.blocks(x)))
        return y.permute(0, 2, 3, 1)

    def scores(self, grid: Tensor) -> Tensor:
        """Return the probabilities of the 1000 ImageNet classes, shape (B, 1000), rows sum to 1, from grids of shape (B, G, G, 1280)."""
        return torch.softmax(self.classifier(region_means(grid)), dim=-1).mean(dim=1)


def _rounded(channels: float) -> int:
    """Return the number of channels as a multiple of 8, at most 10 % below *channels*. Source: efficientnet_model.py, round_filters."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded


_THEIRS = {"expand": ("_expand_conv", "_bn0"), "depthwise": ("_depthwise_conv", "_bn1"), "project": ("_project_conv", "_bn2")}


def efficientnet_lite_state(arrays: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Convert the arrays of the package efficientnet_lite_pytorch into a state_dict of `EfficientNetLite`.

    Raises:
        ModelError: when an array is missing.
    """
    state: dict[str, Tensor] = {}

    def take(ours: str, convolution: str, norm: str) -> None:
        state[f"{ours}.convolution.weight"] = arrays[f"{convolution}.weight"]
        for name in ("weight", "bias", "running_mean", "running_var"):
            state[f"{ours}.norm.{name}"] = arrays[f"{norm}.{name}"]

    try:
        take("stem", "_conv_stem", "_bn0")
        take("head", "_conv_head", "_bn1")
        for key in arrays:
            words = key.split(".")
            if words[0] == "_blocks" and words[2:] == ["_project_conv", "weight"]:
                for ours, (convolution, norm) in _THEIRS.items():
                    block = f"_blocks.{words[1]}"
                    if f"{block}.{convolution}.weight" in arrays:
                        take(f"blocks.{words[1]}.{ours}", f"{block}.{convolution}", f"{block}.{norm}")
        state |= {f"classifier.{name}": arrays[f"_fc.{name}"] for name in ("weight", "bias")}
    except KeyError as exc:
        msg = f"EfficientNet-Lite weights must hold the array {exc}; got {len(arrays)} other arrays"
        raise ModelError(msg) from exc
    return state
