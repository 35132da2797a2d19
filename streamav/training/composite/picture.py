"""Puts photos on backdrops as a camera might show them: full frame or inset, cropped, squashed, soft.

It works on single pictures of any size, without classes, files or times. `photometry` changes batches as weather, night and codecs do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["crop", "flat_picture", "paste", "photometry", "scale", "soften", "to_tensor"]

SOFT_SIDE = 64
"""Side, in pixels, of the smallest photos; larger photos are often reduced to it, so that sharpness does not reveal the class."""


def to_tensor(picture: NDArray[np.uint8]) -> Tensor:
    """Return a picture (H, W, 3) uint8 as a view of shape (3, H, W); torch scales bytes in this layout ten times faster than floats."""
    return torch.from_numpy(np.ascontiguousarray(picture)).permute(2, 0, 1)


def scale(picture: Tensor, height: int, width: int) -> Tensor:
    """Resize (3, H, W) uint8 without aliasing."""
    batch = picture[None].contiguous(memory_format=torch.channels_last)
    return functional.interpolate(batch, (height, width), mode="bilinear", antialias=True, align_corners=False)[0]


def soften(picture: Tensor, rng: np.random.Generator, probability: float = 0.6) -> Tensor:
    """Reduce a picture, with *probability*, to about the resolution of the smallest photos."""
    side = max(picture.shape[1:])
    if side <= SOFT_SIDE or rng.random() > probability:
        return picture
    factor = rng.uniform(0.9, 1.5) * SOFT_SIDE / side
    if factor >= 1.0:
        return picture
    return scale(picture, max(8, round(picture.shape[1] * factor)), max(8, round(picture.shape[2] * factor)))


def crop(picture: Tensor, rng: np.random.Generator, least: float, aspect: tuple[float, float] = (0.75, 1.33)) -> Tensor:
    """Cut out a random part with *least* to 1 of each side, and mirror it with probability 0.5.

    Args:
        picture: (3, H, W).
        rng: random generator.
        least: smallest share of a side that is kept, 0 to 1.
        aspect: range of the factor between the kept share of the width and that of the height.
    """
    keep, lean = rng.uniform(least, 1.0), np.sqrt(np.exp(rng.uniform(*np.log(aspect))))
    height = max(8, int(picture.shape[1] * min(1.0, keep / lean)))
    width = max(8, int(picture.shape[2] * min(1.0, keep * lean)))
    top = int(rng.integers(0, max(1, picture.shape[1] - height + 1)))
    left = int(rng.integers(0, max(1, picture.shape[2] - width + 1)))
    part = picture[:, top : top + height, left : left + width]
    return part.flip(2) if rng.random() < 0.5 else part  # noqa: PLR2004


def paste(canvas: Tensor, picture: Tensor, box: tuple[float, float, float, float]) -> Tensor:
    """Return a copy of *canvas* (3, S, S) with *picture* scaled into *box*: top, left, height, width as shares of the side."""
    side = canvas.shape[1]
    top, left, height, width = (round(share * side) for share in box)
    height, width = max(4, min(height, side - top)), max(4, min(width, side - left))
    out = canvas.clone()
    out[:, top : top + height, left : left + width] = scale(picture, height, width)
    return out


def inset_box(rng: np.random.Generator, least: float = 0.4, most: float = 0.95) -> tuple[float, float, float, float]:
    """Draw a random box for `paste`; each side is *least* to *most* of the canvas."""
    height = rng.uniform(least, most)
    width = float(np.clip(height * np.exp(rng.uniform(-0.4, 0.3)), least, most))
    return (rng.uniform(0.0, 1.0 - height), rng.uniform(0.0, 1.0 - width), height, width)


def flat_picture(rng: np.random.Generator, side: int) -> Tensor:
    """Draw an empty picture: a flat colour, a gradient, noise, or near-black noise; shape (3, side, side) uint8."""
    kind = rng.integers(0, 4)
    colour = torch.from_numpy(rng.uniform(0, 255, (3, 1, 1)).astype(np.float32))
    if kind == 0:
        return colour.expand(3, side, side).to(torch.uint8)
    if kind == 1:
        other = torch.from_numpy(rng.uniform(0, 255, (3, 1, 1)).astype(np.float32))
        ramp = torch.linspace(0, 1, side)[None, :, None] if rng.random() < 0.5 else torch.linspace(0, 1, side)[None, None, :]  # noqa: PLR2004
        return (colour + (other - colour) * ramp).expand(3, side, side).to(torch.uint8)
    coarse = int(rng.integers(2, side))
    noise = torch.from_numpy(rng.normal(0, rng.uniform(2, 60), (3, coarse, coarse)).astype(np.float32))
    level = float(rng.uniform(0, 12)) if kind == 2 else colour  # noqa: PLR2004
    grown = functional.interpolate(noise[None], (side, side), mode="bilinear", align_corners=False)[0]
    return (grown + level).clamp(0, 255).to(torch.uint8)


def photometry(pictures: Tensor, generator: torch.Generator) -> Tensor:
    """Change light, colour and sharpness of a batch as night, lenses, shake and codecs do.

    Args:
        pictures: (B, 3, S, S) float32, range 0 to 255; B may be 0.
        generator: random generator.

    Returns:
        The changed pictures: the same shape, range 0 to 255, whole numbers.
    """
    count, side = pictures.shape[0], pictures.shape[2]
    if not count:
        return pictures

    def uniform(low: float, high: float, channels: int = 1) -> Tensor:
        return torch.empty(count, channels, 1, 1).uniform_(low, high, generator=generator)

    def some(probability: float) -> Tensor:
        return (torch.rand(count, 1, 1, 1, generator=generator) < probability).float()

    x = _blur(pictures, generator)
    grey = x.mean(dim=1, keepdim=True)
    saturation = torch.where(some(0.12) > 0, torch.zeros(count, 1, 1, 1), uniform(0.5, 1.5))
    x = grey + (x - grey) * saturation
    mean = x.mean(dim=(1, 2, 3), keepdim=True)
    x = mean + (x - mean) * uniform(0.5, 1.35)
    x = x * torch.exp(uniform(-0.22, 0.22, 3)) + uniform(-18, 18)
    night = some(0.15)
    x = x * (night * uniform(0.08, 0.5) + (1 - night) * uniform(0.6, 1.3))
    sigma = some(0.5) * uniform(0, 16)
    # One sheet of noise, shifted for each picture: new noise for each picture costs as much as a forward pass.
    sheet = torch.empty(3, side, side).normal_(generator=generator)
    rolls = torch.randint(0, side, (count, 2), generator=generator).tolist()
    noise = torch.stack([sheet.roll((down, right), (1, 2)) for down, right in rolls])
    return _compressed(x + noise * sigma, generator).clamp(0, 255).round()


def _compressed(pictures: Tensor, generator: torch.Generator) -> Tensor:
    """Quantize a quarter of the pictures in 8 x 8 blocks, more coarsely for fine detail, like strongly compressed video.

    Source: the type II cosine transform and the growth of steps with frequency of ITU-T T.81 (JPEG), its tables simplified to a ramp.
    """
    side = pictures.shape[2]
    rows = torch.nonzero(torch.rand(len(pictures), generator=generator) < 0.25).flatten()  # noqa: PLR2004
    if side % 8 or not len(rows):
        return pictures
    n = torch.arange(8.0)
    cosine = torch.cos(torch.pi * (2 * n[None, :] + 1) * n[:, None] / 16) * torch.where(n == 0, 0.125, 0.25).sqrt()[:, None]
    step = torch.empty(len(rows), 1, 1, 1, 1, 1).uniform_(6.0, 60.0, generator=generator)
    steps = step * (1.0 + 0.35 * (n[:, None] + n[None, :]))
    blocks = pictures[rows].reshape(len(rows), 3, side // 8, 8, side // 8, 8).transpose(3, 4)  # (b, 3, S/8, S/8, 8, 8)
    wave = cosine @ blocks @ cosine.T
    blocks = cosine.T @ ((wave / steps).round() * steps) @ cosine
    out = pictures.clone()
    out[rows] = blocks.transpose(3, 4).flatten(4, 5).flatten(2, 3)
    return out


def _blur(pictures: Tensor, generator: torch.Generator) -> Tensor:
    """Change up to five eighths of the batch, each eighth at random: reduce to blocks, soften, or shake (blur in one direction)."""
    x = pictures.clone()
    side = x.shape[2]
    for rows in torch.randperm(len(x), generator=generator).chunk(8)[:5]:
        kind = int(torch.randint(0, 4, (1,), generator=generator))
        part = x[rows]
        if kind <= 1:
            small = int(torch.randint(side * 3 // 8, side * 7 // 8, (1,), generator=generator))
            coarse = functional.interpolate(part, (small, small), mode="bilinear", antialias=True)
            part = functional.interpolate(coarse, (side, side), mode="bilinear" if kind else "nearest")
        else:
            length = 2 * int(torch.randint(1, 4, (1,), generator=generator)) + 1
            window, padding = ((1, length), (0, length // 2)) if kind == 2 else ((length, 1), (length // 2, 0))  # noqa: PLR2004
            part = functional.avg_pool2d(part, window, 1, padding, count_include_pad=False)
        x[rows] = part
    return x
