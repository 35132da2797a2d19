"""Finds bars at the edges of a picture, and cuts them off before the visual encoder. Pure numpy.

A wide film on a narrow screen has bars above and below, a telephone's portrait film has them left and right. They come in pairs of one
colour. Encoders that see them see the scene small: with bars of 22 % above and below, `starter` named 49 of 80 recordings instead of 59
(docs/results.md).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from streamav.types import Box

__all__ = ["inside_bars", "scene_of", "without_bars"]

_ALIKE = 6
"""Grey levels, of 255: pixels of a bar differ by at most this much from its colour. Compressed bars differ by less than 4."""
_FLAT = 0.98
"""Share of the pixels of a line that have the bar's colour; the others are specks, or noise beside the scene."""
_LEAST = 0.04
"""Bars that take less of the height, or width, change nothing that an encoder sees."""
_MOST = 0.75
"""Lines of one colour that take more of the height, or width, are no bars: the picture is dark or empty."""
_EVEN = 0.5
"""The thinner bar has at least this share of the thicker one: a dark sky or a white floor has no partner."""


def inside_bars(picture: NDArray[np.uint8]) -> Box | None:
    """Return the box of the scene between its bars: left, top, right, bottom, range 0 to 1; None for a picture without bars.

    Args:
        picture: shape (h, w, 3), RGB.
    """
    height, width = picture.shape[:2]
    top, bottom = _thickness(picture)
    left, right = _thickness(picture.transpose(1, 0, 2))
    if not top and not left:
        return None
    return left / width, top / height, 1.0 - right / width, 1.0 - bottom / height


def scene_of(pictures: NDArray[np.uint8], box: Box | None) -> NDArray[np.uint8]:
    """Return the part of pictures, shape (..., h, w, 3), that a box of `inside_bars` holds; None for the whole pictures."""
    if box is None:
        return pictures
    (height, width), (left, top, right, bottom) = pictures.shape[-3:-1], box
    return pictures[..., round(top * height) : round(bottom * height), round(left * width) : round(right * width), :]


def without_bars(pictures: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return pictures of the same shape in which the scene between the bars fills the whole picture.

    Args:
        pictures: shape (n, h, w, 3), RGB. Pictures without bars stay as they are; without any, *pictures* itself is returned.
    """
    boxes = [inside_bars(picture) for picture in pictures]
    if not any(boxes):
        return pictures
    return np.stack([picture if box is None else _stretched(picture, box) for picture, box in zip(pictures, boxes, strict=True)])


def _thickness(lines: NDArray[np.uint8]) -> tuple[int, int]:
    """Return the thickness of the bars before and after the scene, in lines; 0 and 0 without a pair of bars.

    Args:
        lines: shape (n, m, 3), the lines along the first axis.
    """
    colour = np.median(lines[0], axis=0)
    if not _of_colour(lines[:1], colour)[0] or not _of_colour(lines[-1:], colour)[0]:
        return 0, 0
    scene = np.flatnonzero(~_of_colour(lines, colour))
    if not scene.size:
        return 0, 0
    count, before, after = len(lines), int(scene[0]), len(lines) - 1 - int(scene[-1])
    bars = before + after
    even = min(before, after) >= _EVEN * max(before, after)
    return (before, after) if even and _LEAST * count <= bars <= _MOST * count else (0, 0)


def _of_colour(lines: NDArray[np.uint8], colour: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return which lines (n, m, 3) have one colour (3,), shape (n,)."""
    apart = np.abs(lines.astype(np.int16) - np.rint(colour).astype(np.int16)).max(axis=2)
    return np.asarray((apart <= _ALIKE).mean(axis=1) >= _FLAT)


def _stretched(picture: NDArray[np.uint8], box: Box) -> NDArray[np.uint8]:
    """Return the box of a picture at the size of the whole one, interpolated linearly."""
    height, width = picture.shape[:2]
    scene = scene_of(picture, box).astype(np.float32)
    if len(scene) < height:
        scene = _resampled(scene, height)
    if scene.shape[1] < width:
        scene = _resampled(scene.transpose(1, 0, 2), width).transpose(1, 0, 2)
    return np.rint(scene).astype(np.uint8)


def _resampled(lines: NDArray[np.float32], count: int) -> NDArray[np.float32]:
    """Return *count* lines at even distances over lines (n, ...), count >= n, each between its two neighbours."""
    places = np.clip((np.arange(count) + 0.5) * len(lines) / count - 0.5, 0.0, len(lines) - 1.0)
    before = places.astype(np.intp)
    share = (places - before).astype(np.float32)[:, None, None]
    following = np.minimum(before + 1, len(lines) - 1)
    return np.asarray(lines[before] * (1.0 - share) + lines[following] * share)
