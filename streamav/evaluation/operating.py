"""Computes the false alarms per hour at the threshold that detects 90 % of the true events.

It is pure. It finds the threshold on the same streams that it counts, so on test streams it describes the scores and tunes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from streamav.evaluation.counting import ByClass, of_classes, said_events
from streamav.evaluation.events import Collar, EventCounts, count_events

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from streamav.thresholds import Thresholds

__all__ = ["WANTED_DETECTION", "OperatingPoint", "at_detection"]

WANTED_DETECTION = 0.9
"""Share of true events. Source: the project's AVE-Stream protocol, metric 4."""

_ON = 1.0 / (1.0 + np.exp(-np.linspace(-6.0, 6.0, 49)))
"""Thresholds that are tried, 0.0025 to 0.9975, evenly spaced in log odds, because softmax scores crowd at both ends."""


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """Thresholds with the counts that they give."""

    thresholds: tuple[Thresholds, ...]
    """By class_id."""
    counts: EventCounts


def at_detection(
    truth: Sequence[NDArray[np.int64]],
    scores: Sequence[NDArray[np.floating]],
    thresholds: ByClass,
    wanted: float = WANTED_DETECTION,
) -> OperatingPoint | None:
    """Lower the threshold until enough true events are detected, and return that point.

    The highest such threshold is taken, not the one with the fewest alarms: at far lower thresholds events merge, until one event overlaps
    all true events.

    Args:
        truth: of each stream, shape (S,): label of each segment, C for background.
        scores: of each stream, shape (S, C + 1): probabilities, background last.
        thresholds: `on` is tried from high to low, the same for all classes; the ratio of `off` to `on` and all else stay.
        wanted: share of true events, 0 to 1.

    Returns:
        The thresholds and their counts; None when no threshold detects enough, or there is no true event.
    """
    background = scores[0].shape[1] - 1
    for on in _ON[::-1].tolist():
        tried = tuple(replace(one, on=on, off=on * (one.off / one.on if one.on else 1.0)) for one in of_classes(thresholds, background))
        parts = [count_events(one, said_events(score, tried), background, Collar()) for one, score in zip(truth, scores, strict=True)]
        counts = sum(parts, EventCounts())
        if counts.detection_rate >= wanted:  # false for NaN
            return OperatingPoint(tried, counts)
    return None
