"""Renders the training examples of the encoders: single pictures and single segments of sound, of a class or of none.

It chooses and changes material and runs no network. All random choices come from seeded generators.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from streamav.training.composite.picture import crop, flat_picture, inset_box, paste, scale, soften, to_tensor
from streamav.training.composite.sound import FRAME_SAMPLES, activity, colour, loud_rms, noise, repeat, reverberate, rms
from streamav.types import SAMPLES_PER_SEGMENT

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from streamav.training.composite.material import Item, Material

__all__ = ["backdrop_view", "mixed_view", "nothing_view", "photo_view", "segment_of_ambience", "segment_of_sound"]

N = SAMPLES_PER_SEGMENT


def photo_view(material: Material, item: Item, backdrops: list[Item], rng: np.random.Generator, side: int) -> Tensor:
    """Render a photo, full frame or inset on a backdrop with probability 0.5 each, shape (3, side, side), range 0 to 255."""
    photo = soften(to_tensor(material.picture(item)), rng)
    if rng.random() < 0.5:  # noqa: PLR2004
        return scale(crop(photo, rng, 0.65, (0.6, 1.4)), side, side)
    canvas = backdrop_view(material, backdrops[int(rng.integers(len(backdrops)))], rng, side)
    return paste(canvas, crop(photo, rng, 0.8, (0.85, 1.2)), inset_box(rng))


def backdrop_view(material: Material, item: Item, rng: np.random.Generator, side: int) -> Tensor:
    """Render a part of a backdrop full frame, shape (3, side, side), range 0 to 255."""
    return scale(crop(soften(to_tensor(material.picture(item)), rng, 0.4), rng, 0.45, (0.6, 1.6)), side, side)


def nothing_view(material: Material, backdrops: list[Item], rng: np.random.Generator, side: int) -> Tensor:
    """Render a picture of no class, shape (3, side, side): a backdrop, a backdrop inset on another, or an empty picture.

    Backdrops are inset because an inset alone must not mean a class.
    """
    chance = rng.random()
    if chance < 0.08:  # noqa: PLR2004
        return flat_picture(rng, side)
    first, second = (backdrops[int(n)] for n in rng.integers(len(backdrops), size=2))
    canvas = backdrop_view(material, first, rng, side)
    return canvas if chance < 0.6 else paste(canvas, backdrop_view(material, second, rng, side), inset_box(rng))  # noqa: PLR2004


def mixed_view(material: Material, photos: list[Item], rng: np.random.Generator, side: int) -> Tensor:
    """Render several photos at once, shape (3, side, side), range 0 to 255: four tiles, one on another, or two blended.

    Such a picture has no label, only the teacher's features; a student that imitates the teacher on such pictures generalizes better.
    Source: arXiv 2106.05237 (a patient and consistent teacher), section 3: function matching on mixed pictures.
    """

    def full() -> Tensor:
        photo = soften(to_tensor(material.picture(photos[int(rng.integers(len(photos)))])), rng, 0.4)
        return scale(crop(photo, rng, 0.5, (0.6, 1.6)), side, side)

    chance = rng.random()
    if chance < 0.4:  # noqa: PLR2004
        share = float(rng.uniform(0.25, 0.75))
        return (full().float() * share + full().float() * (1 - share)).round().to(torch.uint8)
    if chance < 0.7:  # noqa: PLR2004
        return paste(full(), full(), inset_box(rng))
    out = full()
    row, column = (int(side * rng.uniform(0.3, 0.7)) for _ in range(2))
    for top, left, height, width in ((0, 0, row, column), (0, column, row, side - column), (row, 0, side - row, column)):
        out[:, top : top + height, left : left + width] = scale(full(), height, width)
    return out


def segment_of_ambience(material: Material, ambients: list[Item], rng: np.random.Generator) -> NDArray[np.float32]:
    """Return one segment of ambience or noise, RMS 1 (0 if the recording is silent)."""
    if rng.random() < 0.2:  # noqa: PLR2004
        return noise(N, rng)
    wave = material.sound(ambients[int(rng.integers(len(ambients)))])
    start = int(rng.integers(0, max(1, len(wave) - N)))
    part = repeat(wave[start:], N) if len(wave) - start < N else wave[start : start + N]
    part = colour(part, rng, 6.0) if rng.random() < 0.5 else part  # noqa: PLR2004
    return (part / max(rms(part), 1e-4)).astype(np.float32)


def segment_of_sound(material: Material, item: Item, rng: np.random.Generator) -> tuple[NDArray[np.float32], float]:
    """Return one segment around a random part of a sound, shape (N,), and the share of the segment in which it is audible.

    The RMS of its audible part is 1.
    """
    wave = material.sound(item)
    heard = np.repeat(activity(wave), FRAME_SAMPLES)[: len(wave)]
    if rng.random() < 0.3 and len(wave) < 3 * N:  # noqa: PLR2004
        wave, heard = np.tile(wave, 3), np.tile(heard, 3)
    wave = wave / max(loud_rms(wave), 1e-4)
    centre = int(rng.choice(np.flatnonzero(heard))) if heard.any() else len(wave) // 2
    start = centre - int(rng.integers(0, N))
    left, right = max(start, 0), min(start + N, len(wave))
    part = np.zeros(N, np.float32)
    part[left - start : right - start] = wave[left:right]
    share = float(heard[left:right].sum()) / N
    if rng.random() < 0.6:  # noqa: PLR2004
        part = colour(part, rng)
    if rng.random() < 0.35:  # noqa: PLR2004
        part = reverberate(part, rng)
    return part.astype(np.float32), share
