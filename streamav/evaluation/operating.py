"""What a model could do at other thresholds: false alarms an hour where it finds nine true events in ten.

It is pure. It looks for the threshold on what it is shown, so on test streams it describes scores and tunes nothing.
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
"""Thresholds that are tried, 0.0025 to 0.9975, even in log odds: softmax scores crowd at both ends."""


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """Thresholds with what they come to."""

    thresholds: tuple[Thresholds, ...]
    """By class_id."""
    counts: EventCounts


def at_detection(
    truth: Sequence[NDArray[np.int64]],
    scores: Sequence[NDArray[np.floating]],
    thresholds: ByClass,
    wanted: float = WANTED_DETECTION,
) -> OperatingPoint | None:
    """Lower the threshold until enough true events are touched, and give that point.

    The first is taken and not the one with the fewest alarms: far lower, events run together until one of them touches everything.

    Args:
        truth: of each stream, shape (S,): label of each second, C for background.
        scores: of each stream, shape (S, C + 1): probabilities, background last.
        thresholds: `on` is tried from 1 down to 0, the same for all classes; all else is kept, and the ratio of `off` to `on`.
        wanted: share of true events, 0 to 1.

    Returns:
        None when no threshold finds enough, or there is no true event.
    """
    background = scores[0].shape[1] - 1
    for on in _ON[::-1].tolist():
        tried = tuple(replace(one, on=on, off=on * (one.off / one.on if one.on else 1.0)) for one in of_classes(thresholds, background))
        parts = [count_events(one, said_events(score, tried), background, Collar()) for one, score in zip(truth, scores, strict=True)]
        counts = sum(parts, EventCounts())
        if counts.detection_rate >= wanted:  # never of NaN
            return OperatingPoint(tried, counts)
    return None
