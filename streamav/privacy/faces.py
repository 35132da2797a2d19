"""Finds the parts of a picture that may show a face, and makes them unrecognisable.

The finder is the face probe of the model on the cells of its grid. It sees no face that is small in the picture, so it is cautious:
a cell counts from a low score on, and with it the cells around it. A model without the probe gives the whole picture.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from streamav.bundle import Bundle
    from streamav.protocols import Engine

__all__ = ["FaceCover", "FaceFinder", "mosaic"]

_PROBE: Final = "face"
_EVERY: Final = 4
"""At 25 pictures a second a face is looked for six times a second; the cells around it cover its way until then."""
_LOGIT: Final = -2.0
"""From this logit on a cell may show a face (probability 0.12): a face that is left is worse than a wall that is hidden."""


class FaceFinder:
    """Finds the cells of a picture that may show a face. One thread uses it."""

    def __init__(self, engine: Engine, bundle: Bundle) -> None:
        """Take the visual encoder of an engine and the face probe of its model, where it has one."""
        card = bundle.card
        self._picture, self._grid = card.visual.picture, card.visual.grid
        probes = () if card.evidence is None else card.evidence.probes
        self._weight: NDArray[np.float32] | None = None
        if _PROBE in probes:
            arrays, place = bundle.weights("evidence"), probes.index(_PROBE)
            self._weight, self._bias = arrays["probes.weight"][place], arrays["probes.bias"][place]
            self._visual = engine.network("visual")

    def cells(self, picture: NDArray[np.uint8]) -> NDArray[np.bool_]:
        """Return which cells of the model's grid, shape (G, G), may show a face in a picture of any size, shape (h, w, 3) RGB."""
        if self._weight is None:
            return np.ones((self._grid, self._grid), np.bool_)
        grid = self._visual(_scaled(picture, self._picture)[None])[0][0]
        return _wider(np.asarray(grid @ self._weight + self._bias >= _LOGIT))


class FaceCover:
    """Hides faces in the pictures of one clip, in order. It looks at every fourth picture, and hides what the last two looks found."""

    def __init__(self, finder: FaceFinder) -> None:
        """Start before the first picture."""
        self._finder = finder
        self._count = 0
        self._found: list[NDArray[np.bool_]] = []

    def __call__(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Take the next picture, shape (H, W, 3) RGB; return it without faces."""
        if self._count % _EVERY == 0:
            self._found = [*self._found[-1:], self._finder.cells(picture)]
        self._count += 1
        return mosaic(picture, np.logical_or.reduce(self._found))


def mosaic(picture: NDArray[np.uint8], cells: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Return a picture in which each marked cell is one colour, its mean. That cannot be undone, as the undoing of a blur can.

    Args:
        picture: shape (h, w, 3).
        cells: shape (rows, columns).
    """
    if not cells.any():
        return picture
    made = picture.copy()
    down, across = (np.linspace(0, size, count + 1).round().astype(int) for size, count in zip(picture.shape, cells.shape, strict=False))
    for row, column in np.argwhere(cells):
        place = np.s_[down[row] : down[row + 1], across[column] : across[column + 1]]
        if made[place].size:
            made[place] = made[place].mean(axis=(0, 1)).round().astype(np.uint8)
    return made


def _wider(cells: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the cells and those that touch them."""
    padded = np.pad(cells, 1)
    rows, columns = cells.shape
    found: NDArray[np.bool_] = np.logical_or.reduce(
        [padded[down : down + rows, across : across + columns] for down in range(3) for across in range(3)]
    )
    return found


def _scaled(picture: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    if picture.shape[:2] == size:
        return picture
    import av

    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
    return frame.reformat(width=size[1], height=size[0], format="rgb24", interpolation="BILINEAR").to_ndarray().astype(np.uint8)
