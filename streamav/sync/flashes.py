"""Finds when flashes begin: places of the picture that become bright at once, and dark again soon, each time together."""

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
_TOGETHER: Final = 0.5
"""Blocks belong together when they become bright in the same pictures, in at least this share of the times of each of them."""
_MOST_OF_THEM: Final = 0.6
"""A flash makes at least this share of the blocks that belong together bright; what moves passes one after the other."""
_SHARE: Final = 0.5
"""Flashes have at least this share of the step that is usual for their place."""
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

    def places_ns(self) -> list[list[int]]:
        """Return, for each place of the picture that flashes, when it begins to: media time, oldest first.

        A place is a set of blocks that become bright together. A telephone is one place. What moves makes blocks bright one after the
        other, so it is no place, or another one; which place shows the flashes is known from the beeps (`measure_skew`).
        """
        if len(self._times_ns) < 5:  # noqa: PLR2004 - dark, two steps up, bright, dark
            return []
        times, levels = np.array(self._times_ns), np.stack(self._blocks)
        rise = _rises(levels)
        began = _onsets(times, levels, rise)
        near = began.copy()  # a flash that begins between two pictures shows in either
        near[1:] |= began[:-1]
        found: list[list[int]] = []
        for blocks in _places(began):
            onsets = self._of_place(times, levels[:, blocks], rise[:, blocks], near[:, blocks])
            if onsets and onsets not in found:
                found.append(onsets)
        return found

    @staticmethod
    def _of_place(times: NDArray[np.int64], levels: NDArray[np.float32], rise: NDArray[np.float32], near: NDArray[np.bool_]) -> list[int]:
        """Return when the blocks of one place begin to flash."""
        candidates = np.flatnonzero(near.mean(axis=1) >= _MOST_OF_THEM)
        firsts: list[int] = []
        for number in candidates.tolist():
            if not firsts or times[number] - times[firsts[-1]] > _APART_NS:
                firsts.append(number)
        steps = [float(rise[number : number + 2].mean(axis=1).max()) for number in firsts]
        least = _SHARE * float(np.median(steps)) if steps else 0.0
        return [_began(times, levels, rise, number) for number, step in zip(firsts, steps, strict=True) if step >= least]


def _rises(levels: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return by how much each block became brighter within the last two pictures; a flash may begin while a picture is exposed."""
    rise = np.zeros_like(levels)
    rise[1:] = levels[1:] - levels[:-1]
    rise[2:] = np.maximum(rise[2:], levels[2:] - levels[:-2])
    return rise


def _onsets(times: NDArray[np.int64], levels: NDArray[np.float32], rise: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return in which pictures each block begins to be bright, and is dark again soon."""
    began = rise >= _STEP
    began[1:] &= ~(rise[:-1] >= _STEP)
    for number, block in np.argwhere(began).tolist():
        end = int(np.searchsorted(times, times[number] + _LONGEST_NS))
        lit = levels[number : max(end, number + 2), block]
        before = float(levels[max(0, number - 2) : number, block].mean())
        began[number, block] = bool(lit[-1] - before < 0.5 * (float(lit.max()) - before))
    return began


def _places(began: NDArray[np.bool_]) -> list[list[int]]:
    """Return sets of at least two blocks that become bright in the same pictures, or one picture apart."""
    times = began.astype(np.float32)
    near = times.copy()
    near[1:] = np.maximum(near[1:], times[:-1])
    near[:-1] = np.maximum(near[:-1], times[1:])
    count = times.sum(axis=0)
    common = times.T @ near
    least = _TOGETHER * np.maximum(np.maximum(count[:, None], count[None, :]), 1.0)
    together = np.minimum(common, common.T) >= least
    sets = {tuple(np.flatnonzero(row).tolist()) for row, known in zip(together, count, strict=True) if known}
    return [list(blocks) for blocks in sorted(sets, key=lambda one: (-len(one), one)) if len(blocks) > 1]


def _began(times: NDArray[np.int64], levels: NDArray[np.float32], rise: NDArray[np.float32], place: int) -> int:
    """Return when a flash began: a picture that shows less than the full brightness was exposed before it; its share tells when."""
    strongest = place + int(np.argmax(rise[place : place + 2].mean(axis=1)))
    blocks = rise[strongest] >= 0.5 * float(rise[strongest].max())
    dark = float(levels[max(0, place - 2) : place, blocks].mean())
    full = float(levels[place : place + 3, blocks].mean(axis=1).max())
    share = (float(levels[place, blocks].mean()) - dark) / max(1.0, full - dark)
    length = int(times[place + 1] - times[place]) if place + 1 < len(times) else 0
    return int(times[place]) + round((1.0 - min(1.0, max(0.0, share))) * length)
