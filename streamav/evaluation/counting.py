"""Finds the events that a live run would report, over a whole stream at once, and counts them for many thresholds.

`streamav.tracker` works segment by segment; this module applies the same rule to whole streams, and a test checks that both agree. All
offline evaluation and tuning takes its events from here. It is pure and chooses no thresholds.

    probability   .1  .4  .7  .8  .4  .1  .4  .1  .1     on 0.6, off 0.35, gap 1
    at least off      [-----------------]   [--]         joined over pauses of at most `gap` segments
    run                   [-----------------]            from the first segment at `on`; two segments reach `on`
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from streamav.errors import DataError
from streamav.evaluation.events import Collar, EventCounts, SaidEvent, most_pairs, spans_of_labels
from streamav.thresholds import LONGEST, Thresholds

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "APART",
    "ByClass",
    "FinalSegments",
    "OperatingTable",
    "Runs",
    "ScoredStream",
    "of_classes",
    "operating_table",
    "runs_of_column",
    "said_events",
]

APART = LONGEST + 4
"""Segments inserted between two streams: more than the longest pause inside an event and any onset collar."""
ByClass = Thresholds | Sequence[Thresholds]
"""One set of thresholds for all classes, or C sets by class_id."""


@dataclass(frozen=True, eq=False, slots=True)
class ScoredStream:
    """One stream with the scores of every window."""

    windows: NDArray[np.floating]
    """Shape (S - T + 1, T, C + 1): probabilities of the window that begins at segment k."""
    truth: NDArray[np.int64]
    """Shape (S,): 0 to C; C is background."""


@dataclass(frozen=True, eq=False, slots=True)
class FinalSegments:
    """One stream: final scores and true label of each segment."""

    scores: NDArray[np.floating]
    """Shape (S, C + 1): probabilities, background last."""
    truth: NDArray[np.int64]
    """Shape (S,): 0 to C; C is background."""


@dataclass(frozen=True, eq=False, slots=True)
class Runs:
    """R runs of one class in time order; all arrays except `loud` have shape (R,)."""

    start: NDArray[np.int64]
    end: NDArray[np.int64]
    """Exclusive."""
    held: NDArray[np.int64]
    """Number of segments at or above `on`; `min_segments` of them confirm an event."""
    before: NDArray[np.int64]
    """How many segments of `loud` lie in earlier runs."""
    loud: NDArray[np.int64]
    """Shape (sum of `held`,): the segments at or above `on` in all runs."""


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class OperatingTable:
    """Event counts of each of P settings for each of C classes."""

    options: tuple[Thresholds, ...]
    """The P settings."""
    true: NDArray[np.int64]
    """Shape (C,): number of true events."""
    said: NDArray[np.int64]
    """Shape (C, P): number of predicted events; the next three have the same shape."""
    hits: NDArray[np.int64]
    false_alarms: NDArray[np.int64]
    background_false_alarms: NDArray[np.int64]
    seconds: int
    background_seconds: int

    def __add__(self, other: OperatingTable) -> OperatingTable:
        """Return the counts of the same settings on the streams of both tables.

        Raises:
            DataError: when the settings or the classes are not the same.
        """
        if self.options != other.options or len(self.true) != len(other.true):
            msg = f"tables to add must have the same settings and classes, got {len(self.true)} and {len(other.true)} classes"
            raise DataError(msg)
        names = ("true", "said", "hits", "false_alarms", "background_false_alarms", "seconds", "background_seconds")
        return OperatingTable(options=self.options, **{name: getattr(self, name) + getattr(other, name) for name in names})

    def counts(self, chosen: Sequence[int]) -> EventCounts:
        """Return the counts over all classes when class c has setting number chosen[c]."""
        rows = np.arange(len(self.true))
        columns = np.asarray(chosen, dtype=np.int64)
        return EventCounts(
            true=int(self.true.sum()),
            said=int(self.said[rows, columns].sum()),
            hits=int(self.hits[rows, columns].sum()),
            false_alarms=int(self.false_alarms[rows, columns].sum()),
            background_false_alarms=int(self.background_false_alarms[rows, columns].sum()),
            seconds=self.seconds,
            background_seconds=self.background_seconds,
        )


def runs_of_column(column: NDArray[np.floating], on: float, off: float, gap: int, near: NDArray[np.int64] | None = None) -> Runs:
    """Find the runs of one class, of any length.

    Args:
        column: shape (S,): probability of the class; below 0 between streams.
        on: a run begins at this probability or more.
        off: a run goes on at this probability or more; at most *on*.
        gap: longest pause below *off* inside a run, in segments.
        near: the segments that may reach *off*; None to check all segments.
    """
    column = np.asarray(column, dtype=np.float64)  # as in the tracker; float32 would round the thresholds
    segments = np.flatnonzero(column >= off) if near is None else near[column[near] >= off]
    if not segments.size:
        return Runs(*(np.zeros(0, dtype=np.int64) for _ in range(5)))
    first = np.concatenate([[0], np.flatnonzero(np.diff(segments) > gap + 1) + 1])
    last = np.concatenate([first[1:], [len(segments)]]) - 1
    begins = column[segments] >= on
    held = np.add.reduceat(begins.astype(np.int64), first)
    loud = segments[begins]
    real = held > 0
    before = (np.cumsum(held) - held)[real]
    return Runs(loud[before], segments[last[real]] + 1, held[real], before, loud)


def of_classes(thresholds: ByClass, classes: int) -> tuple[Thresholds, ...]:
    """Return the thresholds of each class.

    Raises:
        DataError: when the number of thresholds is not the number of classes.
    """
    found = (thresholds,) * classes if isinstance(thresholds, Thresholds) else tuple(thresholds)
    if len(found) != classes:
        msg = f"thresholds must be one set for all classes, or one set for each of {classes} classes; got {len(found)}"
        raise DataError(msg)
    return found


def said_events(scores: NDArray[np.floating], thresholds: ByClass) -> list[SaidEvent]:
    """Return the confirmed events of one stream that a live run would report, in time order.

    Args:
        scores: shape (S, C + 1): final probabilities of every segment, background last.
        thresholds: one set for all classes, or one set for each class.

    Raises:
        DataError: when the number of thresholds is not the number of classes.
    """
    found: list[SaidEvent] = []
    for label, one in enumerate(of_classes(thresholds, scores.shape[1] - 1)):
        runs = runs_of_column(scores[:, label], one.on, one.off, one.gap_segments)
        kept = runs.held >= one.min_segments
        confirmed = runs.loud[runs.before[kept] + one.min_segments - 1]
        columns = (runs.start[kept].tolist(), runs.end[kept].tolist(), confirmed.tolist())
        found += [SaidEvent(label, *event) for event in zip(*columns, strict=True)]
    return sorted(found, key=lambda event: (event.start, event.label))


def operating_table(streams: Sequence[FinalSegments], options: Sequence[Thresholds], collar: Collar | None = None) -> OperatingTable:
    """Count the events of every setting for every class.

    Args:
        streams: with final scores at the latency that is tuned for.
        options: the settings to count.
        collar: how far onset and offset of an event may be off; None for 1 s at the onset and max(1 s, 20 %) at the offset.

    Raises:
        DataError: when there is no stream, no setting, or the streams differ in their classes.
    """
    classes = {stream.scores.shape[1] - 1 for stream in streams}
    if len(classes) != 1 or not options:
        msg = f"tuning needs streams of one set of classes and settings to try, got {len(streams)} streams of {sorted(classes)} classes"
        raise DataError(msg)
    background = classes.pop()
    scores, truth, inside = _laid_out(streams, background)
    quiet = np.concatenate([[0], np.cumsum((truth == background) & inside)])
    counts = np.zeros((4, background, len(options)), dtype=np.int64)
    true = np.zeros(background, dtype=np.int64)
    lowest = min(option.off for option in options)
    for label in range(background):
        column, mine = scores[:, label], truth == label
        events = np.array([(span.start, span.end) for span in spans_of_labels(mine.astype(np.int64), 0)], dtype=np.int64).reshape(-1, 2)
        true[label] = len(events)
        counter = _Counter(events, np.concatenate([[0], np.cumsum(mine)]), quiet, collar or Collar())
        near = np.flatnonzero(column >= lowest)
        known: dict[tuple[float, float, int], Runs] = {}
        for number, option in enumerate(options):
            key = (option.on, option.off, option.gap_segments)
            if key not in known:
                known[key] = runs_of_column(column, *key, near)
            counts[:, label, number] = counter.count(known[key], option.min_segments)
    said, hits, alarms, in_background = counts
    return OperatingTable(
        options=tuple(options),
        true=true,
        said=said,
        hits=hits,
        false_alarms=alarms,
        background_false_alarms=in_background,
        seconds=int(inside.sum()),
        background_seconds=int(quiet[-1]),
    )


@dataclass(frozen=True, eq=False, slots=True)
class _Counter:
    """Compares the runs of one class with its true events, in the same way as `events.count_events`."""

    events: NDArray[np.int64]
    """Shape (E, 2): start and end (exclusive) of the true events, in segments."""
    mine: NDArray[np.int64]
    """Shape (S + 1,): number of true segments of this class before each segment."""
    quiet: NDArray[np.int64]
    """Shape (S + 1,): number of background segments before each segment."""
    collar: Collar

    def count(self, runs: Runs, least: int) -> tuple[int, int, int, int]:
        """Return the numbers of predicted events, hits, false alarms, and false alarms that lie in background alone."""
        kept = runs.held >= least
        start, end = runs.start[kept], runs.end[kept]
        alarms = self.mine[start] == self.mine[end]
        in_background = alarms & (self.quiet[end] - self.quiet[start] == end - start)
        return len(start), self._hits(start, end), int(alarms.sum()), int(in_background.sum())

    def _hits(self, start: NDArray[np.int64], end: NDArray[np.int64]) -> int:
        begin, stop = self.events[:, 0], self.events[:, 1]
        first = np.searchsorted(start, begin - self.collar.onset, side="left")
        after = np.searchsorted(start, begin + self.collar.onset, side="right")
        width = int((after - first).max(initial=0))
        if width == 0:
            return 0
        places = first[:, None] + np.arange(width)
        ends = end[np.minimum(places, len(end) - 1)]
        allowed = np.maximum(self.collar.offset, self.collar.offset_share * (stop - begin))
        near = (places < after[:, None]) & (np.abs(ends - stop[:, None]) <= allowed[:, None])
        events, columns = np.nonzero(near)
        found = places[events, columns]
        if len(np.unique(events)) == len(events) == len(np.unique(found)):
            return len(events)
        return most_pairs([places[event][near[event]].tolist() for event in range(len(begin))], len(start))


def _laid_out(streams: Sequence[FinalSegments], background: int) -> tuple[NDArray[np.floating], NDArray[np.int64], NDArray[np.bool_]]:
    """Join the streams with gaps between them; return scores (S, C + 1), truth (S,) and whether a segment belongs to a stream (S,)."""
    scores, truth, inside = [], [], []
    for stream in streams:
        size = len(stream.truth)
        scores += [stream.scores, np.full((APART, background + 1), -1.0)]
        truth += [stream.truth, np.full(APART, background, dtype=np.int64)]
        inside += [np.ones(size, dtype=np.bool_), np.zeros(APART, dtype=np.bool_)]
    return np.asfortranarray(np.concatenate(scores)), np.concatenate(truth), np.concatenate(inside)
