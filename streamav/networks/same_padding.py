"""A convolution with TensorFlow's padding SAME, which torch has for stride 1 only."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn
from torch.nn import functional

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["SameConv2d"]


class SameConv2d(nn.Conv2d):
    """A convolution whose output has ceil(size / stride) rows and columns, on square kernels.

    The total padding of an axis is max((ceil(size / stride) - 1) * stride + kernel - size, 0); of an odd total the larger part is at the
    bottom and right. Source: tensorflow.org/api_docs/python/tf/nn, "Notes on padding".

    The convolution itself pads the equal part, because a separate layer that pads is slow in most runtimes.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, *, groups: int = 1, bias: bool = True) -> None:
        super().__init__(inputs, outputs, kernel, stride, groups=groups, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, outputs, ceil(h / stride), ceil(w / stride)) from (B, inputs, h, w)."""
        # int() makes the padding a constant of the exported file; without it the file computes the padding again for every picture.
        high, wide = (self._total(int(size)) for size in x.shape[-2:])
        if high % 2 or wide % 2:
            # ONNX Runtime joins a padding with its convolution only where the file states the value.
            x = functional.pad(x, (0, wide % 2, 0, high % 2), value=0.0)
        return functional.conv2d(x, self.weight, self.bias, self.stride, (high // 2, wide // 2), self.dilation, self.groups)

    def _total(self, size: int) -> int:
        kernel, stride = self.kernel_size[0], self.stride[0]
        return max((-(-size // stride) - 1) * stride + kernel - size, 0)
