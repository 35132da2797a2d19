"""Draws where an event is into a picture, the attention as a heat map and its box, and encodes it as JPEG.

Pure: it takes pixels and returns bytes.
"""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from streamav.types import Location

__all__ = ["drawn", "jpeg"]

_ONE: Final = Fraction(1)
_COLOUR: Final = np.array([255.0, 64.0, 0.0])
_BOX_COLOUR: Final = np.array([255, 220, 0], np.uint8)
_MOST: Final = 0.55
"""Opacity of the heat map where the attention is strongest."""
_QUALITY: Final = "4"
"""FFmpeg's scale: 2 is best, 31 is worst."""


def drawn(picture: NDArray[np.uint8], location: Location | None) -> NDArray[np.uint8]:
    """Return a copy of a picture, shape (H, W, 3) RGB, with the heat map and the box of a location; unchanged without a location."""
    if location is None:
        return picture.copy()
    height, width, _ = picture.shape
    shown = picture.astype(np.float64)
    if location.heat:
        strength = _MOST * _enlarged(np.array(location.heat, np.float64), height, width)[:, :, None]
        shown = shown * (1.0 - strength) + _COLOUR * strength
    made = np.clip(np.rint(shown), 0, 255).astype(np.uint8)
    if location.box is not None:
        _outline(made, location.box)
    return made


def jpeg(picture: NDArray[np.uint8]) -> bytes:
    """Return a picture as a JPEG file; an odd last row or column is cut off."""
    import av

    height, width = picture.shape[0] // 2 * 2, picture.shape[1] // 2 * 2
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture[:height, :width]), format="rgb24").reformat(
        format="yuvj420p", dst_color_range="JPEG"
    )
    context = av.CodecContext.create("mjpeg", "w")
    context.width, context.height, context.pix_fmt, context.time_base = width, height, "yuvj420p", _ONE
    context.options = {"qmin": _QUALITY, "qmax": _QUALITY}
    return b"".join(bytes(packet) for packet in [*context.encode(frame), *context.encode(None)])


def _enlarged(grid: NDArray[np.float64], height: int, width: int) -> NDArray[np.float64]:
    """Return a grid from 0 at its weakest to 1 at its strongest cell, enlarged to a picture; between the cells' centres it is linear."""
    low, high = float(grid.min()), float(grid.max())
    level = (grid - low) / (high - low) if high > low else np.zeros_like(grid)
    rows, columns = grid.shape
    across = (np.arange(width) + 0.5) / width * columns - 0.5
    down = (np.arange(height) + 0.5) / height * rows - 0.5
    wide = np.stack([np.interp(across, np.arange(columns), row) for row in level])
    return np.stack([np.interp(down, np.arange(rows), column) for column in wide.T], axis=1)


def _outline(picture: NDArray[np.uint8], box: tuple[float, float, float, float]) -> None:
    height, width, _ = picture.shape
    x0, y0, x1, y1 = (round(share * size) for share, size in zip(box, (width, height, width, height), strict=True))
    thick = max(1, min(height, width) // 200)
    picture[y0 : y0 + thick, x0:x1] = picture[y1 - thick : y1, x0:x1] = _BOX_COLOUR
    picture[y0:y1, x0 : x0 + thick] = picture[y0:y1, x1 - thick : x1] = _BOX_COLOUR
