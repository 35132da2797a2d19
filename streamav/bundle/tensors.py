"""Reads the tensors of a bundle's weights files, and checks their names and types before and after. It builds no network."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from safetensors import SafetensorError, safe_open

from streamav.errors import ModelError, reason_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from streamav.bundle.card import ModelCard

__all__ = ["PARTS", "check_names", "read_tensors", "storable", "tensor_names"]

PARTS = ("audio", "visual", "localizer", "evidence")
"""The possible first words of a tensor's name: the network that it belongs to, or the evidence of labels."""
_FLOATS = ("F16", "F32")


def storable(key: str, value: NDArray[np.generic]) -> NDArray[np.generic]:
    """Return a tensor of any shape as it is stored.

    Raises:
        ModelError: when it is not float16 or float32, or holds NaN or infinity.
    """
    if value.dtype not in (np.float16, np.float32):
        msg = f"tensor {key} must be float16 or float32, got {value.dtype}"
        raise ModelError(msg)
    if not np.isfinite(value).all():
        msg = f"tensor {key} must hold finite numbers, got NaN or infinity"
        raise ModelError(msg)
    return np.ascontiguousarray(value)


def check_names(card: ModelCard, keys: list[str], where: str) -> None:
    """Check that exactly the localizer, the evidence if the card has one, and every encoder that is not external have tensors.

    Args:
        card: the model card.
        keys: names of all tensors.
        where: the bundle, for messages.

    Raises:
        ModelError: when another part has tensors, a part has none, or a name occurs twice.
    """
    wanted = {"localizer"} | {part for part, external in _external(card) if not external} | ({"evidence"} if card.evidence else set())
    got = {key.partition(".")[0] for key in keys}
    if got != wanted:
        msg = (
            f"the weights of {where} must belong to {', '.join(sorted(wanted))} (first word of a tensor's name), "
            f"got {', '.join(sorted(got)) or 'none'}"
        )
        raise ModelError(msg)
    if len(set(keys)) != len(keys):
        msg = f"every tensor of {where} must be stored once; a name occurs twice"
        raise ModelError(msg)


def _external(card: ModelCard) -> tuple[tuple[str, bool], ...]:
    return (("audio", card.audio.external), ("visual", card.visual.external))


def tensor_names(path: Path) -> list[str]:
    """Return the names of the tensors of a weights file.

    Raises:
        ModelError: when the file is damaged.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            return list(file.keys())
    except (SafetensorError, OSError, ValueError) as exc:
        msg = f"{path} must be a whole safetensors file: {reason_of(exc)}"
        raise ModelError(msg) from exc


def read_tensors(path: Path, start: str) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Yield name and values of each tensor whose name begins with *start*, as float32.

    Raises:
        ModelError: when the file is damaged, or a tensor is neither float16 nor float32.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            for key in file.keys():  # noqa: SIM118 - not a mapping: it cannot be iterated
                if not key.startswith(start):
                    continue
                stored = file.get_slice(key).get_dtype()
                if stored not in _FLOATS:
                    msg = f"tensor {key} of {path} must be float16 or float32, got {stored}"
                    raise ModelError(msg)
                yield key, file.get_tensor(key).astype(np.float32, copy=False)
    except (SafetensorError, OSError, ValueError) as exc:
        msg = f"{path} must be a whole safetensors file: {reason_of(exc)}"
        raise ModelError(msg) from exc
