"""Shows decoded pictures as a player shows them: upright, and with square pixels.

Cameras and phones store what their sensor gives. How far it is turned, and that its pixels are wide or narrow, stands beside the pictures.
"""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    import av
    from numpy.typing import NDArray

__all__ = ["shown_size", "upright"]

_SQUARE: Final = Fraction(1)
_MOST: Final = 4
"""Pixels are at most so much wider than high, or higher than wide; other values are errors of a header (our choice)."""


def shown_size(size: tuple[int, int], aspect: Fraction | None, turns: int = 0) -> tuple[int, int]:
    """Return the width and height in which pictures are shown, pixels; they are enlarged where pixels are not square.

    Args:
        size: width and height as stored, pixels.
        aspect: width of a pixel by its height; None or 0 where it is not known.
        turns: how many quarter turns to the left make the pictures upright.
    """
    width, height = size
    if aspect and Fraction(1, _MOST) <= aspect <= _MOST:
        width, height = round(width * max(aspect, _SQUARE)), round(height / min(aspect, _SQUARE))
    return (height, width) if turns % 2 else (width, height)


def upright(frame: av.VideoFrame, aspect: Fraction | None, turns: int) -> NDArray[np.uint8]:
    """Return a picture as it is shown, shape (H, W, 3) RGB."""
    width, height = shown_size((frame.width, frame.height), aspect)
    pixels = frame.reformat(width, height, "rgb24").to_ndarray().astype(np.uint8, copy=False)
    return np.ascontiguousarray(np.rot90(pixels, turns))
