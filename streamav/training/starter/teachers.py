"""Loads the public networks that teach the compact encoders, as functions of arrays, in ONNX Runtime.

Their weights are not copied into the starter. This module trains nothing and makes no examples.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from safetensors.torch import load_file

from streamav.bundle.catalogue import encoder_file
from streamav.networks.encoders import load_encoder
from streamav.networks.mobilenetv2 import MOBILENETV2_SIDE, MobileNetV2, mobilenetv2_state
from streamav.networks.yamnet import Yamnet, yamnet_state
from streamav.training.composite.frozen import session

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

__all__ = ["audio_teacher", "public_look", "visual_teacher"]


def visual_teacher(weights: Path) -> Callable[[NDArray[np.uint8]], NDArray[np.float32]]:
    """Return MobileNetV2 as a function from pictures (B, 224, 224, 3) uint8 to grids (B, 7, 7, 1280), in ONNX Runtime.

    ONNX Runtime was about four times as fast as torch in this use.
    """
    network = MobileNetV2().eval()
    network.load_state_dict(mobilenetv2_state(load_file(weights / "mobilenetv2.safetensors")), strict=False)
    return session(network, torch.zeros(2, MOBILENETV2_SIDE, MOBILENETV2_SIDE, 3, dtype=torch.uint8))


def public_look(network: str, weights: Path) -> Callable[[NDArray[np.uint8]], NDArray[np.float32]]:
    """Return a public picture encoder as a function from pictures (B, h, w, 3) uint8 to grids (B, G, G, V), in ONNX Runtime.

    Raises:
        ModelError: when its weights are neither in the folder nor in an installed package.
    """
    encoder = load_encoder(network, encoder_file(network, weights))
    return session(encoder, torch.zeros(2, MOBILENETV2_SIDE, MOBILENETV2_SIDE, 3, dtype=torch.uint8))


def audio_teacher(weights: Path) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
    """Return YAMNet as a function from patches (B, 96, 64) to embeddings (B, 1024), in ONNX Runtime."""
    network = Yamnet().eval()
    network.load_state_dict(yamnet_state(load_file(weights / "yamnet.safetensors")))
    return session(network, torch.zeros(2, 96, 64))
