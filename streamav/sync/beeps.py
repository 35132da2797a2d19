"""Finds when beeps begin: sudden rises of the level out of quiet."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from streamav.types import SAMPLE_RATE_HZ

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from streamav.types import AudioBlock

__all__ = ["Beeps"]

_HOP: Final = 32
"""Samples of a step of the level, 2 ms."""
_HOP_NS: Final = _HOP * 1_000_000_000 // SAMPLE_RATE_HZ
_BEFORE: Final = 50
_AFTER: Final = 15
"""Steps before and after an onset that are compared: 100 ms of quiet, 30 ms of beep."""
_RISE_DB: Final = 10.0
"""A beep begins where the level rises by at least this, dB (our choice)."""
_LEAST: Final = 1e-4
"""Level below which nothing is a beep, -80 dBFS."""
_SHARE: Final = 0.1
"""An onset is where the level passes this share of the beep's: before the middle of the rise, as an ear hears it."""
_LOUD: Final = 0.25
"""Beeps have at least this share of the level of the loudest of them; quieter rises are echoes and noise."""
_APART: Final = 150
"""Steps between two beeps at least: 300 ms."""


class Beeps:
    """The sound of a source. It keeps only the level of each 2 ms."""

    def __init__(self) -> None:
        """Start without sound."""
        self._zero_ns: int | None = None
        self._levels: list[NDArray[np.float64]] = []
        self._rest = np.zeros(0, np.float32)
        self._count = 0

    def push(self, block: AudioBlock) -> None:
        """Take the next block; a gap between blocks is silence, an overlap is left out."""
        if self._zero_ns is None:
            self._zero_ns = block.start_ns
        place = round((block.start_ns - self._zero_ns) * SAMPLE_RATE_HZ / 1_000_000_000)
        samples = block.samples[max(0, self._count - place) :]
        gap = max(0, min(place - self._count, 60 * SAMPLE_RATE_HZ))
        if place - self._count <= _HOP * 10:  # time stamps are rounded
            gap = 0
        joined = np.concatenate([self._rest, np.zeros(gap, np.float32), samples])
        self._count += gap + samples.size
        whole = joined.size // _HOP * _HOP
        self._levels.append(np.sqrt(np.square(joined[:whole].astype(np.float64)).reshape(-1, _HOP).mean(axis=1)))
        self._rest = joined[whole:]

    @property
    def seconds(self) -> float:
        """Length of the sound, s."""
        return self._count / SAMPLE_RATE_HZ

    def onsets_ns(self) -> list[int]:
        """Return when beeps begin, media time, oldest first."""
        level = np.concatenate([*self._levels, np.zeros(1)])
        if self._zero_ns is None or level.size < _BEFORE + _AFTER:
            return []
        padded = np.concatenate([np.full(_BEFORE, level[:_BEFORE].min()), level, np.zeros(_AFTER)])
        before = np.sort(np.lib.stride_tricks.sliding_window_view(padded, _BEFORE)[: level.size], axis=1)[:, _BEFORE * 4 // 5]
        after = np.median(np.lib.stride_tricks.sliding_window_view(padded[_BEFORE:], _AFTER)[: level.size], axis=1)
        rises = (after > _LEAST) & (after > before * 10 ** (_RISE_DB / 20.0))
        if not rises.any():
            return []
        found = [step for step in _first_of_each(np.flatnonzero(rises)) if after[step : step + _AFTER].max() >= _LOUD * after[rises].max()]
        return [self._zero_ns + round(_crossing(level, step) * _HOP_NS) for step in found]


def _first_of_each(steps: NDArray[np.intp]) -> list[int]:
    """Return the first step of each group; groups are apart."""
    found: list[int] = []
    for step in steps.tolist():
        if not found or step - found[-1] > _APART:
            found.append(step)
    return found


def _crossing(level: NDArray[np.float64], step: int) -> float:
    """Return where the level passes the share of the beep's level, in steps, between two steps where it lies between them."""
    part = level[step : step + 2 * _AFTER]
    quiet = float(level[max(0, step - 10) : step].mean()) if step else 0.0
    mark = quiet + _SHARE * (float(part.max()) - quiet)
    over = int(np.argmax(part >= mark))
    # A step whose level is a share of the full one holds the beep for the square of that share.
    full = float(np.median(part[over + 1 : over + 6])) if part.size > over + 1 else float(part[over])
    held = min(1.0, (float(part[over]) / full) ** 2) if full > 0.0 else 1.0
    return step + over + 1.0 - held
