"""Loads the VSCG authors' checkpoints, as they published them, into our network; no code in the file is run.

`reference_keys` holds the names of their tensors, `torchfile` reads the file formats. This module writes no bundle.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from streamav.errors import ModelError
from streamav.networks.files.reference_keys import load_reference_state, recognise
from streamav.networks.files.torchfile import read_checkpoint
from streamav.networks.options import VSCGOptions
from streamav.networks.vscg import VSCG

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import Tensor

    from streamav.networks.options import Supervision

__all__ = ["MAX_REFERENCE_BYTES", "load_reference", "read_reference", "reference_arrays"]

MAX_REFERENCE_BYTES = 64 << 20
"""Six times the authors' larger network (2,629,226 float32 numbers)."""


def read_reference(path: Path) -> tuple[Supervision, dict[str, Tensor]]:
    """Read a checkpoint of the authors' code and recognise from its tensors which of the two networks it holds.

    Args:
        path: whole-module pickle or state_dict, as written by torch.save.

    Returns:
        "fully" or "weakly", and float32 tensors by the authors' names.

    Raises:
        ModelError: when the file is missing, damaged, hostile, too large, or holds another network.
    """
    arrays = read_checkpoint(path, limit=MAX_REFERENCE_BYTES)
    supervision = recognise(arrays)
    if supervision is None:
        some = ", ".join(list(arrays)[:4])
        msg = f"{path} must hold the authors' VSCG, fully or weakly supervised, got {len(arrays)} tensors named {some} ..."
        raise ModelError(msg)
    if (
        sum(array.size for array in arrays.values()) * 4 > MAX_REFERENCE_BYTES
    ):  # a small file may hold many tensors that are views of one storage
        msg = f"{path} must hold at most {MAX_REFERENCE_BYTES // 4} numbers, got more: it is not one of the authors' networks"
        raise ModelError(msg)
    for name, array in arrays.items():
        if array.dtype.kind != "f" or not np.isfinite(array).all():
            msg = f"{path}: {name} must hold finite floating-point numbers, got {array.dtype} or NaN or infinity"
            raise ModelError(msg)
    return supervision, {name: torch.from_numpy(np.array(array, dtype=np.float32, order="C")) for name, array in arrays.items()}


def load_reference(path: Path, supervision: Supervision | None = None) -> VSCG:
    """Load a checkpoint of the authors' code into a network with the same outputs as theirs.

    Args:
        path: whole-module pickle or state_dict, as written by torch.save.
        supervision: the network that the file must hold; None accepts both.

    Returns:
        The network in eval mode. Called with audio (B, 10, 128) and visual (B, 10, 7, 7, 512) it returns relevance_logits
        (B, 10), class_logits (B, 28) and similarity (B, 10) when fully supervised, video_probabilities (B, 29) and segment_scores
        (B, 10, 29) when weakly supervised. Sound is called audio and picture visual; the authors' code may use the other name.

    Raises:
        ModelError: as `read_reference`, and when the file does not hold the network of *supervision*.
    """
    found, state = read_reference(path)
    if supervision not in (None, found):
        msg = f"{path} must hold the {supervision} supervised network, got the {found} supervised one"
        raise ModelError(msg)
    model = VSCG(VSCGOptions.reference(found))
    load_reference_state(model, state)
    return model.eval()


def reference_arrays(model: VSCG) -> dict[str, NDArray[np.float32]]:
    """Return a network's weights in the form of a bundle: float32 arrays named "localizer..."."""
    return {f"localizer.{name}": tensor.detach().cpu().numpy().astype(np.float32) for name, tensor in model.state_dict().items()}
