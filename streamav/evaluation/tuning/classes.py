"""Chooses thresholds for every class, or one set for all classes: the best event-F1 within a budget of false alarms per hour.

All classes share one budget. Each class gets one of the candidate settings. Of all combinations that keep the budget, the one with the
highest event-F1 over all classes is taken; the solution is exact (`budget`), so a larger budget never gives a lower F1. Classes
with too few events get the settings that are best when all classes have the same ones.

It is pure. Use it on validation streams only: streams that were used for tuning are no test any more.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

import numpy as np

from streamav.errors import DataError
from streamav.evaluation.ages import Combination, at_latency, scored_segments
from streamav.evaluation.counting import FinalSegments, operating_table
from streamav.evaluation.tuning.budget import Group, best_ratio
from streamav.thresholds import Thresholds

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from numpy.typing import NDArray

    from streamav.evaluation.counting import OperatingTable, ScoredStream
    from streamav.evaluation.events import EventCounts

__all__ = [
    "LEAST_EVENTS",
    "CurvePoint",
    "Tried",
    "Tuned",
    "class_candidates",
    "curve_of",
    "final_segments",
    "held_out",
    "tune_classes",
    "tune_general",
]

LEAST_EVENTS = 10
"""Least true events for settings of a class's own. Not measured; with ten events, one event is a tenth of recall."""
_ON = (*(round(0.2 + 0.05 * step, 2) for step in range(16)), 0.98)
_HOLD = (0.4, 0.6, 0.8, 1.0)
_LEAST = (1, 2, 3)
_GAPS = (0, 1, 2)
_ROUNDING = 1e-9
"""Added to a number of alarms before it is rounded down."""


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Tuned:
    """Settings, and their counts on the streams that they were chosen on."""

    general: Thresholds
    """Settings of all classes that are not in `own`."""
    own: dict[int, Thresholds]
    """Settings of single classes, by class_id."""
    counts: EventCounts
    chosen: tuple[int, ...]
    """For each class, the number of its setting in the table's options."""


@dataclass(frozen=True, slots=True)
class Tried:
    """One set of thresholds for all classes, and the counts it gives."""

    thresholds: Thresholds
    counts: EventCounts


@dataclass(frozen=True, slots=True, kw_only=True)
class CurvePoint:
    """The figures that one budget gives."""

    budget_per_hour: float
    false_alarms_per_hour: float
    """False alarms in background per hour that are reached; at most the budget."""
    event_f1: float
    recall: float
    """Share of true events that are found within the collar."""
    precision: float
    """Share of predicted events that are true; NaN when no event is predicted."""


def class_candidates() -> list[Thresholds]:
    """Return the settings that are tried: `on` 0.2 to 0.98, `off` a share of it, 1 to 3 segments to confirm, pauses of 0 to 2 segments."""
    return [
        Thresholds(on=on, off=round(on * hold, 3), min_segments=least, gap_segments=gap)
        for on, hold, least, gap in product(_ON, _HOLD, _LEAST, _GAPS)
    ]


def final_segments(streams: Iterable[ScoredStream], latency: int, how: Combination = "hamming") -> list[FinalSegments]:
    """Combine the windows of streams into the final scores of each segment at one latency.

    Args:
        streams: each of at least 2 T segments.
        latency: L, 1 to T.
        how: how windows are combined; a live run uses hamming.
    """
    found = []
    for stream in streams:
        inside = scored_segments(len(stream.truth), stream.windows.shape[1])
        found.append(FinalSegments(at_latency(stream.windows, latency, how), stream.truth[inside.start : inside.stop]))
    return found


