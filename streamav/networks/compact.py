"""The compact encoders of the starter model: small convolutional networks for the sound of one segment and for one picture.

This module holds the networks only: training and the scoring of windows are elsewhere.
All convolutions are dense: on two x86 cores, depthwise convolutions needed more time for the same accuracy, above all in training.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from streamav.errors import ModelError
from streamav.networks.regions import region_means

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["COMPACT_GRID", "COMPACT_SIDE", "CompactAudio", "CompactVisual"]

COMPACT_SIDE = 112
"""Side, in pixels, of the pictures that CompactVisual takes."""
COMPACT_GRID = 7
"""G: side of the grid that CompactVisual returns."""
# Mean and scale that bring log-mel values (offset 0.001: -6.9 to about 4) and pixels (0 to 255) near unit size.
_MEL_MEAN, _MEL_SCALE = -3.0, 0.4
_PIXEL_MEAN, _PIXEL_SCALE = 116.0, 1.0 / 64.0


def _convolution(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> list[nn.Module]:
    return [nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]


class _Block(nn.Module):
    """Fused inverted residual: a dense 3 x 3 convolution to more channels, then 1 x 1 to fewer.

    Source: arXiv 2104.00298, Figure 2 (Fused-MBConv, without squeeze and excitation).
    """

    def __init__(self, inputs: int, outputs: int, expansion: int, stride: int) -> None:
        super().__init__()
        inner = inputs * expansion
        shrink = [nn.Conv2d(inner, outputs, 1, bias=False), nn.BatchNorm2d(outputs)]
        self.layers = nn.Sequential(*_convolution(inputs, inner, 3, stride), *shrink)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layers(x)
        return x + y if self.residual else y


def _trunk(inputs: int, stem: int, stages: Sequence[tuple[int, int, int]], outputs: int) -> nn.Sequential:
    """Build a chain of a stem with stride 2, blocks given as (channels, expansion, stride), and a last 1 x 1 convolution."""
    layers: list[nn.Module] = _convolution(inputs, stem, 3, 2)
    channels = stem
    for width, expansion, stride in stages:
        layers.append(_Block(channels, width, expansion, stride))
        channels = width
    return nn.Sequential(*layers, *_convolution(channels, outputs, 1))


def _classifier(size: int, scores: int) -> nn.Linear | None:
    """Build the classifier of *scores* classes, or none for 0, so that bundles without one load unchanged."""
    return nn.Linear(size, scores) if scores else None


def _needed(classifier: nn.Linear | None) -> nn.Linear:
    """Return the classifier; raise ModelError if the encoder was built without one."""
    if classifier is None:
        msg = "an encoder that scores classes must be built with scores above 0, got scores=0: read the labels' evidence elsewhere"
        raise ModelError(msg)
    return classifier


class CompactAudio(nn.Module):
    """Encodes the sound of one segment, given as a log-mel patch, as one vector."""

    def __init__(self, size: int = 128, scores: int = 0) -> None:
        """Build the network with fresh random weights.

        Args:
            size: A, numbers in the embedding.
            scores: classes that `scores` returns, 521 for those of AudioSet that YAMNet scores; 0 for no classifier.
        """
        super().__init__()
        stages = [(32, 3, 2), (64, 3, 2), (64, 2, 1), (128, 3, 2), (128, 2, 1), (128, 2, 1)]
        self.trunk = _trunk(1, 24, stages, 256)
        self.embedding = nn.Linear(256, size)
        self.classifier = _classifier(size, scores)

    def features(self, patch: Tensor) -> Tensor:
        """Return the 256 pooled features that distillation compares, shape (B, 256), from patches of shape (B, 96, 64)."""
        grid: Tensor = self.trunk((patch.unsqueeze(1) - _MEL_MEAN) * _MEL_SCALE)
        # The mean over time shows how long the sound lasts in the segment; the maximum keeps short sounds visible.
        rows = grid.mean(dim=3)
        return 0.5 * (rows.mean(dim=2) + rows.amax(dim=2))

    def forward(self, patch: Tensor) -> Tensor:
        """Return the embedding, shape (B, A), from log-mel patches (offset 0.001) of shape (B, 96, 64), float32."""
        return torch.tanh(self.embedding(self.features(patch)))

    def scores(self, embedding: Tensor) -> Tensor:
        """Return the class scores, shape (B, scores), range 0 to 1, from embeddings of shape (B, A).

        Raises:
            ModelError: when the network was built without a classifier.
        """
        return torch.sigmoid(_needed(self.classifier)(embedding))


class CompactVisual(nn.Module):
    """Encodes one RGB picture as a 7 x 7 grid of vectors."""

    def __init__(self, size: int = 256, scores: int = 0) -> None:
        """Build the network with fresh random weights.

        Args:
            size: V, numbers in a cell.
            scores: classes that `scores` returns, 1000 for those of ImageNet; 0 for no classifier.
        """
        super().__init__()
        stages = [(32, 3, 2), (64, 3, 2), (64, 2, 1), (64, 2, 1), (192, 4, 2), (192, 2, 1), (192, 2, 1), (192, 2, 1)]
        self.trunk = _trunk(3, 24, stages, size)
        self.classifier = _classifier(size, scores)

    def forward(self, pictures: Tensor) -> Tensor:
        """Return the grid, shape (B, 7, 7, V), values at least 0, from RGB pictures of shape (B, 112, 112, 3), uint8."""
        x = (pictures.permute(0, 3, 1, 2).to(torch.float32) - _PIXEL_MEAN) * _PIXEL_SCALE
        grid: Tensor = self.trunk(x)
        return grid.permute(0, 2, 3, 1)

    def scores(self, grid: Tensor) -> Tensor:
        """Return the class probabilities, shape (B, scores), rows sum to 1, from grids of shape (B, 7, 7, V).

        They are the mean over the nine regions of `region_means`, as in EfficientNetLite.

        Raises:
            ModelError: when the network was built without a classifier.
        """
        return torch.softmax(_needed(self.classifier)(region_means(grid)), dim=-1).mean(dim=1)
