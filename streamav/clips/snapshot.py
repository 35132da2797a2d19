"""Draws where an event is into a picture, the attention as a heat map and its box, and encodes it as JPEG.

Pure: it takes pixels and returns bytes.
"""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from streamav.types import Box, Location

__all__ = ["drawn", "jpeg"]

_ONE: Final = Fraction(1)
_COLOUR: Final = np.array([255.0, 64.0, 0.0])
_BOX_COLOUR: Final = np.array([255, 220, 0], np.uint8)
_MOST: Final = 0.55
"""Opacity of the heat map where the attention is strongest."""
_STRIP: Final = 64
"""Rows that are drawn at a time."""
_QUALITY: Final = "4"
"""FFmpeg's scale: 2 is best, 31 is worst."""


def drawn(picture: NDArray[np.uint8], location: Location | None) -> NDArray[np.uint8]:
    """Return a copy of a picture, shape (H, W, 3) RGB, with the heat map and the box of a location; unchanged without a location."""
    if location is None:
        return picture.copy()
    height, width, _ = picture.shape
    made = picture.copy()
    if location.heat:
        grid = np.array(location.heat, np.float64)
        for first in range(0, height, _STRIP):  # a whole picture of a large camera would take a gigabyte as floating-point numbers
            strip = made[first : first + _STRIP]
            strength = _MOST * _enlarged(grid, height, width, slice(first, first + len(strip)))[:, :, None]
            strip[:] = np.clip(np.rint(strip * (1.0 - strength) + _COLOUR * strength), 0, 255).astype(np.uint8)
    if location.box is not None:
        _outline(made, location.box)
    return made


def jpeg(picture: NDArray[np.uint8]) -> bytes:
    """Return a picture, shape (H, W, 3) RGB, as a JPEG file."""
    import av

    height, width = picture.shape[:2]
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24").reformat(format="yuvj420p", dst_color_range="JPEG")
    context = av.CodecContext.create("mjpeg", "w")
    context.width, context.height, context.pix_fmt, context.time_base = width, height, "yuvj420p", _ONE
    context.options = {"qmin": _QUALITY, "qmax": _QUALITY}
    return b"".join(bytes(packet) for packet in [*context.encode(frame), *context.encode(None)])


def _enlarged(grid: NDArray[np.float64], height: int, width: int, rows_of: slice) -> NDArray[np.float64]:
    """Return some rows of a grid that is enlarged to a picture: 0 at its weakest and 1 at its strongest cell, linear between centres."""
    low, high = float(grid.min()), float(grid.max())
    level = (grid - low) / (high - low) if high > low else np.zeros_like(grid)
    rows, columns = grid.shape
    across = (np.arange(width) + 0.5) / width * columns - 0.5
    down = (np.arange(height)[rows_of] + 0.5) / height * rows - 0.5
    wide = np.stack([np.interp(across, np.arange(columns), row) for row in level])
    return np.stack([np.interp(down, np.arange(rows), column) for column in wide.T], axis=1)


def _outline(picture: NDArray[np.uint8], box: Box) -> None:
    height, width, _ = picture.shape
    x0, y0, x1, y1 = (round(share * size) for share, size in zip(box, (width, height, width, height), strict=True))
    thick = max(1, min(height, width) // 200)
    picture[y0 : y0 + thick, x0:x1] = picture[y1 - thick : y1, x0:x1] = _BOX_COLOUR
    picture[y0:y1, x0 : x0 + thick] = picture[y0:y1, x1 - thick : x1] = _BOX_COLOUR