def tune_classes(
    table: OperatingTable, alarms_per_hour: float, least_events: int = LEAST_EVENTS, only: Collection[int] | None = None
) -> Tuned:
    """Choose the settings of every class.

    Args:
        table: counts of each candidate for each class on the validation streams.
        alarms_per_hour: most false alarms of all classes together per hour of background, at least 0.
        least_events: least true events for settings of a class's own.
        only: class_ids that may get settings of their own; None for all.

    Raises:
        DataError: when there is no event or no background to tune on, or no candidate keeps the budget; the message names the smallest
            budget that can be kept.
    """
    if not table.true.sum() or not table.background_seconds:
        msg = (
            f"tuning needs true events and background, got {int(table.true.sum())} events "
            f"and {table.background_seconds} s of background; use more or longer streams"
        )
        raise DataError(msg)
    hours = table.background_seconds / 3600.0
    found = _best(table, int(alarms_per_hour * hours + _ROUNDING), _free(table, least_events, only))
    if found is None:
        fewest = _fewest(table, _free(table, least_events, only))
        msg = (
            f"no thresholds keep false alarms in background to {alarms_per_hour:g} an hour: the strictest ones still give "
            f"{fewest / hours:.2f} ({fewest} in {hours:.2f} h); allow as many (--alarms-per-hour), or train with more background"
        )
        raise DataError(msg)
    return found


def tune_general(streams: Iterable[ScoredStream], latency: int, alarms_per_hour: float, how: Combination = "hamming") -> tuple[Tried, bool]:
    """Choose one set of thresholds for all classes: for comparisons, and when single classes have too few events.

    Args:
        streams: streams of the validation split.
        latency: L, 1 to T.
        alarms_per_hour: most false alarms of all classes together per hour of background, at least 0.
        how: how windows are combined.

    Returns:
        The best candidate within the budget and True. When no candidate keeps the budget, the best of those with the fewest false alarms
        and False. Also False when there is no background to count false alarms in.

    Raises:
        DataError: when there is no stream, or no event to tune on.
    """
    table = operating_table(final_segments(streams, latency, how), class_candidates())
    if not table.true.sum():
        msg = "tuning needs true events, got streams without events; use more or longer streams"
        raise DataError(msg)
    allowed = int(alarms_per_hour * table.background_seconds / 3600.0 + _ROUNDING)
    steps = _general(table)
    within = [point for alarms, point in steps if alarms <= allowed]
    best = within[-1] if within else steps[0][1]
    counts = table.counts([best] * len(table.true))
    return Tried(table.options[best], counts), bool(within and table.background_seconds)


def curve_of(
    table: OperatingTable, budgets: Sequence[float], least_events: int = LEAST_EVENTS, only: Collection[int] | None = None
) -> list[CurvePoint]:
    """Return the figures of each budget on the validation streams; budgets that no settings keep are left out."""
    points = []
    for budget in sorted(set(budgets)):
        allowed = int(budget * table.background_seconds / 3600.0 + _ROUNDING)
        found = _best(table, allowed, _free(table, least_events, only))
        if found is not None:
            counts = found.counts
            points.append(
                CurvePoint(
                    budget_per_hour=float(budget),
                    false_alarms_per_hour=counts.background_false_alarms_per_hour,
                    event_f1=counts.f1,
                    recall=counts.hits / counts.true if counts.true else float("nan"),
                    precision=counts.hits / counts.said if counts.said else float("nan"),
                )
            )
    return points


