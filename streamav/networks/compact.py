"""The compact encoders of the starter model: small convolutional networks for one second of sound and for one picture.

They know only their inputs' shapes; what they were trained on and how a window is scored is elsewhere.
Dense 3 x 3 convolutions early and depthwise ones late: on a CPU few channels make depthwise convolutions slow, many make dense ones slow.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["COMPACT_GRID", "COMPACT_SIDE", "CompactAudio", "CompactVisual"]

COMPACT_SIDE = 112
"""Side, in pixels, of the pictures that CompactVisual takes."""
COMPACT_GRID = 7
"""G: side of the grid that CompactVisual gives."""
# Mean and scale that bring log-mel values (offset 0.001: -6.9 to about 4) and pixels (0 to 255) near unit size.
_MEL_MEAN, _MEL_SCALE = -3.0, 0.4
_PIXEL_MEAN, _PIXEL_SCALE = 116.0, 1.0 / 64.0


def _convolution(inputs: int, outputs: int, kernel: int = 3, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    return [
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    ]


class _Block(nn.Module):
    """Inverted residual; *fused* joins expansion and depthwise into one dense convolution.

    Source: arXiv 1801.04381 (inverted residual); arXiv 2104.00298, Figure 2 (fused form).
    """

    def __init__(self, inputs: int, outputs: int, expansion: int, stride: int, *, fused: bool) -> None:
        super().__init__()
        inner = inputs * expansion
        grown = (
            _convolution(inputs, inner, 3, stride)
            if fused
            else [*_convolution(inputs, inner, 1), *_convolution(inner, inner, 3, stride, groups=inner)]
        )
        self.layers = nn.Sequential(*grown, nn.Conv2d(inner, outputs, 1, bias=False), nn.BatchNorm2d(outputs))
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layers(x)
        return x + y if self.residual else y


def _trunk(inputs: int, stem: int, stages: Sequence[tuple[int, int, int, bool]], outputs: int) -> nn.Sequential:
    """Chain a stem of stride 2, blocks given as (channels, expansion, stride, fused) and a last 1 x 1 convolution."""
    layers: list[nn.Module] = _convolution(inputs, stem, 3, 2)
    channels = stem
    for width, expansion, stride, fused in stages:
        layers.append(_Block(channels, width, expansion, stride, fused=fused))
        channels = width
    return nn.Sequential(*layers, *_convolution(channels, outputs, 1))


class CompactAudio(nn.Module):
    """One second of sound, as a log-mel patch, to one vector."""

    def __init__(self, size: int = 128) -> None:
        super().__init__()
        stages = [
            (32, 3, 2, True), (32, 2, 1, True), (64, 3, 2, True), (64, 2, 1, True),
            (128, 4, 2, False), (128, 4, 1, False), (128, 4, 1, False),
        ]  # fmt: skip
        self.trunk = _trunk(1, 16, stages, 256)
        self.embedding = nn.Linear(256, size)

    def features(self, patch: Tensor) -> Tensor:
        """Give the 256 pooled features that distillation looks at, shape (B, 256), of patches (B, 96, 64)."""
        grid: Tensor = self.trunk((patch.unsqueeze(1) - _MEL_MEAN) * _MEL_SCALE)
        # Mean over time keeps how much of the second sounds; the maximum keeps short sounds from drowning.
        rows = grid.mean(dim=3)
        return 0.5 * (rows.mean(dim=2) + rows.amax(dim=2))

    def forward(self, patch: Tensor) -> Tensor:
        """Give the embedding, shape (B, A), of log-mel patches (offset 0.001), shape (B, 96, 64), float32."""
        return torch.tanh(self.embedding(self.features(patch)))


class CompactVisual(nn.Module):
    """One RGB picture to a 7 x 7 grid of vectors."""

    def __init__(self, size: int = 256) -> None:
        super().__init__()
        stages = [
            (32, 3, 2, True), (32, 2, 1, True), (64, 3, 2, True), (64, 2, 1, True),
            (160, 6, 2, False), (160, 5, 1, False), (160, 5, 1, False), (160, 5, 1, False),
        ]  # fmt: skip
        self.trunk = _trunk(3, 16, stages, size)

    def forward(self, pictures: Tensor) -> Tensor:
        """Give the grid, shape (B, 7, 7, V), at least 0, of RGB pictures (B, 112, 112, 3), uint8."""
        x = (pictures.permute(0, 3, 1, 2).to(torch.float32) - _PIXEL_MEAN) * _PIXEL_SCALE
        grid: Tensor = self.trunk(x)
        return grid.permute(0, 2, 3, 1)
