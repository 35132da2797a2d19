"""Combines the scores that up to ten windows give to one segment into one score, and decides when that score is final.

Pure: it uses no clock, label or event. It combines probabilities, never decisions.

    window ending at t + 2   . . . . . . . 7 8 9        Segment t is at position 9 of the first window that holds it,
    window ending at t + 1   . . . . . . . . 8 9          then at position 8, 7 ... Its age is the index of the newest
    window ending at t       . . . . . . . . . 9          segment minus t. At age `final_age` its score is final.

A window of fewer than ten segments comes at the start of a stretch. The next window holds all of its segments and one more, so its
scores replace those of the short one. No score is final before a window is full, or the stretch ends.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from streamav.errors import ShapeError
from streamav.types import WINDOW_SEGMENTS, SegmentScores

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from streamav.types import WindowScores

__all__ = ["Aggregation", "final_age"]

_WEIGHTS = np.hamming(WINDOW_SEGMENTS)
"""Weight of each position in the window. It is largest in the middle, where there is context on both sides."""


@dataclass(slots=True)
class _Sum:
    """Weighted sums over the windows that hold one segment. They are float64, so that order and length do not change the result."""

    weight: float
    relevance: float
    classes: NDArray[np.float64]
    agreement: float
    attention: NDArray[np.float64]
    level_dbfs: float | None

    def add(self, other: _Sum) -> None:
        self.weight += other.weight
        self.relevance += other.relevance
        self.classes += other.classes
        self.agreement += other.agreement
        self.attention += other.attention


def final_age(latency_segments: int) -> int:
    """Return the age at which a segment is final: L - 1, because the first of its L windows scores it at age 0.

    Raises:
        ShapeError: when the latency is not 1 to 10.
    """
    if not 1 <= latency_segments <= WINDOW_SEGMENTS:
        msg = f"latency_segments must be 1 to {WINDOW_SEGMENTS}, got {latency_segments}"
        raise ShapeError(msg)
    return latency_segments - 1


class Aggregation:
    """Computes the scores of single segments from the scores of overlapping windows, for one source.

    Source: diart blocks/aggregation.py (DelayedAggregation, Hamming by position); weights w(n) = 0.54 - 0.46 cos(2 pi n / 9).
    """

    def __init__(self, latency_segments: int) -> None:
        """Set the latency.

        Args:
            latency_segments: L, 1 to 10. A segment is final after L windows.

        Raises:
            ShapeError: when the latency is out of range.
        """
        self.set_latency(latency_segments)
        self._pending: dict[int, _Sum] = {}
        self._newest = -1
        self._short = False

    def set_latency(self, latency_segments: int) -> None:
        """Set L from the next window on; what is final stays final.

        Raises:
            ShapeError: when the latency is out of range.
        """
        self._final_age = final_age(latency_segments)

    def push(self, scores: WindowScores) -> list[SegmentScores]:
        """Take the scores of the next window; return every segment that was not final before, oldest first.

        A segment that becomes final is returned once with `final` true, and never again.
        """
        first, length = scores.first_index, len(scores.levels_dbfs)
        unseen = self._newest + 1  # all segments before it were scored; those that are no longer pending are final
        if self._short and self._pending and first == min(self._pending):
            unseen = first
        self._short = length < WINDOW_SEGMENTS
        self._widen(scores.class_probabilities.shape[1])
        for position in range(length):
            index = first + position
            if index >= unseen:
                self._pending[index] = self._weighted(scores, position)
            elif index in self._pending:
                self._pending[index].add(self._weighted(scores, position))
        self._newest = max(self._newest, first + length - 1)
        return self._take(everything=False)

    def close(self) -> list[SegmentScores]:
        """Return the segments that are not final yet as final, oldest first. The next push begins a new stretch."""
        self._short = False
        return self._take(everything=True)

    def _widen(self, columns: int) -> None:
        """Make room for columns that came with the labels of another source; no label of this source is among them."""
        for one in self._pending.values():
            if (more := columns - len(one.classes)) > 0:
                one.classes = np.concatenate([one.classes[:-1], np.zeros(more), one.classes[-1:]])

    def _weighted(self, scores: WindowScores, position: int) -> _Sum:
        weight = float(_WEIGHTS[position])
        return _Sum(
            weight=weight,
            relevance=weight * float(scores.relevance[position]),
            classes=weight * scores.class_probabilities[position].astype(np.float64),
            agreement=weight * float(scores.agreement[position]),
            attention=weight * scores.attention[position].astype(np.float64),
            level_dbfs=scores.levels_dbfs[position],
        )

    def _take(self, *, everything: bool) -> list[SegmentScores]:
        """Return all pending segments, and forget those that are final."""
        given = [self._scores(index, everything=everything) for index in sorted(self._pending)]
        for scores in given:
            if scores.final:
                del self._pending[scores.index]
        return given

    def _scores(self, index: int, *, everything: bool) -> SegmentScores:
        found = self._pending[index]
        age = min(self._newest - index, WINDOW_SEGMENTS - 1)
        return SegmentScores(
            index=index,
            age=age,
            final=everything or (age >= self._final_age and not self._short),
            relevance=found.relevance / found.weight,
            class_probabilities=(found.classes / found.weight).astype(np.float32),
            agreement=found.agreement / found.weight,
            attention=(found.attention / found.weight).astype(np.float32),
            level_dbfs=found.level_dbfs,
        )
