"""Turns scores of seconds into events: when each label begins, goes on and ends, and where it is.

Pure: it knows no clock, thread, broker or picture. Labels are independent of each other: several may be active at once.

    probability   .1  .7  .8  .4  .1  .6  .2  .1      on 0.6, off 0.35, gap 1
    run               [----------(gap)--]             begins at `on`, goes on while at least `off`, bridges short pauses

A run in seconds that may still change is provisional; it is confirmed once `min_segments` of its seconds are final and
at least `on`. What a label may do when is one table, TRANSITIONS.
"""

from __future__ import annotations

import hashlib
from copy import copy
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Final

import numpy as np

from streamav.errors import ShapeError
from streamav.types import SEGMENT_NS, WINDOW_SEGMENTS, EndReason, Event, EventPhase, Location, ScoredSegment

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from streamav.types import SegmentScores

__all__ = ["TRANSITIONS", "Happening", "LabelOptions", "State", "Tracker", "TrackerOptions", "locate", "ulid"]

_CROCKFORD: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_NS_PER_MS: Final = 1_000_000
_FLAT: Final = 1.2
"""Attention whose strongest cell has less than this times the mean of all cells says nothing about the place."""
_NEAR_PEAK: Final = 0.5
"""A cell belongs to the place when it has at least this share of the strongest cell (half maximum)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelOptions:
    """How one class becomes events."""

    label: str
    """Slug."""
    label_name: str
    class_id: int
    """Column of class_probabilities."""
    on: float
    """A run begins at this probability, 0 to 1."""
    off: float
    """A run goes on at this probability, 0 to `on`."""
    min_segments: int = 1
    """Final seconds of at least `on` that confirm an event, at least 1."""
    gap_segments: int = 1
    """Longest pause below `off` inside an event, seconds, at least 0."""

    def __post_init__(self) -> None:
        """Check all ranges."""
        if not (0.0 <= self.off <= self.on <= 1.0 and self.min_segments >= 1 and self.gap_segments >= 0 and self.class_id >= 0):
            msg = f"a label needs 0 <= off <= on <= 1, min_segments >= 1, gap_segments >= 0 and class_id >= 0, got {self}"
            raise ShapeError(msg)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackerOptions:
    """What is the same for all events of one source."""

    source: str
    session: str
    """Goes into event ids: content hash of a file, random word of a live source."""
    labels: tuple[LabelOptions, ...]
    epoch_ns: int
    """UTC, ns since 1970, of the media clock's zero."""
    media_ids: bool = False
    """True: ids carry media time instead of UTC, so that a replay gives the same ids whenever it runs."""


class State(Enum):
    """What is published of a label."""

    NOTHING = "nothing"
    PROVISIONAL = "provisional"
    CONFIRMED = "confirmed"


class Happening(Enum):
    """What a second can bring to a label."""

    SEEN = "seen"
    """There is a run; too few of its seconds are final."""
    HELD = "held"
    """There is a run, and enough of its seconds are final."""
    FELL = "fell"
    """The seconds that were claimed are final and do not hold."""
    PASSED = "passed"
    """A run that held is over, and so is the longest pause."""
    STOPPED = "stopped"
    """The source stops while there is a run."""


TRANSITIONS: Final[Mapping[State, Mapping[Happening, tuple[State, EventPhase]]]] = {
    State.NOTHING: {
        Happening.SEEN: (State.PROVISIONAL, EventPhase.NEW),
        Happening.HELD: (State.CONFIRMED, EventPhase.NEW),
    },
    State.PROVISIONAL: {
        Happening.SEEN: (State.PROVISIONAL, EventPhase.UPDATE),
        Happening.HELD: (State.CONFIRMED, EventPhase.UPDATE),
        Happening.FELL: (State.NOTHING, EventPhase.END),
        Happening.PASSED: (State.NOTHING, EventPhase.END),
        Happening.STOPPED: (State.NOTHING, EventPhase.END),
    },
    State.CONFIRMED: {
        Happening.HELD: (State.CONFIRMED, EventPhase.UPDATE),
        Happening.PASSED: (State.NOTHING, EventPhase.END),
        Happening.STOPPED: (State.NOTHING, EventPhase.END),
    },
}
"""state -> what happens -> next state and kind of message; what is not listed cannot happen."""


@dataclass(frozen=True, slots=True)
class _Second:
    """One second as one label sees it."""

    index: int
    probability: float
    scores: SegmentScores


@dataclass(slots=True)
class _Run:
    """Consecutive seconds of one label, from the first at `on` to the last at `off` or more, pauses included."""

    start: int
    last: int
    """Newest second that is not a pause."""
    held: int = 0
    """Seconds of at least `on`."""
    recent: tuple[_Second, ...] = ()
    """The last ten seconds of the run."""
    pause: tuple[_Second, ...] = ()
    """Seconds below `off` since `last`."""


