"""Events against events: matching within collars, false alarms, onset latency.

It is pure, counts in segments of one second, and knows no scores, windows or networks. A span covers segments start to end - 1.
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
    """One event that a model said."""

    confirmed: int
    """Segment that confirms it, start to end - 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Collar:
    """How far an event may be off and still be found."""

    onset: float = 1.0
    """Seconds."""
    offset: float = 1.0
    """Seconds, or `offset_share` of the true event's length where that is more."""
    offset_share: float = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Overlap:
    """How much of an event must be met for it to be found.

    Source: intersection over union of at least 0.5, as event-F1 is defined for audio-visual video parsing (Tian, Li and Xu, Unified
    Multisensory Perception, ECCV 2020, section 5.1) and kept by OV-AVEBench.
    """

    share: float = 0.5
    """Intersection over union, above 0 and at most 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EventCounts:
    """Counts that may be added over streams."""

    true: int = 0
    said: int = 0
    hits: int = 0
    detected: int = 0
    """True events that a said event of their class touches, however little."""
    false_alarms: int = 0
    """Said events that touch no true event of their class."""
    background_false_alarms: int = 0
    """Of these, those that lie in background alone."""
    seconds: int = 0
    background_seconds: int = 0

    def __add__(self, other: EventCounts) -> EventCounts:
        """Add two streams."""
        return EventCounts(**{name: getattr(self, name) + getattr(other, name) for name in self.__dataclass_fields__})

    @property
    def f1(self) -> float:
        """Event-F1, 0 to 1; NaN when there is no event on either side."""
        total = self.true + self.said
        return 2.0 * self.hits / total if total else float("nan")

    @property
    def detection_rate(self) -> float:
        """Share of true events that are touched; NaN when there is none."""
        return self.detected / self.true if self.true else float("nan")

    @property
    def false_alarms_per_hour(self) -> float:
        """False alarms for each hour of stream."""
        return 3600.0 * self.false_alarms / self.seconds if self.seconds else float("nan")

    @property
    def background_false_alarms_per_hour(self) -> float:
        """False alarms in background for each hour of background."""
        return 3600.0 * self.background_false_alarms / self.background_seconds if self.background_seconds else float("nan")


def spans_of_labels(labels: NDArray[np.int64], background: int) -> list[Span]:
    """Give the runs of equal labels that are not background."""
    edges = [0, *(np.flatnonzero(np.diff(labels)) + 1).tolist(), len(labels)]
    return [Span(int(labels[start]), start, end) for start, end in pairwise(edges) if end > start and labels[start] != background]


def count_events(truth: NDArray[np.int64], said: Sequence[Span], background: int, collar: Collar | Overlap) -> EventCounts:
    """Compare the events of one stream.

    Args:
        truth: shape (S,): label of each second.
        said: events that were found.
        background: C.
        collar: how far an event may be off, or how much of it must be met.

    Source: Mesaros, Heittola and Virtanen, Metrics for Polyphonic Sound Event Detection, 2016, section 3.2; matching as in sed_eval
    (one to one, as many as possible).
    """
    true = spans_of_labels(truth, background)
    loud = np.append(0, np.cumsum(truth != background))  # seconds that are no background before each second
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
    """Return, for each true event that is ever named, the seconds from its onset until then, and how many true events are not.

    A true event is named once an event of its class that touches it is confirmed, or goes on into it. A segment is final L seconds
    after its start, so the segment itself is within.

    Args:
        truth: shape (S,): label of each segment.
        said: events that were found.
        background: C.
        latency: L of the answers; 0 where they do not wait for the segment itself.
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
    """Give labels, starts and ends, shape (3, n)."""
    return np.array([(span.label, span.start, span.end) for span in spans], dtype=np.int64).reshape(-1, 3).T


def _touching(true: NDArray[np.int64], said: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Tell which are of one class and share a second, shape (true, said)."""
    label, start, end = true[:, :, None]
    touching: NDArray[np.bool_] = (label == said[0]) & (start < said[2]) & (said[1] < end)
    return touching


def _near(true: NDArray[np.int64], said: NDArray[np.int64], touching: NDArray[np.bool_], wanted: Collar | Overlap) -> NDArray[np.bool_]:
    """Tell which may be a hit, shape (true, said)."""
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
    """Give the size of the largest one-to-one matching (Kuhn's augmenting paths; collars keep the lists short).

    Args:
        candidates: for each of one side, the numbers of those of the other side that it may be matched with.
        size: how many the other side has.
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
