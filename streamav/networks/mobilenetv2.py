"""MobileNetV2 without its classifier, a public visual encoder: RGB pictures in, a grid of 7 x 7 x 1280 out.

It reads arrays in Keras' layout. ImageNet's classes and the scaling of pictures to 224 x 224 are not part of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn
from torch.nn import functional

from streamav.errors import ModelError
from streamav.networks.same_padding import SameConv2d

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["MOBILENETV2_CHANNELS", "MOBILENETV2_SIDE", "MobileNetV2", "mobilenetv2_state"]

MOBILENETV2_SIDE = 224
"""Side, in pixels, of the pictures it takes."""
MOBILENETV2_CHANNELS = 1280
"""V: channels of the grid it returns."""
_BATCH_NORM_EPSILON = 1e-3  # Keras; torch's default is 1e-5
# (expansion, output channels, blocks, stride of the first block). Source: arXiv 1801.04381, Table 2.
_STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))


class _Convolution(nn.Module):
    """Convolution with padding SAME, which is what Keras pads at these sizes, and batch norm."""

    def __init__(self, inputs: int, outputs: int, *, kernel: int = 1, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.convolution = SameConv2d(inputs, outputs, kernel, stride, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(outputs, eps=_BATCH_NORM_EPSILON)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.norm(self.convolution(x))
        return y


class _Block(nn.Module):
    """Inverted residual: expand, depthwise, project. Source: arXiv 1801.04381, section 3."""

    def __init__(self, inputs: int, outputs: int, expansion: int, stride: int) -> None:
        super().__init__()
        inner = inputs * expansion
        self.expand = _Convolution(inputs, inner) if expansion > 1 else None
        self.depthwise = _Convolution(inner, inner, kernel=3, stride=stride, groups=inner)
        self.project = _Convolution(inner, outputs)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x if self.expand is None else functional.relu6(self.expand(x))
        y = functional.relu6(self.depthwise(y))
        y = self.project(y)
        return y + x if self.residual else y


class MobileNetV2(nn.Module):
    """MobileNetV2 1.0 at 224. Source: arXiv 1801.04381; keras-team/keras-applications:mobilenet_v2.py."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = _Convolution(3, 32, kernel=3, stride=2)
        blocks: list[nn.Module] = []
        channels = 32
        for expansion, outputs, count, stride in _STAGES:
            for n in range(count):
                blocks.append(_Block(channels, outputs, expansion, stride if n == 0 else 1))
                channels = outputs
        self.blocks = nn.Sequential(*blocks)
        self.head = _Convolution(channels, MOBILENETV2_CHANNELS)

    def forward(self, pictures: Tensor) -> Tensor:
        """Return the grid, shape (B, 7, 7, 1280), range 0 to 6, from RGB pictures of shape (B, 224, 224, 3), uint8."""
        x = pictures.permute(0, 3, 1, 2).to(self.head.convolution.weight.dtype) / 127.5 - 1.0
        x = functional.relu6(self.stem(x))
        y = functional.relu6(self.head(self.blocks(x)))
        return y.permute(0, 2, 3, 1)


_NORM = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}


def _keras_names() -> list[tuple[str, str, str, str]]:
    """Return (our prefix, Keras layer, Keras batch norm, kernel name) of every convolution."""
    names = [("stem", "Conv1", "bn_Conv1", "kernel")]
    for n in range(17):
        block = "expanded_conv" if n == 0 else f"block_{n}"
        if n:
            names.append((f"blocks.{n}.expand", f"{block}_expand", f"{block}_expand_BN", "kernel"))
        names.append((f"blocks.{n}.depthwise", f"{block}_depthwise", f"{block}_depthwise_BN", "depthwise_kernel"))
        names.append((f"blocks.{n}.project", f"{block}_project", f"{block}_project_BN", "kernel"))
    return [*names, ("head", "Conv_1", "Conv_1_bn", "kernel")]


def mobilenetv2_state(arrays: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Convert Keras' arrays into a state_dict of `MobileNetV2`.

    Load it with strict=False: torch's batch norms have a counter of batches, Keras' do not.

    Args:
        arrays: kernels (h, w, in, out), depthwise kernels (3, 3, C, 1), and gamma, beta, moving_mean and moving_variance of each
            batch norm.

    Raises:
        ModelError: when an array is missing.
    """
    state: dict[str, Tensor] = {}
    try:
        for ours, layer, norm, kernel in _keras_names():
            order = (2, 3, 0, 1) if kernel == "depthwise_kernel" else (3, 2, 0, 1)
            state[f"{ours}.convolution.weight"] = arrays[f"{layer}/{kernel}"].permute(*order).contiguous()
            for keras, torch_name in _NORM.items():
                state[f"{ours}.norm.{torch_name}"] = arrays[f"{norm}/{keras}"]
    except KeyError as exc:
        msg = f"MobileNetV2 weights must hold the array {exc}; got {len(arrays)} other arrays"
        raise ModelError(msg) from exc
    return state
