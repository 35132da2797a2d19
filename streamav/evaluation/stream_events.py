"""Events out of scores, and events against events: matching within collars, false alarms, onset latency.

It is pure, counts in whole seconds, and knows no windows and no networks. A span covers seconds start to end - 1.
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
    "Hysteresis",
    "Span",
    "count_events",
    "most_pairs",
    "onset_latencies",
    "spans_of_labels",
    "spans_of_scores",
]


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """One event."""

    label: int
    start: int
    end: int
    """Exclusive."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hysteresis:
    """From scores to spans; the defaults are those of the project's pilot."""

    on: float = 0.6
    off: float = 0.35
    min_segments: int = 2
    gap_segments: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Collar:
    """How far an event may be off and still be found."""

    onset: float = 1.0
    """Seconds."""
    offset: float = 1.0
    """Seconds, or `offset_share` of the true event's length where that is more."""
    offset_share: float = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class EventCounts:
    """Counts that may be added over streams."""

    true: int = 0
    said: int = 0
    hits: int = 0
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


def spans_of_scores(scores: NDArray[np.floating], options: Hysteresis) -> list[Span]:
    """Find events of every class on its own: begun at `on`, held at `off`, joined over gaps, and long enough.

    Args:
        scores: shape (S, C + 1): probabilities, background last.
        options: thresholds.
    """
    found: list[Span] = []
    for label in range(scores.shape[1] - 1):
        column = scores[:, label]
        if column.max(initial=0.0) < options.on:
            continue
        held = spans_of_labels((column < options.off).astype(np.int64), 1)
        begun = [Span(label, span.start + int((column[span.start : span.end] >= options.on).argmax()), span.end) for span in held]
        kept = [new for new, old in zip(begun, held, strict=True) if (column[old.start : old.end] >= options.on).any()]
        found += [span for span in _joined(kept, options.gap_segments) if span.end - span.start >= options.min_segments]
    return sorted(found, key=lambda span: (span.start, span.label))


def count_events(truth: NDArray[np.int64], said: Sequence[Span], background: int, collar: Collar) -> EventCounts:
    """Compare the events of one stream.

    Args:
        truth: shape (S,): label of each second.
        said: events that were found.
        background: C.
        collar: how far an event may be off.

    Source: Mesaros, Heittola and Virtanen, Metrics for Polyphonic Sound Event Detection, 2016, section 3.2; matching as in sed_eval
    (one to one, as many as possible).
    """
    true = spans_of_labels(truth, background)
    quiet = truth == background
    alarms = [span for span in said if not any(_touch(span, other) for other in true if other.label == span.label)]
    return EventCounts(
        true=len(true),
        said=len(said),
        hits=most_pairs([[j for j, other in enumerate(said) if _near(one, other, collar)] for one in true], len(said)),
        false_alarms=len(alarms),
        background_false_alarms=sum(bool(quiet[span.start : span.end].all()) for span in alarms),
        seconds=len(truth),
        background_seconds=int(quiet.sum()),
    )


def onset_latencies(truth: NDArray[np.int64], said: NDArray[np.int64], background: int, age: int) -> tuple[list[int], int]:
    """Give, for each true event that is ever named, the seconds from its onset to the first right answer, and how many are not.

    An answer about second s is given at age *age* when second s + age has ended, so one second of segmentation is within.
    """
    latencies, missed = [], 0
    for span in spans_of_labels(truth, background):
        right = np.flatnonzero(said[span.start : span.end] == span.label)
        if right.size:
            latencies.append(int(right[0]) + age + 1)
        else:
            missed += 1
    return latencies, missed


def _joined(spans: list[Span], gap: int) -> list[Span]:
    joined: list[Span] = []
    for span in spans:
        if joined and span.start - joined[-1].end <= gap:
            joined[-1] = Span(span.label, joined[-1].start, span.end)
        else:
            joined.append(span)
    return joined


def _touch(first: Span, second: Span) -> bool:
    return first.start < second.end and second.start < first.end


def _near(true: Span, said: Span, collar: Collar) -> bool:
    allowed = max(collar.offset, collar.offset_share * (true.end - true.start))
    return true.label == said.label and abs(true.start - said.start) <= collar.onset and abs(true.end - said.end) <= allowed


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
