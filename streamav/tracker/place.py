"""Finds the place in the picture where the attention is strongest.

It uses attention grids only, no labels and no picture.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from streamav.types import Location

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["locate", "strongest"]

_FLAT: Final = 1.2
"""The attention is flat, and gives no box, when its strongest cell is below this factor times the mean of all cells that have some:
bars at the edges of the picture have none."""
_NEAR_PEAK: Final = 0.5
"""A cell belongs to the place when it reaches at least this share of the strongest cell (half maximum)."""


def locate(attention: Sequence[NDArray[np.float32]]) -> Location | None:
    """Return the place where the mean of some attention grids is strongest, or None without any grid.

    Args:
        attention: grids of shape (G, G), each summing to 1.

    Returns:
        Centre of the strongest cell, and the box of the cells around it that reach at least half its strength; no box when
        the attention is flat.
    """
    if not attention:
        return None
    grid: NDArray[np.float64] = np.stack(attention).astype(np.float64).mean(axis=0)
    rows, columns = grid.shape
    row, column = divmod(int(grid.argmax()), columns)
    peak = ((column + 0.5) / columns, (row + 0.5) / rows)
    heat = tuple(map(tuple, grid.tolist()))
    if grid[row, column] < _FLAT * grid.mean(where=grid > 0.0):
        return Location(grid=(rows, columns), peak=peak, box=None, heat=heat)
    cells = _blob(grid >= _NEAR_PEAK * grid[row, column], (row, column))
    top, bottom = min(cell[0] for cell in cells), max(cell[0] for cell in cells) + 1
    left, right = min(cell[1] for cell in cells), max(cell[1] for cell in cells) + 1
    box = (left / columns, top / rows, right / columns, bottom / rows)
    return Location(grid=(rows, columns), peak=peak, box=box, heat=heat)


def strongest(attention: NDArray[np.float32]) -> tuple[float, float] | None:
    """Return x, y of the centre of the strongest cell of one grid (G, G), 0 to 1; None when the attention is flat."""
    rows, columns = attention.shape
    row, column = divmod(int(attention.argmax()), columns)
    if float(attention[row, column]) < _FLAT * float(attention.mean(dtype=np.float64, where=attention > 0.0)):
        return None
    return (column + 0.5) / columns, (row + 0.5) / rows


def _blob(strong: NDArray[np.bool_], seed: tuple[int, int]) -> set[tuple[int, int]]:
    """Return the strong cells that are connected with *seed* by their sides."""
    found, edge = {seed}, [seed]
    while edge:
        row, column = edge.pop()
        for cell in ((row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1)):
            inside = 0 <= cell[0] < strong.shape[0] and 0 <= cell[1] < strong.shape[1]
            if inside and strong[cell] and cell not in found:
                found.add(cell)
                edge.append(cell)
    return found
