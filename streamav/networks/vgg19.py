"""VGG-19 up to pool5, the visual network of AVE's features, and readers of its public Caffe weights.

It takes pictures of 224 x 224 and includes the Caffe preprocessing. It reads two file layouts: Keras and the Caffe port for
PyTorch. torchvision's weights have the same tensor names but other values; they are refused.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from streamav.errors import ModelError, ShapeError
from streamav.files import file_sha256
from streamav.networks.files.keras_h5 import read_keras_h5
from streamav.networks.files.torchfile import read_checkpoint
from streamav.networks.state import checked_state

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

__all__ = ["VGG19", "read_vgg19"]

BLOCKS = ((64, 2), (128, 2), (256, 4), (512, 4), (512, 4))
"""Channels and number of convolutions of each block; 2 x 2 max-pooling follows each (Simonyan & Zisserman 2015, table 1, column E)."""
PICTURE = 224
"""Height and width of the pictures, pixels."""
MEAN_BGR = (103.939, 116.779, 123.68)
"""Subtracted from blue, green and red, which are in the range 0 to 255. Source: Keras applications/imagenet_utils.py, mode "caffe"."""
CAFFE_PORT_LAYERS = (0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28, 30, 32, 34)
"""Indices of the 16 convolutions in the `features` of torchvision's and jcjohnson/pytorch-vgg's VGG-19."""
TORCHVISION_HASH = "dcbb9e9d"
"""Start of the SHA-256 of torchvision's vgg19 file, as in its file name vgg19-dcbb9e9d.pth."""


class VGG19(nn.Module):
    """VGG-19 without its classifier: 16 convolutions of 3 x 3 with ReLU, 5 poolings; 20,024,384 parameters."""

    mean: Tensor

    def __init__(self) -> None:
        super().__init__()
        channels = [size for size, count in BLOCKS for _ in range(count)]
        self.convolutions = nn.ModuleList(
            nn.Conv2d(inputs, outputs, kernel_size=3, padding=1) for inputs, outputs in zip([3, *channels], channels, strict=False)
        )
        self.register_buffer("mean", torch.tensor(MEAN_BGR).view(1, 3, 1, 1), persistent=False)

    def forward(self, pictures: Tensor) -> Tensor:
        """Return the pool5 map of each picture.

        Args:
            pictures: uint8 (B, 224, 224, 3), RGB, 0 to 255.

        Returns:
            float32 (B, 7, 7, 512), values at least 0; rows from the top, columns from the left, channels last as in AVE's files.

        Raises:
            ShapeError: when the pictures have another shape or type.
        """
        if pictures.dtype != torch.uint8 or tuple(pictures.shape[1:]) != (PICTURE, PICTURE, 3):
            msg = f"VGG-19 takes uint8 pictures (B, {PICTURE}, {PICTURE}, 3), got {pictures.dtype} {tuple(pictures.shape)}"
            raise ShapeError(msg)
        # (B, 224, 224, RGB) -> (B, BGR, 224, 224)
        x = pictures.permute(0, 3, 1, 2).to(self.mean.dtype).flip(1) - self.mean
        layers = iter(self.convolutions)
        for _, count in BLOCKS:
            for _ in range(count):
                x = torch.relu(next(layers)(x))
            x = torch.max_pool2d(x, 2)
        return x.permute(0, 2, 3, 1).contiguous()  # (B, 7, 7, 512)


def read_vgg19(path: Path) -> dict[str, Tensor]:
    """Read public Caffe weights of VGG-19 as a state_dict of `VGG19`; a classifier in the file is skipped.

    Args:
        path: vgg19_weights_tf_dim_ordering_tf_kernels.h5 or ..._notop.h5 (Keras), or the Caffe port vgg19-d01eb7cb.pth (jcjohnson).

    Raises:
        ModelError: when the file is damaged, has another layout or wrong shapes, or holds torchvision's weights.
    """
    if path.suffix in (".h5", ".hdf5"):
        return _from_keras(path)
    if path.suffix in (".pth", ".pt"):
        return _from_caffe_port(path)
    msg = f"VGG-19 weights must be a Keras .h5 file or a Caffe port .pth file, got {path}"
    raise ModelError(msg)


def _from_keras(path: Path) -> dict[str, Tensor]:
    """Read groups block1_conv1 ... block5_conv4, each with one kernel (h, w, in, out) and one bias of any name."""
    pattern = re.compile(r"(?:^|/)block(\d)_conv(\d)/")
    arrays = read_keras_h5(path, lambda name: pattern.search(name) is not None)
    layers = [f"block{block}_conv{number + 1}" for block, (_, count) in enumerate(BLOCKS, start=1) for number in range(count)]
    state: dict[str, NDArray[np.generic]] = {}
    for place, layer in enumerate(layers):
        for name, array in arrays.items():
            if f"{layer}/" in name and array.ndim == 4:  # noqa: PLR2004
                state[f"convolutions.{place}.weight"] = array.transpose(3, 2, 0, 1)  # (out, in, h, w)
            elif f"{layer}/" in name:
                state[f"convolutions.{place}.bias"] = array
    return _checked(state, path)


def _from_caffe_port(path: Path) -> dict[str, Tensor]:
    arrays = read_checkpoint(path, keep=lambda name: name.startswith("features."))
    if file_sha256(path).startswith(TORCHVISION_HASH):
        msg = (
            f"VGG-19 weights must be Caffe's (Keras .h5, or vgg19-d01eb7cb.pth), got torchvision's in {path}: "
            "they need another preprocessing of pictures, and their features do not match AVE's"
        )
        raise ModelError(msg)
    state: dict[str, NDArray[np.generic]] = {}
    for place, layer in enumerate(CAFFE_PORT_LAYERS):
        for kind in ("weight", "bias"):
            if f"features.{layer}.{kind}" in arrays:
                state[f"convolutions.{place}.{kind}"] = arrays[f"features.{layer}.{kind}"]
    if len(arrays) != len(state):
        msg = f"{path} must hold the 32 tensors of VGG-19's features, got {len(arrays)} tensors (batch norm or another network?)"
        raise ModelError(msg)
    return _checked(state, path)


def _checked(state: Mapping[str, NDArray[np.generic]], path: Path) -> dict[str, Tensor]:
    """Return *state* as tensors; raise unless it has the names and shapes of VGG19."""
    with torch.device("meta"):
        network = VGG19()
    return checked_state(state, network, f"{path} as VGG-19 weights")
