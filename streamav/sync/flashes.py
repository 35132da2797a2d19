"""Finds when flashes begin: places of the picture that become bright at once, and dark again soon."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from streamav.types import VideoFrame

__all__ = ["PICTURE", "PICTURES_PER_SECOND", "Flashes"]

PICTURE: Final = (96, 96)
"""Height and width of the pictures that are looked at, pixels."""
PICTURES_PER_SECOND: Final = 60
"""Pictures that are looked at; cameras have at most as many."""
_BLOCKS: Final = 12
"""Blocks along a side: a telephone that fills an eighth of the picture's width is seen."""
_STEP: Final = 20.0
"""A flash makes a block brighter by at least this much, of 255, within two pictures."""
_LONGEST_NS: Final = 600_000_000
"""A block that stays bright for longer shows something else: the light was switched on."""
_SHARE: Final = 0.5
"""Flashes have at least this share of the step of the strongest of them."""
_APART_NS: Final = 300_000_000


class Flashes:
    """The pictures of a source. It keeps only the brightness of 12 x 12 blocks of each."""

    def __init__(self) -> None:
        """Start without pictures."""
        self._times_ns: list[int] = []
        self._blocks: list[NDArray[np.float32]] = []

    def push(self, picture: VideoFrame) -> None:
        """Take the next picture; its size is a multiple of 12."""
        if self._times_ns and picture.start_ns <= self._times_ns[-1]:
            return
        height, width = picture.pixels.shape[:2]
        blocks = picture.pixels.reshape(_BLOCKS, height // _BLOCKS, _BLOCKS, width // _BLOCKS, 3).mean(axis=(1, 3, 4))
        self._times_ns.append(picture.start_ns)
        self._blocks.append(blocks.astype(np.float32).ravel())

    @property
    def period_ns(self) -> int:
        """Usual time between two pictures, ns; 0 for fewer than two."""
        return int(np.median(np.diff(self._times_ns))) if len(self._times_ns) > 1 else 0

    def onsets_ns(self) -> list[int]:
        """Return when flashes begin, media time, oldest first.

        A picture that shows less than the full brightness was exposed before the flash began; the share of its brightness tells when.
        """
        if len(self._times_ns) < 5:  # noqa: PLR2004 - dark, two steps up, bright, dark
            return []
        times, levels = np.array(self._times_ns), np.stack(self._blocks)
        rise = np.zeros_like(levels)
        rise[1:] = levels[1:] - levels[:-1]
        rise[2:] = np.maximum(rise[2:], levels[2:] - levels[:-2])
        strength = np.sort(rise, axis=1)[:, -2:].mean(axis=1)  # two blocks at least
        candidates = [place for place in np.flatnonzero(strength >= _STEP).tolist() if self._falls(times, levels, rise, place)]
        if not candidates:
            return []
        most = max(float(strength[place]) for place in candidates)
        found: list[int] = []
        for place in candidates:
            if strength[place] < _SHARE * most and strength[min(place + 1, len(strength) - 1)] < _SHARE * most:
                continue
            if not found or times[place] - times[found[-1]] > _APART_NS:
                found.append(place)
        return [self._began(times, levels, rise, place) for place in found]

    def _falls(self, times: NDArray[np.int64], levels: NDArray[np.float32], rise: NDArray[np.float32], place: int) -> bool:
        """Return whether the blocks that became bright are dark again soon."""
        blocks = rise[place] >= max(_STEP / 2, 0.5 * float(rise[place].max()))
        end = int(np.searchsorted(times, times[place] + _LONGEST_NS))
        lit = levels[place : max(end, place + 2), blocks].mean(axis=1)
        before = float(levels[max(0, place - 2), blocks].mean())
        return bool(lit[-1] - before < 0.5 * (lit.max() - before))

    def _began(self, times: NDArray[np.int64], levels: NDArray[np.float32], rise: NDArray[np.float32], place: int) -> int:
        strongest = place + int(np.argmax(rise[place : place + 2].max(axis=1)))
        blocks = rise[strongest] >= 0.5 * float(rise[strongest].max())
        dark = float(levels[max(0, place - 2) : place, blocks].mean())
        full = float(levels[place : place + 3, blocks].mean(axis=1).max())
        share = (float(levels[place, blocks].mean()) - dark) / max(1.0, full - dark)
        length = int(times[place + 1] - times[place]) if place + 1 < len(times) else 0
        return int(times[place]) + round((1.0 - min(1.0, max(0.0, share))) * length)
