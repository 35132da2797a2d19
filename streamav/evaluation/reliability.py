"""Computes the calibration of scores: of the segments with a score of 0.8, are 80 % right?

It is pure: it takes probabilities and truth and returns a curve and one number.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from streamav.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Reliability", "reliability"]

BINS = 15
"""Number of bins. Source: Guo et al., On Calibration of Modern Neural Networks, ICML 2017, section 2."""


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Reliability:
    """The reliability curve of the most probable label's score, in bins of equal width over 0 to 1."""

    counts: NDArray[np.int64]
    """Shape (K,): number of segments whose score lies in the bin."""
    confidence: NDArray[np.float64]
    """Shape (K,): mean score of the segments in the bin; NaN for an empty bin."""
    accuracy: NDArray[np.float64]
    """Shape (K,): share of the segments in the bin that are right; NaN for an empty bin."""
    calibration_error: float
    """Expected calibration error, 0 to 1: mean distance of confidence and accuracy over all segments. Source: Guo et al. 2017, Eq. 3."""

    @property
    def overconfidence(self) -> float:
        """Mean score minus accuracy over all segments; above 0 the scores are too high."""
        weights = self.counts / self.counts.sum()
        return float(np.nansum(weights * (self.confidence - self.accuracy)))


def reliability(probabilities: NDArray[np.floating], truth: NDArray[np.int64], bins: int = BINS) -> Reliability:
    """Compare scores with the share of right predictions, in bins of the score.

    Args:
        probabilities: shape (..., C + 1), 0 to 1, rows sum to 1.
        truth: shape (...), 0 to C.
        bins: K, the number of bins, at least 1.

    Raises:
        DataError: when the shapes do not match, the arrays are empty, or there is no bin.
    """
    if probabilities.shape[:-1] != truth.shape or truth.size == 0 or bins < 1:
        msg = f"probabilities (..., C + 1) and truth (...) must match and not be empty, got {probabilities.shape} and {truth.shape}"
        raise DataError(msg)
    scores = probabilities.reshape(-1, probabilities.shape[-1]).astype(np.float64)
    right = scores.argmax(axis=1) == truth.reshape(-1)
    score = scores.max(axis=1)
    place = np.clip(np.ceil(score * bins).astype(np.int64) - 1, 0, bins - 1)  # bins are open below and closed above
    counts = np.bincount(place, minlength=bins)
    with np.errstate(invalid="ignore"):
        confidence = np.bincount(place, score, minlength=bins) / counts
        accuracy = np.bincount(place, right.astype(np.float64), minlength=bins) / counts
    error = float(np.nansum(counts * np.abs(confidence - accuracy)) / len(score))
    return Reliability(counts=counts, confidence=confidence, accuracy=accuracy, calibration_error=error)
