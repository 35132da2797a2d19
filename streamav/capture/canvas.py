"""Draws anti-aliased shapes into a small picture with transparency, from their signed distances, with numpy only.

It holds no kinds of things and no time. Coordinates run from 0 to 1, x from the left, y from the top.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["Canvas", "Colour"]

Colour = tuple[float, float, float]
"""Red, green, blue, range 0 to 255."""
_Part = tuple[slice, slice]


class Canvas:
    """A square picture on which shapes are painted, one over the other; it starts transparent."""

    def __init__(self, size: int) -> None:
        """Make a canvas of *size* by *size* pixels, size at least 1."""
        self._size = size
        centres = ((np.arange(size) + 0.5) / size).astype(np.float32)
        self._x: NDArray[np.float32] = centres[None, :]
        self._y: NDArray[np.float32] = centres[:, None]
        self._paint = np.zeros((size, size, 4), np.float32)  # colour times alpha, then alpha

    def ellipse(self, x: float, y: float, rx: float, ry: float, colour: Colour, opacity: float = 1.0) -> None:
        """Paint an ellipse around (x, y) with half axes rx and ry."""
        part, px, py = self._part(x - rx, y - ry, x + rx, y + ry)
        self._fill(part, (np.hypot((px - x) / rx, (py - y) / ry) - 1.0) * min(rx, ry), colour, opacity)

    def box(self, x0: float, y0: float, x1: float, y1: float, colour: Colour, *, rounding: float = 0.0) -> None:
        """Paint an upright box with corners rounded by a radius of *rounding*."""
        part, px, py = self._part(x0, y0, x1, y1)
        dx = np.abs(px - (x0 + x1) / 2) - (x1 - x0) / 2 + rounding
        dy = np.abs(py - (y0 + y1) / 2) - (y1 - y0) / 2 + rounding
        outside = np.hypot(np.maximum(dx, 0.0), np.maximum(dy, 0.0))
        self._fill(part, outside + np.minimum(np.maximum(dx, dy), 0.0) - rounding, colour)

    def line(self, start: tuple[float, float], end: tuple[float, float], width: float, colour: Colour) -> None:
        """Paint a line with round ends."""
        (x0, y0), (x1, y1), half = start, end, width / 2
        part, px, py = self._part(min(x0, x1) - half, min(y0, y1) - half, max(x0, x1) + half, max(y0, y1) + half)
        dx, dy = x1 - x0, y1 - y0
        along = np.clip(((px - x0) * dx + (py - y0) * dy) / max(dx * dx + dy * dy, 1e-9), 0.0, 1.0)
        self._fill(part, np.hypot(px - x0 - along * dx, py - y0 - along * dy) - half, colour)

    def polygon(self, corners: Sequence[tuple[float, float]], colour: Colour) -> None:
        """Paint a convex polygon; its corners are in clockwise order on the screen."""
        xs, ys = [x for x, _ in corners], [y for _, y in corners]
        part, px, py = self._part(min(xs), min(ys), max(xs), max(ys))
        distance = np.full((py.shape[0], px.shape[1]), -1.0, np.float32)
        for (x0, y0), (x1, y1) in zip(corners, [*corners[1:], corners[0]], strict=True):
            dx, dy = x1 - x0, y1 - y0
            np.maximum(distance, ((px - x0) * dy - (py - y0) * dx) / max(float(np.hypot(dx, dy)), 1e-6), out=distance)
        self._fill(part, distance, colour)

    def pixels(self) -> NDArray[np.uint8]:
        """Return the picture, shape (size, size, 4): red, green, blue (not multiplied by alpha), alpha, range 0 to 255."""
        alpha = self._paint[:, :, 3:]
        colour = self._paint[:, :, :3] / np.maximum(alpha, 1e-6)
        return np.concatenate([np.clip(colour, 0.0, 255.0), alpha * 255.0], axis=2).round().astype(np.uint8)

    def _part(self, x0: float, y0: float, x1: float, y1: float) -> tuple[_Part, NDArray[np.float32], NDArray[np.float32]]:
        """Return the pixels that a shape within these bounds can touch, and their coordinates; this saves time: most shapes are small."""
        left, top = (max(0, int(edge * self._size) - 1) for edge in (x0, y0))
        right, bottom = (max(0, int(edge * self._size) + 2) for edge in (x1, y1))
        columns, rows = slice(left, right), slice(top, bottom)
        return (rows, columns), self._x[:, columns], self._y[rows]

    def _fill(self, part: _Part, distance: NDArray[np.floating], colour: Colour, opacity: float = 1.0) -> None:
        """Paint where *distance* (in canvas widths, negative inside) is below 0, with a soft edge of one pixel."""
        cover = (np.clip(0.5 - distance * self._size, 0.0, 1.0) * opacity)[:, :, None].astype(np.float32)
        paint = self._paint[part]
        paint *= 1.0 - cover
        paint += cover * np.array([*colour, 1.0], np.float32)
