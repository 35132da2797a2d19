"""Distributes a budget over groups, each with several points to choose from: exact, in whole numbers.

It uses no scores and no events: it takes values and costs and returns choices.

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
"""Value of an impossible choice; a quarter of the range, so that sums stay in the range."""


@dataclass(frozen=True, eq=False, slots=True)
class Group:
    """The points of one group; exactly one is taken. All arrays have shape (P,)."""

    gains: NDArray[np.int64]
    """What each point adds to the numerator of the ratio."""
    weights: NDArray[np.int64]
    """What each point adds to the denominator."""
    costs: NDArray[np.int64]
    """What each point takes from the budget, at least 0."""


def share(values: Sequence[NDArray[np.int64]], costs: Sequence[NDArray[np.int64]], budget: int) -> list[int] | None:
    """Choose one point of each group so that the sum of costs stays within the budget and the sum of values is largest.

    Args:
        values: for each group, shape (P,).
        costs: for each group, shape (P,), at least 0.
        budget: largest sum of costs.

    Returns:
        The number of the chosen point of each group, or None when even the cheapest points cost too much. Of equal sums the cheaper one is
        taken, of equal points the first one.
    """
    fronts = [_front(value, cost) for value, cost in zip(values, costs, strict=True)]
    if sum(int(cost[front[0]]) for front, cost in zip(fronts, costs, strict=True)) > budget:
        return None
    if sum(int(cost[front[-1]]) for front, cost in zip(fronts, costs, strict=True)) <= budget:
        return [int(front[-1]) for front in fronts]  # the best point of every group fits the budget
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
    left = int(np.argmax(best))  # the first of equal largest values is the cheapest
    chosen = []
    for number in range(len(fronts) - 1, -1, -1):
        point = int(taken[number, left])
        chosen.append(point)
        left -= int(costs[number][point])
    return chosen[::-1]


def best_ratio(groups: Sequence[Group], budget: int, base: int = 0) -> list[int] | None:
    """Choose one point of each group so that the sum of costs stays within the budget and sum(gains) / (base + sum(weights)) is largest.

    Args:
        groups: gains and weights are at least 0, and their sums are below 2^31.
        budget: largest sum of costs.
        base: added to the denominator.

    Returns:
        The number of the chosen point of each group, or None when no choice keeps the budget. All numbers are whole, so the choice is
        exactly the best one.
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
    """Return the points that are better than every point of lower or equal cost, cheapest first."""
    order = np.lexsort((np.arange(len(value)), -value, cost))
    ranked = value[order]
    before = np.concatenate([[np.iinfo(np.int64).min], np.maximum.accumulate(ranked)[:-1]])
    return order[ranked > before]
