"""YAMNet, a public audio encoder: a log-mel patch in, a vector of 1024 numbers out.

It reads float arrays in TensorFlow Lite's layout, with batch norm folded into the convolutions. The patches are computed in
`streamav.features.logmel` (offset 0.001). The names of the 521 AudioSet classes are not part of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from streamav.errors import ModelError
from streamav.networks.same_padding import SameConv2d

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["YAMNET_CLASSES", "YAMNET_EMBEDDING", "Yamnet", "yamnet_state"]

YAMNET_EMBEDDING = 1024
"""A: size of the embedding."""
YAMNET_CLASSES = 521
"""AudioSet classes that YAMNet scores."""
_STEM = 32
# (output channels, stride) of the thirteen separable layers.
# Source: tensorflow/models:research/audioset/yamnet/yamnet.py, _YAMNET_LAYER_DEFS.
_LAYERS = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *((512, 1),) * 5, (1024, 2), (1024, 1))


def _convolution(inputs: int, outputs: int, stride: int, groups: int) -> nn.Sequential:
    return nn.Sequential(SameConv2d(inputs, outputs, 3, stride, groups=groups), nn.ReLU6())


class Yamnet(nn.Module):
    """MobileNet v1 over log-mel patches. Source: tensorflow/models:research/audioset/yamnet/yamnet.py."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = [_convolution(1, _STEM, 2, 1)]
        channels = _STEM
        for outputs, stride in _LAYERS:
            layers += [_convolution(channels, channels, stride, channels), nn.Sequential(nn.Conv2d(channels, outputs, 1), nn.ReLU6())]
            channels = outputs
        self.layers = nn.Sequential(*layers)
        self.classifier = nn.Linear(YAMNET_EMBEDDING, YAMNET_CLASSES)

    def forward(self, patch: Tensor) -> Tensor:
        """Return the embedding, shape (B, 1024), range 0 to 6, from log-mel patches (offset 0.001) of shape (B, 96, 64)."""
        features: Tensor = self.layers(patch.unsqueeze(1))  # (B, 1024, 3, 2)
        return features.mean(dim=(2, 3))

    def scores(self, embedding: Tensor) -> Tensor:
        """Return the 521 AudioSet scores, shape (B, 521), range 0 to 1, from embeddings of shape (B, 1024)."""
        return torch.sigmoid(self.classifier(embedding))


def yamnet_state(arrays: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Convert the stored arrays into a state_dict of `Yamnet`.

    Args:
        arrays: `01_CONV_2D_w` (out, h, w, in), `02_DEPTHWISE_CONV_2D_w` (1, h, w, C) ... `28_FULLY_CONNECTED_w`, each with its `_b`.

    Raises:
        ModelError: when an array is missing.

    Source: GreenWaves-Technologies/yamnet:models/lite-model_yamnet_classification_tflite_1.tflite (layer order).
    """
    state: dict[str, Tensor] = {}
    try:
        for n in range(27):
            depthwise = n % 2 == 1
            key = f"{n + 1:02d}_{'DEPTHWISE_CONV_2D' if depthwise else 'CONV_2D'}"
            place = f"layers.{n}.0"
            weight = arrays[f"{key}_w"]
            state[f"{place}.weight"] = weight.permute(3, 0, 1, 2) if depthwise else weight.permute(0, 3, 1, 2)
            state[f"{place}.bias"] = arrays[f"{key}_b"]
        state["classifier.weight"] = arrays["28_FULLY_CONNECTED_w"]
        state["classifier.bias"] = arrays["28_FULLY_CONNECTED_b"]
    except KeyError as exc:
        msg = f"YAMNet weights must hold the array {exc}; got {len(arrays)} other arrays"
        raise ModelError(msg) from exc
    return {name: tensor.contiguous() for name, tensor in state.items()}
