"""Computes the polyphonic sound detection score (PSDS) of streams: the area under the curve of events found against false alarms.

It is pure, needs no threshold (it covers all thresholds), and counts in whole segments.

It finds every run of segments at or above any threshold at once. A run ends on each side at a segment with a lower score. The run exists
for thresholds from its own lowest score down to the higher of these two scores, and is counted in that range of thresholds only.

    score   .2 .9 .7 .8 .1         run [1, 2) for thresholds in (.7, .9], run [1, 4) for (.2, .7], run [3, 4) for (.7, .8], ...

Source: Bilen et al., A Framework for the Robust Evaluation of Sound Event Detection, ICASSP 2020 (criteria and score); Ebbers,
Serizel and Haeb-Umbach, Threshold-Independent Evaluation of Sound Event Detection Scores, ICASSP 2022 (all thresholds).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from streamav.evaluation.events import spans_of_labels

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from streamav.evaluation.events import Span

__all__ = ["PSDS1", "PSDS2", "PsdsOptions", "psds"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PsdsOptions:
    """The criteria of the score: when an event counts as found, and the cost of false alarms."""

    detection: float
    """Share of a predicted event that must lie in true events of its class (DTC); with less the predicted event is a false alarm."""
    truth: float
    """Share of a true event that predicted events that are not false alarms must cover (GTC)."""
    cross: float = 1.0
    """Share of a false alarm that must lie in true events of another class to be a confusion (CTTC); unused at `cross_weight` 0."""
    cross_weight: float = 0.0
    """Weight of confusions, added to false alarms (alpha_CT)."""
    instability_weight: float | None = None
    """Weight of the deviation over classes (alpha_ST).

    None for 1 / sqrt(K - 1), the largest weight at which finding more events never lowers the score.
    """
    most_alarms_per_hour: float = 100.0


PSDS1 = PsdsOptions(detection=0.7, truth=0.7)
"""Requires exact times. Source: DCASE task 4, scenario 1; sed_scores_eval tests/test_intersection_based/test_psds.py."""
PSDS2 = PsdsOptions(detection=0.1, truth=0.1, cross=0.3, cross_weight=0.5)
"""Requires the right class. Source: the same, scenario 2."""

_DECIMALS = 6
"""Shares of lengths are rounded to this many decimals before a comparison, because 0.7 * 10 may be above 7."""


def psds(truth: Sequence[NDArray[np.int64]], scores: Sequence[NDArray[np.floating]], *options: PsdsOptions) -> tuple[float, ...]:
    """Compute the PSDS of streams for each of *options*; classes without a true event are left out.

    Args:
        truth: of each stream, shape (S,): label of each segment, C for background.
        scores: of each stream, shape (S, C + 1): probabilities, background last.
        options: criteria, for example `PSDS1` and `PSDS2`.

    Returns:
        For each of *options* a score, 0 to 1; NaN when there is no true event.
    """
    background = scores[0].shape[1] - 1
    counts = sum(np.bincount(labels, minlength=background + 1) for labels in truth)
    classes = np.flatnonzero(np.asarray(counts)[:background])
    if not len(classes):
        return (float("nan"),) * len(options)
    hours = sum(len(labels) for labels in truth) / 3600.0
    sums = [np.concatenate([np.zeros((1, len(classes)), int), (labels[:, None] == classes).cumsum(axis=0)]) for labels in truth]
    events = [spans_of_labels(labels, background) for labels in truth]
    curves: list[list[_Curve]] = [[] for _ in options]
    for place, label in enumerate(classes):
        parts = [
            _Runs.of(one[:, label], total, place, [span for span in spans if span.label == label])
            for one, total, spans in zip(scores, sums, events, strict=True)
        ]
        others = np.where(classes == label, 0.0, 3600.0 / (np.asarray(counts)[classes] * max(len(classes) - 1, 1)))
        for found, option in zip(curves, options, strict=True):
            found.append(_curve(parts, option, hours, others))
    return tuple(_area(found, option) for found, option in zip(curves, options, strict=True))


@dataclass(frozen=True, eq=False, slots=True)
class _Runs:
    """All n runs of one class in one stream."""

    start: NDArray[np.int64]
    end: NDArray[np.int64]
    born: NDArray[np.floating]
    """Highest threshold at which the run exists."""
    gone: NDArray[np.floating]
    """Threshold at which the run has become part of a longer run."""
    shared: NDArray[np.int64]
    """Shape (n, K): segments in true events of each class that occurs."""
    place: int
    """Column of the own class in `shared`."""
    events: Sequence[Span]

    @classmethod
    def of(cls, column: NDArray[np.floating], sums: NDArray[np.int64], place: int, events: Sequence[Span]) -> _Runs:
        """Find the runs of a column (S,); *sums* (S + 1, K) holds the number of true segments before each segment."""
        left, right = _bounds(column.tolist())
        _, first = np.unique(left * (len(column) + 2) + right, return_index=True)  # equal scores bound the same run
        left, right = left[first], right[first]
        around = np.concatenate([[-np.inf], column, [-np.inf]])
        gone = np.maximum(around[left + 1], around[right + 1])
        return cls(left + 1, right, column[first], gone, sums[right] - sums[left + 1], place, events)


def _bounds(values: list[float]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return, for each segment, the nearest segment before and after it with a lower score (-1 and S when there is none)."""
    left, right = [-1] * len(values), [len(values)] * len(values)
    open_segments: list[int] = []  # their scores never fall
    for segment, value in enumerate(values):
        while open_segments and values[open_segments[-1]] > value:
            right[open_segments.pop()] = segment
        if open_segments:
            top = open_segments[-1]
            left[segment] = top if values[top] < value else left[top]
        open_segments.append(segment)
    return np.array(left, dtype=np.int64), np.array(right, dtype=np.int64)


