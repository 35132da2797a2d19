"""Finds thresholds on validation streams: the best event-F1 among those that keep false alarms within a limit.

It is pure, and it is for validation streams only: what it is shown is no longer a test.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

from streamav.errors import DataError
from streamav.evaluation.ages import Combination, at_age, scored_seconds
from streamav.evaluation.events import Collar, EventCounts, Hysteresis, count_events, spans_of_scores

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streamav.evaluation.scores import ScoredStream

__all__ = ["Tried", "candidates", "tune"]

_ON = tuple(round(0.3 + 0.05 * step, 2) for step in range(13))
_HOLD = (0.4, 0.6, 0.8, 1.0)
_SHORTEST = (1, 2, 3)


@dataclass(frozen=True, slots=True)
class Tried:
    """Thresholds with what they come to."""

    hysteresis: Hysteresis
    counts: EventCounts


def candidates(gap_segments: int = 1) -> list[Hysteresis]:
    """Give the thresholds that are tried: `on` from 0.3 to 0.9, `off` a share of it, and 1 to 3 seconds at least."""
    return [
        Hysteresis(on=on, off=round(on * hold, 3), min_segments=shortest, gap_segments=gap_segments)
        for on, hold, shortest in product(_ON, _HOLD, _SHORTEST)
    ]


def tune(
    streams: Sequence[ScoredStream], latency: int, alarms_per_hour: float, how: Combination = "hamming", gap_segments: int = 1
) -> tuple[Tried, bool]:
    """Try all candidates at one latency.

    Args:
        streams: of the validation split.
        latency: seconds of look-ahead, 0 to T - 1.
        alarms_per_hour: most false alarms in an hour of background.
        how: how windows are combined.
        gap_segments: longest pause inside an event.

    Returns:
        The best within the limit and True, or, when none keeps it, the one with the fewest false alarms and False.

    Raises:
        DataError: when there is nothing to tune on.
    """
    if not streams:
        msg = "tuning needs at least one stream"
        raise DataError(msg)
    background = streams[0].windows.shape[2] - 1
    pairs = []
    for stream in streams:
        inside = scored_seconds(len(stream.truth), stream.windows.shape[1])
        pairs.append((stream.truth[inside.start : inside.stop], at_age(stream.windows, latency, how)))
    tried = []
    for option in candidates(gap_segments):
        parts = [count_events(truth, spans_of_scores(scores, option), background, Collar()) for truth, scores in pairs]
        tried.append(Tried(option, sum(parts, EventCounts())))
    within = [one for one in tried if one.counts.background_false_alarms_per_hour <= alarms_per_hour]
    if within:
        top = max((one.counts.f1, -one.counts.false_alarms) for one in within)
        equal = [one for one in within if (one.counts.f1, -one.counts.false_alarms) == top]
        return equal[len(equal) // 2], True  # the middle of those that do equally well has most room on both sides
    return min(tried, key=lambda one: (one.counts.background_false_alarms, -one.counts.f1)), False
