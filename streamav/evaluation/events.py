"""Compares predicted events with true events: matching within collars, false alarms, onset latency.

It is pure, counts in segments of one second, and uses no scores, windows or networks. A span covers segments start to end - 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = [
    "Collar",
    "EventCounts",
    "Overlap",
    "SaidEvent",
    "Span",
    "count_events",
    "most_pairs",
    "onset_latencies",
    "spans_of_labels",
]


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """One event."""

    label: int
    start: int
    end: int
    """Exclusive."""


@dataclass(frozen=True, slots=True, order=True)
class SaidEvent(Span):
    """One event that a model predicted."""

    confirmed: int
    """Segment that confirms the event, start to end - 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Collar:
    """How far onset and offset of a predicted event may be off, so that the true event still counts as found."""

    onset: float = 1.0
    """Seconds."""
    offset: float = 1.0
    """Seconds, or `offset_share` of the true event's length if that is more."""
    offset_share: float = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Overlap:
    """How much of a true event a predicted event must cover, so that the true event counts as found.

    Source: intersection over union of at least 0.5, as event-F1 is defined for audio-visual video parsing (Tian, Li and Xu, Unified
    Multisensory Perception, ECCV 2020, section 5.1) and kept by OV-AVEBench.
    """

    share: float = 0.5
    """Intersection over union, above 0 and at most 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EventCounts:
    """Counts of events; the counts of several streams can be added."""

    true: int = 0
    said: int = 0
    hits: int = 0
    detected: int = 0
    """True events that overlap a predicted event of their class by any amount."""
    false_alarms: int = 0
    """Predicted events that overlap no true event of their class."""
    background_false_alarms: int = 0
    """The false alarms that lie in background alone."""
    seconds: int = 0
    background_seconds: int = 0

    def __add__(self, other: EventCounts) -> EventCounts:
        """Add the counts of two streams."""
        return EventCounts(**{name: getattr(self, name) + getattr(other, name) for name in self.__dataclass_fields__})

    @property
    def f1(self) -> float:
        """Event-F1, 0 to 1; NaN when there is neither a true nor a predicted event."""
        total = self.true + self.said
        return 2.0 * self.hits / total if total else float("nan")

    @property
    def detection_rate(self) -> float:
        """Share of true events that overlap a predicted event of their class; NaN when there is no true event."""
        return self.detected / self.true if self.true else float("nan")

    @property
    def false_alarms_per_hour(self) -> float:
        """False alarms per hour of stream."""
        return 3600.0 * self.false_alarms / self.seconds if self.seconds else float("nan")

    @property
    def background_false_alarms_per_hour(self) -> float:
        """False alarms in background per hour of background."""
        return 3600.0 * self.background_false_alarms / self.background_seconds if self.background_seconds else float("nan")


def spans_of_labels(labels: NDArray[np.int64], background: int) -> list[Span]:
    """Return the runs of equal labels that are not background, from the labels of segments, shape (S,)."""
    edges = [0, *(np.flatnonzero(np.diff(labels)) + 1).tolist(), len(labels)]
    return [Span(int(labels[start]), start, end) for start, end in pairwise(edges) if end > start and labels[start] != background]


def count_events(truth: NDArray[np.int64], said: Sequence[Span], background: int, collar: Collar | Overlap) -> EventCounts:
    """Compare the events of one stream.

    Args:
        truth: shape (S,): label of each segment.
        said: the predicted events.
        background: C.
        collar: how far onset and offset may be off, or how much of the event must be covered.

    Source: Mesaros, Heittola and Virtanen, Metrics for Polyphonic Sound Event Detection, 2016, section 3.2; matching as in sed_eval
    (one to one, as many matches as possible).
    """
    true = spans_of_labels(truth, background)
    loud = np.append(0, np.cumsum(truth != background))  # number of event segments before each segment
    one, other = _columns(true), _columns(said)
    touching = _touching(one, other)  # (true, said)
    alarm = ~touching.any(axis=0)
    start, end = loud[np.minimum(other[1:], len(truth))]
    return EventCounts(
        true=len(true),
        said=len(said),
        hits=most_pairs([np.flatnonzero(row).tolist() for row in _near(one, other, touching, collar)], len(said)),
        detected=int(touching.any(axis=1).sum()),
        false_alarms=int(alarm.sum()),
        background_false_alarms=int((alarm & (start == end)).sum()),
        seconds=len(truth),
        background_seconds=len(truth) - int(loud[-1]),
    )


def onset_latencies(truth: NDArray[np.int64], said: Sequence[SaidEvent], background: int, latency: int) -> tuple[list[int], int]:
    """Return the onset latency in seconds of each true event that is detected, and how many true events are not detected.

    A true event is detected when a predicted event of its class that overlaps it is confirmed, or at its onset when that event was
    confirmed before. A segment is final L seconds after its start, so the latency includes the segment itself.

    Args:
        truth: shape (S,): label of each segment.
        said: the predicted events.
        background: C.
        latency: L of the predictions; 0 when they do not wait for the segment itself.
    """
    latencies, missed = [], 0
    for true in spans_of_labels(truth, background):
        mine = (one for one in said if one.label == true.label and one.start < true.end and true.start < one.end)
        first = min((max(one.start, one.confirmed, true.start) for one in mine), default=None)
        if first is None:
            missed += 1
        else:
            latencies.append(first - true.start + latency)
    return latencies, missed


def _columns(spans: Sequence[Span]) -> NDArray[np.int64]:
    """Return labels, starts and ends, shape (3, n)."""
    return np.array([(span.label, span.start, span.end) for span in spans], dtype=np.int64).reshape(-1, 3).T


def _touching(true: NDArray[np.int64], said: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return which pairs have the same class and share a segment, shape (true, said)."""
    label, start, end = true[:, :, None]
    touching: NDArray[np.bool_] = (label == said[0]) & (start < said[2]) & (said[1] < end)
    return touching


def _near(true: NDArray[np.int64], said: NDArray[np.int64], touching: NDArray[np.bool_], wanted: Collar | Overlap) -> NDArray[np.bool_]:
    """Return which pairs may be a hit, shape (true, said)."""
    label, start, end = true[:, :, None]
    near: NDArray[np.bool_]
    if isinstance(wanted, Overlap):
        shared = np.minimum(end, said[2]) - np.maximum(start, said[1])
        near = touching & (shared >= wanted.share * ((end - start) + (said[2] - said[1]) - shared))
        return near
    allowed = np.maximum(wanted.offset, wanted.offset_share * (end - start))
    near = (label == said[0]) & (np.abs(start - said[1]) <= wanted.onset) & (np.abs(end - said[2]) <= allowed)
    return near


def most_pairs(candidates: list[list[int]], size: int) -> int:
    """Return the size of the largest one-to-one matching (Kuhn's augmenting paths; collars keep the lists short).

    Args:
        candidates: for each item of one side, the numbers of the items of the other side that it may be matched with.
        size: number of items on the other side.
    """
    owner = [-1] * size

    def place(one: int, seen: set[int]) -> bool:
        for other in candidates[one]:
            if other not in seen:
                seen.add(other)
                if owner[other] < 0 or place(owner[other], seen):
                    owner[other] = one
                    return True
        return False

    return sum(place(one, set()) for one in range(len(candidates)))
