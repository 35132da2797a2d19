"""VGGish, the audio network of AVE's features, and readers of its public weights.

It takes log-mel patches and returns raw embeddings: the output of the last ReLU, without PCA and without 8-bit quantisation.
The patches are computed in `streamav.features.logmel` (offset 0.01).
"""

from __future__ import annotations

import itertools
import zipfile
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from streamav.errors import ModelError, ShapeError, reason_of
from streamav.networks.files.torchfile import MAX_BYTES, read_checkpoint
from streamav.networks.state import checked_state

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["VGGish", "read_vggish"]

FRAMES, BANDS = 96, 64
"""Shape of a log-mel patch: 0.96 s in frames of 10 ms, and mel bands."""
CHANNELS = (64, 128, 256, 256, 512, 512)
POOL_AFTER = (0, 1, 3, 5)
DENSE = (6 * 4 * 512, 4096, 4096, 128)
"""Source: tensorflow/models research/audioset/vggish/vggish_slim.py, define_vggish_slim."""

TENSORFLOW_LAYERS = ("conv1", "conv2", "conv3/conv3_1", "conv3/conv3_2", "conv4/conv4_1", "conv4/conv4_2", "fc1/fc1_1", "fc1/fc1_2", "fc2")
"""Variable scopes under vggish/, in the order of the layers. Source: the same file."""
TORCHVGGISH_LAYERS = (
    *(f"features.{place}" for place in (0, 3, 6, 8, 11, 13)),
    *(f"embeddings.{place}" for place in (0, 2, 4)),
)
"""The same layers in torchvggish. Source: harritaylor/torchvggish torchvggish/vggish.py (Apache-2.0)."""


class VGGish(nn.Module):
    """VGGish: 6 convolutions of 3 x 3, 4 poolings, 3 linear layers, ReLU after every layer; 72,141,184 parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(
            nn.Conv2d(inputs, outputs, kernel_size=3, padding=1) for inputs, outputs in zip((1, *CHANNELS), CHANNELS, strict=False)
        )
        self.dense = nn.ModuleList(nn.Linear(inputs, outputs) for inputs, outputs in itertools.pairwise(DENSE))

    def forward(self, patches: Tensor) -> Tensor:
        """Return the raw embedding of each patch.

        Args:
            patches: float (B, 96, 64): log-mel frames of 10 ms by bands, natural logarithm, offset 0.01.

        Returns:
            float32 (B, 128), values at least 0.

        Raises:
            ShapeError: when the patches have another shape.
        """
        if tuple(patches.shape[1:]) != (FRAMES, BANDS):
            msg = f"VGGish takes log-mel patches (B, {FRAMES}, {BANDS}), got {tuple(patches.shape)}"
            raise ShapeError(msg)
        x = patches.unsqueeze(1)
        for place, layer in enumerate(self.convolutions):
            x = torch.relu(layer(x))
            if place in POOL_AFTER:
                x = torch.max_pool2d(x, 2)
        # (B, 512, 6, 4) -> (B, 6, 4, 512): the weights come from TensorFlow, which flattens with channels last
        x = x.permute(0, 2, 3, 1).flatten(1)
        for layer in self.dense:
            x = torch.relu(layer(x))
        return x


def read_vggish(path: Path) -> dict[str, Tensor]:
    """Read public weights of VGGish as a state_dict of `VGGish`.

    Args:
        path: torchvggish's vggish-10086976.pth, or an .npz that holds the variables of TensorFlow's vggish_model.ckpt under their
            own names (vggish/conv1/weights, vggish/conv1/biases ... vggish/fc2/biases; a trailing ":0" is ignored).
            The TensorFlow checkpoint itself is not supported.

    Raises:
        ModelError: when the file is damaged, or has another layout or wrong shapes.
    """
    if path.suffix in (".pth", ".pt"):
        return _from_torchvggish(path)
    if path.suffix == ".npz":
        return _from_tensorflow(path)
    msg = f"VGGish weights must be torchvggish's .pth file or an .npz of TensorFlow's variables, got {path}"
    raise ModelError(msg)


def _from_torchvggish(path: Path) -> dict[str, Tensor]:
    arrays = read_checkpoint(path)
    ours = {
        f"{theirs}.{kind}": f"{name}.{kind}"
        for theirs, name in zip(TORCHVGGISH_LAYERS, _layer_names(), strict=True)
        for kind in ("weight", "bias")
    }
    return _checked({ours.get(name, name): array for name, array in arrays.items()}, path)


def _from_tensorflow(path: Path) -> dict[str, Tensor]:
    """Read kernels (h, w, in, out) and matrices (in, out)."""
    arrays = _read_npz(path)
    state: dict[str, NDArray[np.generic]] = {}
    for theirs, name in zip(TENSORFLOW_LAYERS, _layer_names(), strict=True):
        weights, biases = arrays.get(f"vggish/{theirs}/weights"), arrays.get(f"vggish/{theirs}/biases")
        if weights is None or biases is None:
            msg = f"{path} must hold vggish/{theirs}/weights and /biases, got {', '.join(sorted(arrays)[:4])} ..."
            raise ModelError(msg)
        state[f"{name}.weight"] = weights.transpose(3, 2, 0, 1) if weights.ndim == 4 else weights.T  # noqa: PLR2004
        state[f"{name}.bias"] = biases
    return _checked(state, path)


def _layer_names() -> list[str]:
    return [f"convolutions.{place}" for place in range(len(CHANNELS))] + [f"dense.{place}" for place in range(len(DENSE) - 1)]


def _checked(state: Mapping[str, NDArray[np.generic]], path: Path) -> dict[str, Tensor]:
    """Return *state* as tensors; raise unless it has the names and shapes of VGGish."""
    with torch.device("meta"):
        network = VGGish()
    return checked_state(state, network, f"{path} as VGGish weights")


def _read_npz(path: Path) -> dict[str, NDArray[np.generic]]:
    """Read the arrays under vggish/; refuse pickled arrays and an archive that unpacks to more than MAX_BYTES."""
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
        if size > MAX_BYTES:
            msg = f"{path} must unpack to at most {MAX_BYTES} bytes, got {size}"
            raise ModelError(msg)
        with np.load(path, allow_pickle=False) as arrays:
            return {name.removesuffix(":0"): arrays[name] for name in arrays.files if name.startswith("vggish/")}
    except (OSError, zipfile.BadZipFile, ValueError, KeyError, EOFError, MemoryError, RuntimeError, NotImplementedError) as exc:
        msg = f"{path} must be a whole .npz file of plain arrays: {reason_of(exc)}"
        raise ModelError(msg) from exc
