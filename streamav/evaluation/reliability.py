"""Whether scores mean what they say: of the seconds called with a score of 0.8, are 80 % right?

It is pure: probabilities and truth in, a curve and one number out.
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
"""Source: Guo et al., On Calibration of Modern Neural Networks, ICML 2017, section 2."""


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Reliability:
    """The reliability curve of the likeliest label's score, in bins of equal width over 0 to 1."""

    counts: NDArray[np.int64]
    """(K,): seconds whose score lies in the bin."""
    confidence: NDArray[np.float64]
    """(K,): their mean score; NaN for an empty bin."""
    accuracy: NDArray[np.float64]
    """(K,): the share of them that is right; NaN for an empty bin."""
    calibration_error: float
    """Expected calibration error, 0 to 1: mean distance of the two over all seconds. Source: Guo et al. 2017, Eq. 3."""

    @property
    def overconfidence(self) -> float:
        """Mean score minus accuracy over all seconds: above 0 the scores promise too much."""
        weights = self.counts / self.counts.sum()
        return float(np.nansum(weights * (self.confidence - self.accuracy)))


def reliability(probabilities: NDArray[np.floating], truth: NDArray[np.int64], bins: int = BINS) -> Reliability:
    """Compare scores with how often they are right.

    Args:
        probabilities: (..., C + 1), 0 to 1, rows sum to 1.
        truth: (...), 0 to C.
        bins: K, at least 1.

    Raises:
        DataError: when the shapes do not fit, or there is nothing to compare.
    """
    if probabilities.shape[:-1] != truth.shape or truth.size == 0 or bins < 1:
        msg = f"probabilities (..., C + 1) and truth (...) must fit and hold something, got {probabilities.shape} and {truth.shape}"
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
