"""Zones: named polygons on the picture, and which of them hold the place of an event.

The place is known as a cell of the attention's grid, 7 x 7 in the models of the package. A cell belongs to a zone when at least half of
it lies in the polygon; a polygon that is smaller than this everywhere has the cell that it covers most. shapely would clip exactly, but
it is a large package for one rule that sampling answers well.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["MOST_POINTS", "Polygon", "Zone", "read_polygon", "zones_at"]

Polygon = tuple[tuple[float, float], ...]

MOST_POINTS: Final = 100
"""Most corners of a zone (our choice)."""
LEAST_AREA: Final = 1e-4
"""Smallest area of a zone, as a share of the picture (our choice): less is a mistake, such as three points on a line."""
_SAMPLES: Final = 16
"""A cell is judged by 16 x 16 points."""
_ENOUGH: Final = 0.5


@dataclass(frozen=True, slots=True)
class Zone:
    """A named part of the picture."""

    name: str
    polygon: Polygon
    """Corners (x, y), 0 to 1 from the top left corner; the last one is joined to the first. Where it crosses itself the even-odd rule
    holds."""

    def holds(self, place: tuple[float, float], grid: tuple[int, int]) -> bool:
        """Return whether a place (x, y, 0 to 1) lies in the zone, as finely as a grid of (rows, columns) tells."""
        rows, columns = grid
        row, column = min(int(place[1] * rows), rows - 1), min(int(place[0] * columns), columns - 1)
        return row * columns + column in _cells(self.polygon, grid)


def zones_at(zones: Sequence[Zone], place: tuple[float, float] | None, grid: tuple[int, int]) -> tuple[str, ...]:
    """Return the names of the zones that hold a place, in their order; none when the place is not known."""
    return () if place is None else tuple(zone.name for zone in zones if zone.holds(place, grid))


def read_polygon(corners: Sequence[Sequence[float]]) -> Polygon:
    """Check the corners of a zone.

    Raises:
        ValueError: when there are fewer than 3 or more than 100, one lies outside of the picture, or the area is nothing.
    """
    if not 3 <= len(corners) <= MOST_POINTS:  # noqa: PLR2004 - a polygon
        msg = f"a zone must have 3 to {MOST_POINTS} corners [x, y], got {len(corners)}"
        raise ValueError(msg)
    polygon = tuple((float(x), float(y)) for x, y in corners)
    if not all(0.0 <= value <= 1.0 for corner in polygon for value in corner):
        msg = "the corners of a zone must be [x, y] from 0 to 1, from the top left corner of the picture, got others"
        raise ValueError(msg)
    if _share(polygon) < LEAST_AREA:
        msg = f"a zone must cover at least {LEAST_AREA:g} of the picture, got corners (nearly) on a line"
        raise ValueError(msg)
    return polygon


def _share(polygon: Polygon) -> float:
    """Return the area between the extremes of a polygon, as a share of the picture; nothing for corners on a line."""
    corners = np.array(polygon)
    x, y = corners.T
    signed = 0.5 * float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)))
    if abs(signed) >= LEAST_AREA:
        return abs(signed)
    steps = (np.arange(256) + 0.5) / 256  # a polygon that crosses itself, whose parts cancel
    return float(_inside(polygon, *np.meshgrid(steps, steps)).mean())


@lru_cache(maxsize=1024)
def _cells(polygon: Polygon, grid: tuple[int, int]) -> frozenset[int]:
    """Return the numbers (row by row) of the cells that belong to a polygon, at least one."""
    rows, columns = grid
    across = (np.arange(columns * _SAMPLES) + 0.5) / (columns * _SAMPLES)
    down = (np.arange(rows * _SAMPLES) + 0.5) / (rows * _SAMPLES)
    inside = _inside(polygon, *np.meshgrid(across, down))
    covered = inside.reshape(rows, _SAMPLES, columns, _SAMPLES).mean(axis=(1, 3)).ravel()
    if not covered.any():  # it lies between the samples
        x, y = np.array(polygon).mean(axis=0)
        return frozenset({min(int(y * rows), rows - 1) * columns + min(int(x * columns), columns - 1)})
    return frozenset(np.flatnonzero((covered >= _ENOUGH) | (covered == covered.max())).tolist())


def _inside(polygon: Polygon, x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return for each point whether a ray from it to the right crosses an odd number of edges.

    Source: W. R. Franklin, PNPOLY.
    """
    inside = np.zeros(x.shape, dtype=np.bool_)
    before_x, before_y = polygon[-1]
    for corner_x, corner_y in polygon:
        if corner_y != before_y:
            crosses = (corner_y > y) != (before_y > y)
            with np.errstate(over="ignore"):  # of points beside an edge that is all but level; no ray crosses it there
                inside ^= crosses & (x < (before_x - corner_x) * (y - corner_y) / (before_y - corner_y) + corner_x)
        before_x, before_y = corner_x, corner_y
    return inside
