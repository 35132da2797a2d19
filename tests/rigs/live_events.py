"""Returns the events of a live run: gives scores to the real tracker segment by segment, for tests of the offline code."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from streamav.evaluation.events import SaidEvent
from streamav.thresholds import Thresholds
from streamav.tracker import LabelOptions, Tracker, TrackerOptions
from streamav.types import SEGMENT_NS, EventPhase, SegmentScores

__all__ = ["LABELS", "live_events"]

LABELS = ("bark", "bird", "siren")


def live_events(
    scores: NDArray[np.floating], thresholds: Thresholds | Sequence[Thresholds], latency: int = 1, seed: int = 0
) -> list[SaidEvent]:
    """Return the confirmed events that the tracker of a live run reports, in time order.

    Args:
        scores: shape (S, C + 1): final probabilities of every segment.
        thresholds: one set for all classes, or one set for each class.
        latency: L; before a segment is final, the tracker gets random scores for it.
        seed: seed of the random scores.
    """
    classes = scores.shape[1] - 1
    each = [thresholds] * classes if isinstance(thresholds, Thresholds) else thresholds
    labels = tuple(
        LabelOptions(label=f"class_{number}", label_name=str(number), class_id=number, thresholds=one) for number, one in enumerate(each)
    )
    tracker = Tracker(TrackerOptions(source="s", session="x", labels=labels))
    random = np.random.default_rng(seed)
    events, end = [], len(scores)
    for newest in range(end):
        first = max(0, newest - latency + 1)
        settled = newest - first == latency - 1
        drawn = random.random((newest - first, classes + 1))
        said = scores[first : first + 1] if settled else random.random((1, classes + 1))
        rows = [*said, *drawn]
        events += tracker.push([_scored(first + place, row, final=settled and place == 0) for place, row in enumerate(rows)])
    rest = range(max(0, end - latency + 1), end)
    events += tracker.close([_scored(index, scores[index], final=True) for index in rest])
    confirmed: dict[str, int] = {}
    for event in events:
        if event.confirmed:
            confirmed.setdefault(event.id, event.newest_end_ns // SEGMENT_NS - latency)  # the newest final segment
    found = [
        SaidEvent(event.class_id or 0, event.start_ns // SEGMENT_NS, event.end_ns // SEGMENT_NS, confirmed[event.id])
        for event in events
        if event.phase is EventPhase.END and event.confirmed and event.end_ns is not None
    ]
    return sorted(found, key=lambda event: (event.start, event.label))


def _scored(index: int, row: NDArray[np.floating], *, final: bool) -> SegmentScores:
    return SegmentScores(
        index=index,
        age=0,
        final=final,
        relevance=1.0,
        class_probabilities=row.astype(np.float32),
        agreement=0.0,
        attention=np.full((1, 1), 1.0, np.float32),
        level_dbfs=None,
    )
