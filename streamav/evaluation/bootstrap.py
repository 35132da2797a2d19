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

__all__ = ["Difference", "Interval", "bootstrap", "mean_and_deviation", "paired_ratios"]

_BLOCK = 256
"""Draws that are held in memory at once."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean with its confidence interval."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Difference:
    """The difference of a figure between two models on the same units."""

    first: float
    second: float
    difference: float
    """*second* minus *first*."""
    low: float | None
    """None, like *high* and *p*, when there are fewer than two units with something to count."""
    high: float | None
    p: float | None
    """Two-sided: how often a difference at least this far on the other side of 0 would be drawn."""


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


def paired_ratios(
    first: NDArray[np.floating], second: NDArray[np.floating], *, draws: int = 10_000, confidence: float = 0.95, seed: int = 0
) -> Difference:
    """Return the difference *second* minus *first* of a ratio of sums over the same units, which are drawn with replacement.

    The same units are drawn for both models, so that what is common to both (easy and hard clips) cancels out. A draw in which nothing
    is counted is left out.

    Args:
        first: shape (n, 2): numerator and denominator of each unit under one model.
        second: shape (n, 2): those of the same units under another model.
        draws: number of bootstrap samples of n units.
        confidence: 0 to 1.
        seed: seed of the draws.

    Raises:
        DataError: when the shapes differ.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, section 13.3 (interval) and 15.4 (achieved significance level);
    1 is added to both counts, so that p is never 0 (Davison and Hinkley, Bootstrap Methods and their Application, 1997, section 4.2).
    """
    if first.shape != second.shape or first.ndim != 2 or first.shape[1] != 2:  # noqa: PLR2004 - numerator and denominator
        msg = f"a paired bootstrap needs (units, 2) numbers of the same units, got shapes {first.shape} and {second.shape}"
        raise DataError(msg)
    ratios = [float(sums[0] / sums[1]) if sums[1] > 0 else float("nan") for sums in (first.sum(axis=0), second.sum(axis=0))]
    counted = first[(first[:, 1] > 0) | (second[:, 1] > 0)], second[(first[:, 1] > 0) | (second[:, 1] > 0)]
    units = len(counted[0])
    difference = ratios[1] - ratios[0]
    if units < 2:  # noqa: PLR2004 - one unit has no spread
        return Difference(ratios[0], ratios[1], difference, None, None, None)
    random, found = np.random.default_rng(seed), []
    for start in range(0, draws, _BLOCK):
        times = random.multinomial(units, np.full(units, 1.0 / units), size=min(_BLOCK, draws - start)).astype(np.float64)
        one, two = times @ counted[0], times @ counted[1]
        whole = (one[:, 1] > 0) & (two[:, 1] > 0)
        found.append(two[whole, 0] / two[whole, 1] - one[whole, 0] / one[whole, 1])
    drawn = np.concatenate(found)
    if not drawn.size:
        return Difference(ratios[0], ratios[1], difference, None, None, None)
    tail = (1.0 - confidence) / 2.0
    low, high = np.quantile(drawn, [tail, 1.0 - tail])
    below, above = int((drawn <= 0).sum()), int((drawn >= 0).sum())
    p = min(1.0, 2.0 * (1 + min(below, above)) / (len(drawn) + 1))
    return Difference(ratios[0], ratios[1], difference, float(low), float(high), p)