def held_out(
    tables: Sequence[OperatingTable], alarms_per_hour: float, least_events: int = LEAST_EVENTS, only: Collection[int] | None = None
) -> EventCounts | None:
    """Return the counts of tuned settings on streams that they were not chosen on: each half is scored with the settings of the other half.

    Args:
        tables: tables of the two halves, with the same candidates.
        alarms_per_hour: the budget.
        least_events: as in `tune_classes`; half of it is required, because each half has about half of the events.
        only: as in `tune_classes`.

    Returns:
        The counts of both halves, or None when one of the halves cannot be tuned.
    """
    first, second = tables
    try:
        chosen = [tune_classes(table, alarms_per_hour, max(1, least_events // 2), only).chosen for table in (first, second)]
    except DataError:
        return None
    return second.counts(chosen[0]) + first.counts(chosen[1])


def _free(table: OperatingTable, least_events: int, only: Collection[int] | None) -> list[int]:
    """Return the classes that get settings of their own."""
    return [int(label) for label in np.flatnonzero(table.true >= max(1, least_events)) if only is None or label in only]


def _best(table: OperatingTable, budget: int, free: list[int]) -> Tuned | None:
    """Return the best settings for a number of false alarms, or None when no settings keep it.

    The general settings are usually the best single set for all classes at this budget. Stricter general settings are taken when they leave
    so much budget to the other classes that the F1 over all classes is higher; otherwise a larger budget could give a lower F1.
    """
    steps = _general(table)
    best: Tuned | None = None
    for number, (cost, point) in enumerate(steps):
        if number and cost > budget:
            break
        limit = min(budget, steps[number + 1][0] - 1) if number + 1 < len(steps) else budget
        found = _beside(table, limit, free, point)
        if found is not None and (best is None or found.counts.f1 >= best.counts.f1):
            best = found
    return best


def _beside(table: OperatingTable, budget: int, free: list[int], general: int) -> Tuned | None:
    """Return the best settings of the free classes when all other classes have the general settings."""
    rest = np.setdiff1d(np.arange(len(table.true)), free)
    points = [_distinct(table, label) for label in free]
    groups = [_group(table, label, chosen) for label, chosen in zip(free, points, strict=True)]
    fixed = [np.array([array[rest, general].sum()]) for array in (table.hits, table.said, table.background_false_alarms)]
    found = best_ratio([*groups, Group(2 * fixed[0], fixed[1], fixed[2])], budget, int(table.true.sum()))
    if found is None:
        return None
    numbers = np.full(len(table.true), general, dtype=np.int64)
    for label, chosen, place in zip(free, points, found, strict=False):
        numbers[label] = chosen[place]
    chosen_numbers = tuple(numbers.tolist())
    own = {label: table.options[chosen_numbers[label]] for label in free}
    return Tuned(general=table.options[general], own=own, counts=table.counts(chosen_numbers), chosen=chosen_numbers)


def _general(table: OperatingTable) -> list[tuple[int, int]]:
    """Return, cheapest first, the single sets for all classes that are best at some budget, as (false alarms, number of the setting)."""
    hits, said, alarms = (array.sum(axis=0) for array in (table.hits, table.said, table.background_false_alarms))
    points = _middles(np.stack([hits, said, alarms], axis=1))
    ratio = 2.0 * hits / (table.true.sum() + said)
    steps: list[tuple[int, int]] = []
    best = -1.0
    for point in points[np.lexsort((-ratio[points], alarms[points]))]:
        if ratio[point] > best:
            best = float(ratio[point])
            steps.append((int(alarms[point]), int(point)))
    return steps


def _fewest(table: OperatingTable, free: list[int]) -> int:
    """Return the smallest possible number of false alarms in background."""
    rest = np.setdiff1d(np.arange(len(table.true)), free)
    general = _general(table)[0][1]
    return int(table.background_false_alarms[free].min(axis=1).sum() + table.background_false_alarms[rest, general].sum())


def _distinct(table: OperatingTable, label: int) -> NDArray[np.int64]:
    return _middles(np.stack([array[label] for array in (table.hits, table.said, table.background_false_alarms)], axis=1))


def _group(table: OperatingTable, label: int, points: NDArray[np.int64]) -> Group:
    return Group(2 * table.hits[label, points], table.said[label, points], table.background_false_alarms[label, points])


def _middles(rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the middle index of each group of equal rows, in order; the middle has most room to settings that give other counts."""
    _, kind = np.unique(rows, axis=0, return_inverse=True)
    order = np.argsort(kind.ravel(), kind="stable")
    starts = np.flatnonzero(np.diff(kind.ravel()[order], prepend=-1))
    sizes = np.diff(np.append(starts, len(order)))
    middles: NDArray[np.int64] = np.sort(order[starts + sizes // 2])
    return middles