@dataclass(frozen=True, eq=False, slots=True)
class _Curve:
    """Share of true events found at each rate of false alarms (per hour, rising from 0)."""

    rate: NDArray[np.float64]
    found: NDArray[np.float64]


def _curve(parts: Sequence[_Runs], options: PsdsOptions, hours: float, others: NDArray[np.float64]) -> _Curve:
    """Return the curve of one class; *others* (K,) holds the rate that one confusion with each other class adds."""
    thresholds, alarms, hits = [], [], []
    for runs in parts:
        length = runs.end - runs.start
        relevant = runs.shared[:, runs.place] >= np.round(options.detection * length, _DECIMALS)
        cost = np.where(relevant, 0.0, 1.0 / hours)
        if options.cross_weight:
            confused = runs.shared >= np.round(options.cross * length, _DECIMALS)[:, None]
            cost += options.cross_weight * np.where(relevant, 0.0, confused @ others)
        thresholds += [runs.born, runs.gone]
        alarms += [cost, -cost]
        hits += [np.zeros(2 * len(cost))]
        for event in runs.events:
            at, change = _found(runs, event, relevant, options.truth)
            thresholds.append(at)
            hits.append(change)
            alarms.append(np.zeros(len(at)))
    at = np.concatenate(thresholds)
    _, rate = _summed(at, np.concatenate(alarms))
    _, found = _summed(at, np.concatenate(hits))
    return _staircase(np.round(rate, 9), found / sum(len(runs.events) for runs in parts), options.most_alarms_per_hour)


def _found(runs: _Runs, event: Span, relevant: NDArray[np.bool_], share: float) -> tuple[NDArray[np.floating], NDArray[np.float64]]:
    """Return the thresholds at which relevant runs begin (+1) or cease (-1) to cover enough of an event."""
    covered = np.minimum(runs.end, event.end) - np.maximum(runs.start, event.start)
    touching = relevant & (covered > 0)
    at = np.concatenate([runs.born[touching], runs.gone[touching]])
    thresholds, total = _summed(at, np.concatenate([covered[touching], -covered[touching]]))
    enough = total >= round(share * (event.end - event.start), _DECIMALS)
    return thresholds, np.diff(enough.astype(np.float64), prepend=0.0)


def _summed(thresholds: NDArray[np.floating], changes: NDArray[np.number]) -> tuple[NDArray[np.floating], NDArray[np.float64]]:
    """Return the running sums of changes from the highest threshold down; changes at minus infinity are left out."""
    at, inverse = np.unique(thresholds, return_inverse=True)
    total = np.bincount(inverse, weights=changes, minlength=len(at))[::-1].cumsum()
    seen = np.isfinite(at[::-1])
    return at[::-1][seen], total[seen]


def _staircase(rate: NDArray[np.float64], found: NDArray[np.float64], most: float) -> _Curve:
    """Return the most events found at or below each rate up to *most*; the curve starts with nothing found at rate 0."""
    rate, found = np.append(0.0, rate), np.append(0.0, found)
    order = np.argsort(rate, kind="stable")
    rate, found = rate[order], np.maximum.accumulate(found[order])
    last = np.append(rate[1:] > rate[:-1], True) & (rate <= most)
    return _Curve(rate[last], found[last])


def _area(curves: Sequence[_Curve], options: PsdsOptions) -> float:
    """Return the area under the mean minus the weighted deviation over the classes, as a share of the largest possible area."""
    weight = options.instability_weight
    if weight is None:
        weight = 1.0 / math.sqrt(len(curves) - 1) if len(curves) > 1 else 0.0
    rates = np.unique(np.concatenate([curve.rate for curve in curves]))
    found = np.stack([curve.found[np.searchsorted(curve.rate, rates, side="right") - 1] for curve in curves])
    height = np.maximum(found.mean(axis=0) - weight * found.std(axis=0), 0.0)
    widths = np.diff(np.append(rates, options.most_alarms_per_hour))
    return float((height * widths).sum() / options.most_alarms_per_hour)