@dataclass(slots=True)
class _Label:
    """State of one label."""

    options: LabelOptions
    final: _Run | None = None
    """The run that the final seconds have led to."""
    state: State = State.NOTHING
    event_id: str = ""
    sequence: int = 0
    start: int = 0
    """First second that the open event claims."""
    shown: _Run | None = None
    """The run that the newest message of the open event described."""
    top: float = 0.0
    said: Event | None = None
    openings: dict[int, int] = field(default_factory=dict)
    """How many events were opened at a second that may still change."""


class Tracker:
    """Events of one source out of the scores of its seconds."""

    def __init__(self, options: TrackerOptions) -> None:
        """Begin with no event."""
        self._options = options
        self._labels = [_Label(label) for label in options.labels]
        self._newest = -1
        self._frontier = -1  # newest final second

    def push(self, scores: Sequence[SegmentScores]) -> list[Event]:
        """Take what one window made known, oldest second first, and give the messages, at most one update for each event."""
        if not scores:
            return []
        self._newest = max(self._newest, scores[-1].index)
        finals = [one for one in scores if one.final]
        tail = [one for one in scores if not one.final]
        self._frontier = max([self._frontier, *(one.index for one in finals)])
        events: list[Event] = []
        for label in self._labels:
            events += self._settle(label, finals)
            events += self._look(label, tail)
        return events

    def close(self, rest: Sequence[SegmentScores] = (), reason: EndReason = EndReason.ENDED) -> list[Event]:
        """End all events; `rest` are the seconds that only now became final. Afterwards a new stretch may begin.

        An event that `rest` or the end of the source leaves unconfirmed ends as retracted, unless something stopped it
        from outside (lost, shut down): then nobody knows whether it would have held, and that reason is given.
        """
        if rest:
            self._newest = max(self._newest, rest[-1].index)
            self._frontier = max(self._frontier, rest[-1].index)
        events: list[Event] = []
        for label in self._labels:
            events += self._settle(label, rest)
            if label.final is not None and (label.state is not State.NOTHING or self._holds(label)):
                if label.state is State.NOTHING:
                    events.append(self._say(label, Happening.HELD, label.final))
                events.append(self._say(label, Happening.STOPPED, label.final, self._last_reason(label, reason)))
            elif label.state is not State.NOTHING:
                events.append(self._say(label, Happening.FELL, label.shown, EndReason.RETRACTED))
            label.final = None
        return events

    # Runs

    def _settle(self, label: _Label, finals: Sequence[SegmentScores]) -> list[Event]:
        """Follow the final seconds and end what they end."""
        events: list[Event] = []
        for scores in finals:
            before = label.final
            label.final = _followed(before, scores, label.options)
            if before is not None and label.final is None:
                events += self._over(label, before)
        if label.state is State.PROVISIONAL and label.final is None and self._frontier >= label.start:
            events.append(self._say(label, Happening.FELL, label.shown, EndReason.RETRACTED))
        return events

    def _over(self, label: _Label, run: _Run) -> list[Event]:
        """End the event of a run that is over; one that nobody was told of is told now, if it held."""
        held = run.held >= label.options.min_segments
        if not held:
            claimed = label.state is State.PROVISIONAL and run.last >= label.start
            return [self._say(label, Happening.FELL, run, EndReason.RETRACTED)] if claimed else []
        events = [self._say(label, Happening.HELD, run)] if label.state is State.NOTHING else []
        return [*events, self._say(label, Happening.PASSED, run, EndReason.ENDED)]

    def _look(self, label: _Label, tail: Sequence[SegmentScores]) -> list[Event]:
        """Open or update the event of the newest run, which the seconds that are not final yet may prolong or begin."""
        run = None if label.final is None else copy(label.final)
        for scores in tail:
            following = _followed(run, scores, label.options)
            if run is not None and following is None:
                break  # it may be over; the next one waits until that is final
            run = following
        if run is None:
            return []
        happening = Happening.HELD if self._holds(label) else Happening.SEEN
        event = self._say(label, happening, run)
        if event.phase is EventPhase.UPDATE and _same(event, label.said):
            label.sequence -= 1
            return []
        label.said = event
        return [event]

    @staticmethod
    def _holds(label: _Label) -> bool:
        return label.final is not None and label.final.held >= label.options.min_segments

    def _last_reason(self, label: _Label, reason: EndReason) -> EndReason:
        return EndReason.RETRACTED if reason is EndReason.ENDED and not self._holds(label) else reason

    # Messages

    def _say(self, label: _Label, happening: Happening, run: _Run | None, reason: EndReason | None = None) -> Event:
        """Make one transition and the message that tells of it."""
        if run is None:
            msg = f"label {label.options.label} has no run to speak of at {happening}"
            raise ShapeError(msg)
        state, phase = TRANSITIONS[label.state][happening]
        if phase is EventPhase.NEW:
            self._open(label, run)
        confirmed = label.state is State.CONFIRMED or state is State.CONFIRMED or happening is Happening.PASSED
        confirmed = confirmed or (happening is Happening.STOPPED and self._holds(label))
        label.state, label.start, label.shown = state, run.start, run
        label.sequence += 1
        label.top = max(label.top, *(second.probability for second in run.recent))
        return self._event(label, run, phase, confirmed=confirmed, reason=reason)

    def _open(self, label: _Label, run: _Run) -> None:
        """Give a new event its identity."""
        options = self._options
        label.openings = {start: count for start, count in label.openings.items() if start > self._newest - 2 * WINDOW_SEGMENTS}
        again = label.openings.get(run.start, 0)
        label.openings[run.start] = again + 1
        epoch_ns = 0 if options.media_ids else options.epoch_ns
        seed = f"{options.session}|{options.source}|{label.options.label}|{run.start}" + (f"|{again}" if again else "")
        label.event_id = ulid((epoch_ns + run.start * SEGMENT_NS) // _NS_PER_MS, seed)
        label.sequence, label.top, label.said = 0, 0.0, None

    def _event(self, label: _Label, run: _Run, phase: EventPhase, *, confirmed: bool, reason: EndReason | None) -> Event:
        newest = run.recent[-1]
        ended = phase is EventPhase.END
        return Event(
            id=label.event_id,
            sequence=label.sequence,
            phase=phase,
            source=self._options.source,
            label=label.options.label,
            label_name=label.options.label_name,
            class_id=label.options.class_id,
            start_ns=run.start * SEGMENT_NS,
            end_ns=(run.last + 1) * SEGMENT_NS if ended else None,
            newest_end_ns=(self._newest + 1) * SEGMENT_NS,
            epoch_ns=self._options.epoch_ns,
            score=newest.probability,
            top_score=label.top,
            relevance=newest.scores.relevance,
            agreement=newest.scores.agreement,
            segments=tuple(
                ScoredSegment(start_ns=one.index * SEGMENT_NS, score=one.probability, relevance=one.scores.relevance) for one in run.recent
            ),
            location=locate([one.scores.attention for one in run.recent]),
            level_dbfs=newest.scores.level_dbfs,
            skew_ms=None,
            confirmed=confirmed,
            end_reason=reason,
        )


def _followed(run: _Run | None, scores: SegmentScores, options: LabelOptions) -> _Run | None:
    """Give the run after one more second: the same object prolonged, a new one, or None when there is none (any more)."""
    probability = float(scores.class_probabilities[options.class_id])
    second = _Second(scores.index, probability, scores)
    if run is None:
        return _Run(scores.index, scores.index, 1, (second,)) if probability >= options.on else None
    if probability >= options.off:
        recent = (*run.recent, *run.pause, second)[-WINDOW_SEGMENTS:]
        return _Run(run.start, scores.index, run.held + (probability >= options.on), recent)
    if len(run.pause) >= options.gap_segments:
        return None
    return _Run(run.start, run.last, run.held, run.recent, (*run.pause, second))


def _same(event: Event, said: Event | None) -> bool:
    """Tell whether a message would say nothing that the one before it did not say."""
    return said is not None and (
        (event.start_ns, event.segments, event.confirmed, event.location) == (said.start_ns, said.segments, said.confirmed, said.location)
    )


def locate(attention: Sequence[NDArray[np.float32]]) -> Location | None:
    """Give the place that the mean of some attention grids points to, or None without any grid.

    Args:
        attention: grids of shape (G, G), each summing to 1.

    Returns:
        Centre of the strongest cell, and the box of the cells around it that have at least half its strength; no box where
        the attention is flat.
    """
    if not attention:
        return None
    grid: NDArray[np.float64] = np.stack(attention).astype(np.float64).mean(axis=0)
    rows, columns = grid.shape
    row, column = divmod(int(grid.argmax()), columns)
    peak = ((column + 0.5) / columns, (row + 0.5) / rows)
    if grid[row, column] < _FLAT * grid.mean():
        return Location(grid=(rows, columns), peak=peak, box=None)
    cells = _blob(grid >= _NEAR_PEAK * grid[row, column], (row, column))
    top, bottom = min(cell[0] for cell in cells), max(cell[0] for cell in cells) + 1
    left, right = min(cell[1] for cell in cells), max(cell[1] for cell in cells) + 1
    return Location(grid=(rows, columns), peak=peak, box=(left / columns, top / rows, right / columns, bottom / rows))


def _blob(strong: NDArray[np.bool_], seed: tuple[int, int]) -> set[tuple[int, int]]:
    """Give the strong cells that hang together with *seed* by their sides."""
    found, edge = {seed}, [seed]
    while edge:
        row, column = edge.pop()
        for cell in ((row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1)):
            inside = 0 <= cell[0] < strong.shape[0] and 0 <= cell[1] < strong.shape[1]
            if inside and strong[cell] and cell not in found:
                found.add(cell)
                edge.append(cell)
    return found


def ulid(time_ms: int, seed: str) -> str:
    """Give an identity that sorts by time: 48 bits of *time_ms*, 80 bits of the SHA-256 of *seed*, 26 characters.

    Source: github.com/ulid/spec, with the random part replaced by a hash (MQTT contract, section 5.4).
    """
    number = ((time_ms & (1 << 48) - 1) << 80) | int.from_bytes(hashlib.sha256(seed.encode()).digest()[:10], "big")
    return "".join(_CROCKFORD[(number >> shift) & 31] for shift in range(125, -1, -5))
