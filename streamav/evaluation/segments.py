"""Scores predicted labels against the truth, segment by segment, and computes two baselines that ignore the input.

It is pure: it takes labels and returns numbers. The modules `events` and `scores` score events and streams.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np

from streamav.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["SegmentFigures", "score_segments"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentFigures:
    """Figures of the labels of segments, each 0 to 1."""

    accuracy: float
    """Share of segments with the right label of C + 1."""
    macro_f1: float
    """Mean F1 of the foreground classes that occur in truth or prediction; NaN when none does."""
    background_recall: float
    """Share of background segments that are labelled background; NaN when there is no background."""
    event_recall: float
    """Share of event segments that are labelled with their class; NaN when there is no event."""
    always_background: float
    """Accuracy of always predicting background."""
    majority: float
    """Accuracy of always predicting the most frequent label."""

    def to_dict(self) -> dict[str, float]:
        """Return the scores by name."""
        return asdict(self)


def score_segments(truth: NDArray[np.int64], said: NDArray[np.int64], background: int) -> SegmentFigures:
    """Compare predicted labels with the truth.

    Args:
        truth: any shape, at least one entry, 0 to *background*.
        said: predicted labels, the same shape.
        background: C.

    Raises:
        DataError: when the shapes differ, the arrays are empty, or a label is out of range.
    """
    if truth.shape != said.shape or truth.size == 0:
        msg = f"true and predicted labels must have the same shape and at least one segment, got {truth.shape} and {said.shape}"
        raise DataError(msg)
    low, high = min(truth.min(), said.min()), max(truth.max(), said.max())
    if low < 0 or high > background:
        msg = f"labels must lie in 0 to {background}, got {low} to {high}"
        raise DataError(msg)
    right, quiet = truth == said, truth == background
    counts = np.bincount(truth.reshape(-1), minlength=background + 1)
    return SegmentFigures(
        accuracy=float(right.mean()),
        macro_f1=_macro_f1(truth, said, background),
        background_recall=float(right[quiet].mean()) if quiet.any() else float("nan"),
        event_recall=float(right[~quiet].mean()) if not quiet.all() else float("nan"),
        always_background=float(quiet.mean()),
        majority=float(counts.max() / truth.size),
    )


def _macro_f1(truth: NDArray[np.int64], said: NDArray[np.int64], background: int) -> float:
    """Return the mean of 2 TP / (true + predicted) over the foreground classes that occur."""
    scores = []
    for label in range(background):
        true, claimed = truth == label, said == label
        total = int(true.sum() + claimed.sum())
        if total:
            scores.append(2.0 * float((true & claimed).sum()) / total)
    return float(np.mean(scores)) if scores else float("nan")
