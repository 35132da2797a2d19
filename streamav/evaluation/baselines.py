"""Two baselines on streams that need no training of their own: repeat the last label, and score clips whose bounds are known.

It is pure, and returns scores as `scores.score_answers` takes them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from streamav.evaluation.ages import Combination, at_age, scored_segments
from streamav.evaluation.counting import ScoredStream

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["AlignedStream", "persistence"]


def persistence(stream: ScoredStream, how: Combination = "hamming") -> NDArray[np.float64]:
    """Predict for every segment the scores that the segment before it had at age 0; latency 0.

    The baseline never uses the segment itself, so it is right only where an event or background lasts. The first row is background.

    Returns:
        Shape (S', C + 1), one row for each of `scored_segments`.
    """
    newest = at_age(stream.windows, 0, how)
    first = np.eye(newest.shape[1])[-1:]
    return np.concatenate([first, newest[:-1]])


@dataclass(frozen=True, eq=False, slots=True)
class AlignedStream:
    """One stream with known cuts: each piece was scored in a window of its whole clip, as offline."""

    scores: NDArray[np.floating]
    """Shape (S, C + 1)."""
    truth: NDArray[np.int64]
    """Shape (S,)."""
    segments: int
    """T, segments of a window."""

    def answers(self) -> NDArray[np.floating]:
        """Return the rows of `scored_segments`, the segments that a live run is evaluated on, shape (S', C + 1)."""
        inside = scored_segments(len(self.truth), self.segments)
        return self.scores[inside.start : inside.stop]

    def windows(self) -> ScoredStream:
        """Return a stream whose windows all hold the same scores for a segment, so that thresholds can be tuned on it."""
        places = np.arange(len(self.truth) - self.segments + 1)[:, None] + np.arange(self.segments)
        return ScoredStream(self.scores[places], self.truth)
