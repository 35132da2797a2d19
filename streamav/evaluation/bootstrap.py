"""Computes the uncertainty of a figure: spread over seeds, and the bootstrap over clips or streams, paired for two models.

It is pure: the draws depend only on the seed that is given.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from streamav.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["Interval", "bootstrap", "mean_and_deviation", "paired_bootstrap"]


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean with its confidence interval."""

    mean: float
    low: float
    high: float


def mean_and_deviation(values: Sequence[float]) -> tuple[float, float]:
    """Return mean and sample standard deviation (n - 1); the deviation of a single value is NaN.

    Raises:
        DataError: when there is no value.
    """
    if not values:
        msg = "a mean needs at least one value, got none"
        raise DataError(msg)
    array = np.asarray(values, dtype=np.float64)
    return float(array.mean()), float(array.std(ddof=1)) if len(array) > 1 else float("nan")


def bootstrap(
    sums: NDArray[np.floating], counts: NDArray[np.floating], *, draws: int = 2000, confidence: float = 0.95, seed: int = 0
) -> Interval:
    """Return the percentile bootstrap interval of a ratio of sums over units drawn with replacement.

    Args:
        sums: shape (n,): numerator of each unit (right segments of a clip, hits of a stream).
        counts: shape (n,): denominator of each unit, at least one above 0.
        draws: number of bootstrap samples of n units.
        confidence: 0 to 1.
        seed: seed of the draws.

    Raises:
        DataError: when the shapes differ or all counts are 0.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, section 13.3.
    """
    if sums.shape != counts.shape or sums.ndim != 1 or not counts.sum() > 0:
        msg = f"sums and counts must be lists of one length with a count above 0, got shapes {sums.shape} and {counts.shape}"
        raise DataError(msg)
    drawn = np.random.default_rng(seed).integers(0, len(sums), size=(draws, len(sums)))
    below = counts[drawn].sum(axis=1)
    means = sums[drawn].sum(axis=1)[below > 0] / below[below > 0]
    tail = (1.0 - confidence) / 2.0
    low, high = np.quantile(means, [tail, 1.0 - tail])
    return Interval(float(sums.sum() / counts.sum()), float(low), float(high))


def paired_bootstrap(
    first: NDArray[np.floating], second: NDArray[np.floating], *, draws: int = 2000, confidence: float = 0.95, seed: int = 0
) -> Interval:
    """Return the difference *first* minus *second* of the means over the same units, with its interval.

    Args:
        first: shape (n,): score of each clip under one model.
        second: shape (n,): score of the same clips under another model.
        draws: number of bootstrap samples of n clips.
        confidence: 0 to 1.
        seed: seed of the draws.

    Raises:
        DataError: when the shapes differ.
    """
    if first.shape != second.shape:
        msg = f"a paired bootstrap needs the scores of the same clips, got shapes {first.shape} and {second.shape}"
        raise DataError(msg)
    return bootstrap(first - second, np.ones_like(first), draws=draws, confidence=confidence, seed=seed)
