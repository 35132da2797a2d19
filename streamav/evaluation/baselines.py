"""Answers for streams that need no training of their own: the last label again, and what is said of clips whose bounds are known.

It is pure, and gives scores as `scores.score_answers` takes them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from streamav.evaluation.ages import Combination, at_age, scored_seconds
from streamav.evaluation.counting import ScoredStream

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["AlignedStream", "persistence"]


def persistence(stream: ScoredStream, how: Combination = "hamming") -> NDArray[np.float64]:
    """Say of every second what was said of the one before it when that was the newest; latency 0.

    What it reaches is owed to events that last, not to having looked. Before anything was said, background is.

    Returns:
        Shape (S', C + 1), one row for each of `scored_seconds`.
    """
    newest = at_age(stream.windows, 0, how)
    first = np.eye(newest.shape[1])[-1:]
    return np.concatenate([first, newest[:-1]])


@dataclass(frozen=True, eq=False, slots=True)
class AlignedStream:
    """One stream of which the cuts are known: each piece was judged in a window of its whole clip, as offline."""

    scores: NDArray[np.floating]
    """Shape (S, C + 1)."""
    truth: NDArray[np.int64]
    """Shape (S,)."""
    segments: int
    """T, seconds of a window."""

    def answers(self) -> NDArray[np.floating]:
        """Give the rows of `scored_seconds`, the seconds that a live run is scored on."""
        inside = scored_seconds(len(self.truth), self.segments)
        return self.scores[inside.start : inside.stop]

    def windows(self) -> ScoredStream:
        """Give a stream whose windows all say the same of a second, so that thresholds can be tuned on it."""
        places = np.arange(len(self.truth) - self.segments + 1)[:, None] + np.arange(self.segments)
        return ScoredStream(self.scores[places], self.truth)
