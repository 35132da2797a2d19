"""Shares a budget between groups that each have several ways to spend: exactly, in whole numbers.

It knows neither scores nor events: values and costs in, choices out.

Source: the multiple-choice knapsack problem by dynamic programming over the budget (Kellerer, Pferschy and Pisinger, Knapsack Problems,
2004, section 11.5), and Dinkelbach, On Nonlinear Fractional Programming, 1967, for a ratio of two sums.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["Group", "best_ratio", "share"]

_NEVER = np.iinfo(np.int64).min // 4
"""Value of what cannot be had; a quarter of the range, so that adding to it stays in the range."""


@dataclass(frozen=True, eq=False, slots=True)
class Group:
    """The points of one group, of which exactly one is taken; all of shape (P,)."""

    gains: NDArray[np.int64]
    """Added to the numerator of the ratio."""
    weights: NDArray[np.int64]
    """Added to the denominator."""
    costs: NDArray[np.int64]
    """Taken from the budget, at least 0."""


def share(values: Sequence[NDArray[np.int64]], costs: Sequence[NDArray[np.int64]], budget: int) -> list[int] | None:
    """Take one point of each group so that the costs keep the budget and the sum of values is largest.

    Args:
        values: for each group, shape (P,).
        costs: likewise, at least 0.
        budget: most that all may cost together.

    Returns:
        The number of the point taken of each group, or None when even the cheapest points cost too much. Of equal sums the cheaper,
        of equal points the first is taken.
    """
    fronts = [_front(value, cost) for value, cost in zip(values, costs, strict=True)]
    if sum(int(cost[front[0]]) for front, cost in zip(fronts, costs, strict=True)) > budget:
        return None
    if sum(int(cost[front[-1]]) for front, cost in zip(fronts, costs, strict=True)) <= budget:
        return [int(front[-1]) for front in fronts]  # everyone gets the best
    best = np.zeros(budget + 1, dtype=np.int64)
    taken = np.zeros((len(fronts), budget + 1), dtype=np.int64)
    for number, (front, value, cost) in enumerate(zip(fronts, values, costs, strict=True)):
        new = np.full(budget + 1, _NEVER, dtype=np.int64)
        for point in front:
            price = int(cost[point])
            if price > budget:
                break
            offered = best[: budget + 1 - price] + value[point]
            better = offered > new[price:]
            new[price:][better] = offered[better]
            taken[number, price:][better] = point
        best = new
    left = int(np.argmax(best))  # the first of the largest is the cheapest
    chosen = []
    for number in range(len(fronts) - 1, -1, -1):
        point = int(taken[number, left])
        chosen.append(point)
        left -= int(costs[number][point])
    return chosen[::-1]


def best_ratio(groups: Sequence[Group], budget: int, base: int = 0) -> list[int] | None:
    """Take one point of each group so that the costs keep the budget and sum(gains) / (base + sum(weights)) is largest.

    Args:
        groups: with gains and weights of at least 0 and below 2^31 in sum.
        budget: most that all may cost together.
        base: added to the denominator.

    Returns:
        The number of the point taken of each group, or None when nothing keeps the budget. Whole numbers throughout: it is the best.
    """
    costs = [group.costs for group in groups]
    top, bottom = 0, 1
    chosen: list[int] | None = None
    while True:
        values = [bottom * group.gains - top * group.weights for group in groups]
        found = share(values, costs, budget)
        if found is None:
            return None
        gain = sum(int(group.gains[point]) for group, point in zip(groups, found, strict=True))
        weight = base + sum(int(group.weights[point]) for group, point in zip(groups, found, strict=True))
        if chosen is not None and gain * bottom <= top * weight:
            return chosen
        chosen = found
        if weight <= 0:
            return chosen
        top, bottom = gain, weight


def _front(value: NDArray[np.int64], cost: NDArray[np.int64]) -> NDArray[np.int64]:
    """Give the points that no cheaper or equal point equals or beats, cheapest first."""
    order = np.lexsort((np.arange(len(value)), -value, cost))
    ranked = value[order]
    before = np.concatenate([[np.iinfo(np.int64).min], np.maximum.accumulate(ranked)[:-1]])
    return order[ranked > before]
