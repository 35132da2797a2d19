"""Raises thresholds until recordings without events give no more false alarms than a budget allows.

Such recordings hold no information about missed events. Therefore thresholds are only raised, and by as little as possible: of all ways
to keep the budget, the exact solution with the smallest sum of raises in log-odds is taken (`budget`). Log-odds are used because the
raise from 0.90 to 0.99 is much larger than the raise from 0.50 to 0.59.

It is pure.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from streamav.errors import DataError
from streamav.evaluation.counting import APART, runs_of_column
from streamav.evaluation.tuning.budget import share

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from numpy.typing import NDArray

    from streamav.thresholds import Thresholds

__all__ = ["STRICTEST", "QuietTable", "Raised", "quiet_table", "raise_thresholds", "upper_rate"]

STRICTEST = 0.999
"""Highest threshold that is tried: float32 probabilities of a softmax reach 1, so a class that still gives alarms must be disabled."""
_LADDER = (*(round(0.01 * step, 2) for step in range(1, 100)), 0.993, 0.996, STRICTEST)
"""Thresholds that are tried, lowest first; they are closer together near 1, where most false alarms end."""
_MICRO = 1_000_000
"""Log-odds are counted in millionths, so that sums are exact."""


@dataclass(frozen=True, eq=False, slots=True)
class QuietTable:
    """False alarms of every class at every threshold that can be chosen."""

    thresholds: tuple[NDArray[np.float64], ...]
    """For each of C classes, shape (P_c,): the present `on` first, then higher thresholds in rising order."""
    alarms: tuple[NDArray[np.int64], ...]
    """For each of C classes, shape (P_c,): number of confirmed events at each threshold; it never rises with the threshold."""
    hours: float

    @property
    def before(self) -> int:
        """Number of alarms at the present thresholds."""
        return int(sum(int(alarms[0]) for alarms in self.alarms))


@dataclass(frozen=True, slots=True, kw_only=True)
class Raised:
    """Raised thresholds with the alarms that remain."""

    on: tuple[float, ...]
    """By class_id."""
    alarms: tuple[int, ...]
    """By class_id: alarms that remain in the recordings."""
    raise_log_odds: float
    """Sum of all raises."""

    @property
    def total(self) -> int:
        """Number of alarms of all classes."""
        return sum(self.alarms)


def quiet_table(recordings: Sequence[NDArray[np.floating]], settings: Sequence[Thresholds]) -> QuietTable:
    """Count the alarms of every class at its present threshold and at higher ones; its other settings stay.

    Args:
        recordings: for each recording, shape (S, C + 1): final probabilities of every segment, background last.
        settings: C settings as a live run uses them, by class_id.

    Raises:
        DataError: when the recordings hold no segment.
    """
    seconds = sum(len(one) for one in recordings)
    if not seconds:
        msg = "raising thresholds needs quiet recordings with at least one segment, got none: use more or longer recordings"
        raise DataError(msg)
    gap = np.full((APART, recordings[0].shape[1]), -1.0, dtype=np.float64)
    laid_out = np.concatenate([part for one in recordings for part in (one.astype(np.float64), gap)])
    thresholds, alarms = [], []
    for label, setting in enumerate(settings):
        column = laid_out[:, label]
        ladder = np.array([setting.on, *(on for on in _LADDER if on > setting.on)])
        near = np.flatnonzero(column >= setting.off)
        counts = []
        for on in ladder:
            runs = runs_of_column(column, float(on), setting.off, setting.gap_segments, near)
            counts.append(int((runs.held >= setting.min_segments).sum()))
        thresholds.append(ladder)
        alarms.append(np.array(counts, dtype=np.int64))
    return QuietTable(tuple(thresholds), tuple(alarms), seconds / 3600.0)


def raise_thresholds(table: QuietTable, alarms_per_hour: float, labels: Sequence[str], only: Collection[int] | None = None) -> Raised:
    """Raise thresholds by the smallest sum of raises that keeps the budget.

    Args:
        table: alarms by class and threshold.
        alarms_per_hour: most alarms of all classes together per hour, at least 0; times the hours of the recordings, rounded down.
        labels: C names, for the message.
        only: class_ids whose thresholds may be raised; None for all.

    Raises:
        DataError: when no thresholds keep the budget; the message names the classes that still give alarms.
    """
    free = [label for label in range(len(labels)) if only is None or label in only]
    sizes = [len(alarms) if label in free else 1 for label, alarms in enumerate(table.alarms)]
    costs = [alarms[:size] for alarms, size in zip(table.alarms, sizes, strict=True)]
    values = [-_raises(thresholds[:size]) for thresholds, size in zip(table.thresholds, sizes, strict=True)]
    chosen = share(values, costs, int(alarms_per_hour * table.hours + 1e-9))
    if chosen is None:
        left = {label: int(cost[-1]) for label, cost in zip(labels, costs, strict=True) if cost[-1]}
        told = ", ".join(f"{label} {count}" for label, count in sorted(left.items(), key=lambda one: -one[1]))
        msg = (
            f"no thresholds up to {STRICTEST} keep {table.hours:.3g} h of recordings to {alarms_per_hour:g} false alarms an hour; "
            f"remaining alarms: {told}. Allow more (--alarms-per-hour), disable these classes (detection.classes.NAME.enabled = false), "
            f"or check whether the recordings do hold these events"
        )
        raise DataError(msg)
    return Raised(
        on=tuple(float(table.thresholds[label][point]) for label, point in enumerate(chosen)),
        alarms=tuple(int(table.alarms[label][point]) for label, point in enumerate(chosen)),
        raise_log_odds=-sum(int(value[point]) for value, point in zip(values, chosen, strict=True)) / _MICRO,
    )


def upper_rate(alarms: int, hours: float) -> float:
    """Return the upper bound (95 % confidence) of the true rate of alarms per hour, if alarms are independent of each other.

    Without any alarm it is 3.00 / hours, the rule of three. It holds for thresholds that were fixed before these recordings were used.

    Source: Garwood, Fiducial Limits for the Poisson Distribution, 1936 (one-sided); Hanley and Lippman-Hand, If Nothing Goes Wrong, Is
    Everything All Right?, 1983.
    """
    low, high = 0.0, 10.0 + 2.0 * alarms + 10.0 * math.sqrt(alarms)
    for _ in range(60):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if _at_most(alarms, middle) > 0.05 else (low, middle)  # noqa: PLR2004 - 95 % confidence
    return high / hours


def _at_most(alarms: int, mean: float) -> float:
    """Return the probability of at most *alarms* alarms when *mean* are expected (Poisson); logarithms avoid underflow."""
    if mean <= 0.0:
        return 1.0
    logs = [number * math.log(mean) - mean - math.lgamma(number + 1) for number in range(alarms + 1)]
    top = max(logs)
    return math.exp(top) * sum(math.exp(log - top) for log in logs)


def _raises(thresholds: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return how far each threshold lies above the first one, in millionths of log-odds."""
    clipped = np.clip(thresholds, 1e-4, 1.0 - 1e-4)
    odds = np.log(clipped / (1.0 - clipped))
    millionths: NDArray[np.int64] = np.rint(_MICRO * (odds - odds[0])).astype(np.int64)
    return millionths
