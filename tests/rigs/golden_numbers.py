"""Computes the weights and inputs of the golden files; they are the same on every machine and with every library version.

They come from an integer hash (splitmix64), because a new version of a library may change the stream of its random generator.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

WINDOW_LENGTHS = (8, 9, 10, 11)
BATCH = 2
SALTS = {"weakly/W3.weight": "weakly/W3.weight/48"}
"""With this name the input of the weak gate has both signs over the golden windows, so that its ReLU has an effect."""


def numbers(name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Return an array of *shape*, uniform in [-1, 1), that depends on its name and shape only.

    Source: Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014 (splitmix64).
    """
    with np.errstate(over="ignore"):
        state = np.uint64(zlib.crc32(name.encode())) << np.uint64(32)
        mixed = state + np.arange(1, int(np.prod(shape)) + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        mixed = mixed ^ (mixed >> np.uint64(31))
    unit = (mixed >> np.uint64(40)).astype(np.float64) / 2.0**24
    return (2.0 * unit - 1.0).astype(np.float32).reshape(shape)


def weights(variant: str, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, torch.Tensor]:
    """Return a state_dict by the authors' tensor names; matrices are within 0.14, vectors within 0.5."""
    return {
        key: torch.from_numpy(
            numbers(SALTS.get(f"{variant}/{key}", f"{variant}/{key}"), shape) * np.float32(0.14 if len(shape) > 1 else 0.5)
        )
        for key, shape in shapes.items()
    }


def inputs(length: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return sound features (2, T, 128) and picture features (2, T, 7, 7, 512), not negative, in the range of real features."""
    audio = numbers(f"audio/{length}", (BATCH, length, 128)) + np.float32(1.0)
    visual = numbers(f"visual/{length}", (BATCH, length, 7, 7, 512)) + np.float32(1.0)
    return torch.from_numpy(audio), torch.from_numpy(visual)
