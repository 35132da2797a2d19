"""Follows each label from segment to segment, and reports its runs of high probability as events.

It uses no clock and no source. The module `runs` finds the runs; the module `lifecycle` holds the state machine of a label. After a
confirmed event no run begins before the cooldown is over.

A run is provisional while its segments may still change. It is confirmed as soon as `min_segments` of its segments are final and
at or above `on`. `streamav.evaluation.counting` finds the confirmed runs of a whole stream at once; a test checks that both agree.
"""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from streamav.errors import ShapeError
from streamav.rules import NO_RULES, Sight
from streamav.tracker.identity import ulid
from streamav.tracker.lifecycle import TRANSITIONS, Happening, State
from streamav.tracker.place import locate, strongest
from streamav.tracker.runs import followed, segment_of
from streamav.types import SEGMENT_NS, WINDOW_SEGMENTS, EndReason, Event, EventPhase, ScoredSegment

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streamav.tracker.options import LabelOptions, TrackerOptions
    from streamav.tracker.runs import Run, Seen
    from streamav.types import SegmentScores

__all__ = ["Tracker"]

_NS_PER_MS: Final = 1_000_000


@dataclass(slots=True)
class _Label:
    """State of one label."""

    options: LabelOptions
    final: Run | None = None
    """The open run in the final segments."""
    state: State = State.NOTHING
    event_id: str = ""
    sequence: int = 0
    epoch_ns: int = 0
    """UTC of the media clock's zero when the open event began, in ns since 1970; the same in all its messages."""
    start: int = 0
    """First segment of the open event."""
    shown: Run | None = None
    """The run that the newest message of the open event described."""
    top: float = 0.0
    quiet_before: int = 0
    """First segment at which the cooldown is over."""
    said: Event | None = None
    openings: dict[int, int] = field(default_factory=dict)
    """Start segment -> how many events were opened there; only for recent segments, which may still change."""


class Tracker:
    """Turns the scores of one source's segments into events."""

    def __init__(self, options: TrackerOptions) -> None:
        """Start without events; `follow` sets UTC of the media clock's zero, which is 1970 until then."""
        self._options = options
        self._epoch_ns = 0
        self._known = {label.label: _Label(label) for label in options.labels}
        self._labels = list(self._known.values())
        self._newest = -1
        self._frontier = -1  # newest final segment

    def push(self, scores: Sequence[SegmentScores]) -> list[Event]:
        """Take the scores after one window, oldest segment first, and return the messages, at most one update for each event."""
        if not scores:
            return []
        self._newest = max(self._newest, scores[-1].index)
        seen = self._seen(scores)
        finals = [one for one in seen if one[0].final]
        tail = [one for one in seen if not one[0].final]
        self._frontier = max([self._frontier, *(one.index for one, _ in finals)])
        events: list[Event] = []
        for label in self._labels:
            events += self._settle(label, finals)
            events += self._look(label, tail)
        return events

    @property
    def open_events(self) -> bool:
        """True while any event is open."""
        return any(label.state is not State.NOTHING for label in self._labels)

    def follow(self, epoch_ns: int) -> None:
        """Use *epoch_ns* as UTC of the media clock's zero for new events; an open event keeps its own value."""
        self._epoch_ns = epoch_ns

    def close(self, rest: Sequence[SegmentScores] = (), reason: EndReason = EndReason.ENDED) -> list[Event]:
        """End all events; `rest` holds the segments that became final just now. A new stretch of segments may begin afterwards.

        An event that is still unconfirmed ends as retracted when the source has ended. When the source was lost or the run shut down, it
        is unknown whether the event would have been confirmed, so it ends with that reason.
        """
        if rest:
            self._newest = max(self._newest, rest[-1].index)
            self._frontier = max(self._frontier, rest[-1].index)
        seen = self._seen(rest)
        return [event for label in self._labels for event in self._stop(label, seen, reason)]

    def change(self, labels: Sequence[LabelOptions]) -> list[Event]:
        """Follow these labels from now on, with these options; return the ends of the events of labels that are not among them.

        An open event of a label that stays goes on: it remains confirmed, and its next segments are judged by the new options.
        """
        staying = {label.label for label in labels}
        events = [event for one in self._labels if one.options.label not in staying for event in self._stop(one, (), EndReason.DISABLED)]
        for options in labels:
            # A label that was known keeps its openings, so that no id is used twice.
            self._known.setdefault(options.label, _Label(options)).options = options
        self._labels = [self._known[options.label] for options in labels]
        return events

    def _seen(self, scores: Sequence[SegmentScores]) -> list[Seen]:
        """Return segments with what the rules need to know of them."""
        if all(label.options.rules is NO_RULES for label in self._labels):
            return [(one, None) for one in scores]
        timed = self._options.timed and self._epoch_ns > 0
        return [
            (
                one,
                Sight(
                    agreement=one.agreement,
                    place=strongest(one.attention),
                    grid=(one.attention.shape[0], one.attention.shape[1]),
                    utc_ns=self._epoch_ns + one.index * SEGMENT_NS if timed else None,
                ),
            )
            for one in scores
        ]

    def _stop(self, label: _Label, rest: Sequence[Seen], reason: EndReason) -> list[Event]:
        """End the event of a label; `rest` holds the segments that became final just now."""
        events = self._settle(label, rest)
        if label.final is not None and (label.state is not State.NOTHING or self._holds(label)):
            if label.state is State.NOTHING:
                events.append(self._say(label, Happening.HELD, label.final))
            events.append(self._say(label, Happening.STOPPED, label.final, self._last_reason(label, reason)))
        elif label.state is not State.NOTHING:
            events.append(self._say(label, Happening.FELL, label.shown, EndReason.RETRACTED))
        label.final = None
        return events

    # Runs

    def _settle(self, label: _Label, finals: Sequence[Seen]) -> list[Event]:
        """Follow the run through the final segments; return the messages of events that end there."""
        events: list[Event] = []
        for seen in finals:
            before = label.final
            label.final = _extended(before, seen, label)
            if before is not None and label.final is None:
                events += self._over(label, before)
        return events

    def _over(self, label: _Label, run: Run) -> list[Event]:
        """End the event of a run that is over; a run with no message yet that is confirmed is reported now, with `new` and `end`."""
        if run.held < label.options.thresholds.min_segments and label.state is not State.CONFIRMED:
            claimed = label.state is State.PROVISIONAL and run.last >= label.start
            return [self._say(label, Happening.FELL, run, EndReason.RETRACTED)] if claimed else []
        events = [self._say(label, Happening.HELD, run)] if label.state is State.NOTHING else []
        return [*events, self._say(label, Happening.PASSED, run, EndReason.ENDED)]

    def _look(self, label: _Label, tail: Sequence[Seen]) -> list[Event]:
        """Open, update or retract the event of the newest run, which may include segments that are not final yet."""
        run = None if label.final is None else copy(label.final)
        for seen in tail:
            following = _extended(run, seen, label)
            if run is not None and following is None:
                break  # the run may be over; a next run waits until these segments are final
            run = following
        events = [self._say(label, Happening.FELL, label.shown, EndReason.RETRACTED)] if self._fell(label, run) else []
        if run is None:
            return events
        happening = Happening.HELD if self._holds(label) else Happening.SEEN
        event = self._say(label, happening, run)
        if event.phase is EventPhase.UPDATE and _same(event, label.said):
            label.sequence -= 1
            return events
        label.said = event
        return [*events, event]

    def _fell(self, label: _Label, run: Run | None) -> bool:
        """Return whether the open provisional event must be retracted: its onset is final, not confirmed, and did not only move later."""
        if label.state is not State.PROVISIONAL or label.final is not None or self._frontier < label.start:
            return False
        return run is None or label.shown is None or run.start > label.shown.last + 1

    @staticmethod
    def _holds(label: _Label) -> bool:
        """Return whether the run is confirmed; once it is, it stays so, also when the options ask for more from now on."""
        if label.final is None:
            return False
        return label.state is State.CONFIRMED or label.final.held >= label.options.thresholds.min_segments

    def _last_reason(self, label: _Label, reason: EndReason) -> EndReason:
        return EndReason.RETRACTED if reason is EndReason.ENDED and not self._holds(label) else reason

    # Messages

    def _say(self, label: _Label, happening: Happening, run: Run | None, reason: EndReason | None = None) -> Event:
        """Make one transition and return the message that reports it."""
        if run is None:
            msg = f"label {label.options.label} must have a run to report (a bug in streamav), got none at {happening}"
            raise ShapeError(msg)
        state, phase = TRANSITIONS[label.state][happening]
        if phase is EventPhase.NEW:
            self._open(label, run)
        confirmed = label.state is State.CONFIRMED or state is State.CONFIRMED or happening is Happening.PASSED
        confirmed = confirmed or (happening is Happening.STOPPED and self._holds(label))
        label.state, label.start, label.shown = state, run.start, run
        if phase is EventPhase.END and confirmed:
            label.quiet_before = run.last + 1 + label.options.rules.cooldown_segments
        label.sequence += 1
        label.top = max(label.top, *(one.probability for one in run.recent))
        return self._event(label, run, phase, confirmed=confirmed, reason=reason)

    def _open(self, label: _Label, run: Run) -> None:
        """Start a new event: set its id and reset the counters of its messages."""
        options = self._options
        label.openings = {start: count for start, count in label.openings.items() if start > self._newest - 2 * WINDOW_SEGMENTS}
        again = label.openings.get(run.start, 0)
        label.openings[run.start] = again + 1
        label.epoch_ns = self._epoch_ns
        epoch_ns = 0 if options.media_ids else label.epoch_ns
        seed = f"{options.session}|{options.source}|{label.options.label}|{run.start}" + (f"|{again}" if again else "")
        label.event_id = ulid((epoch_ns + run.start * SEGMENT_NS) // _NS_PER_MS, seed)
        label.sequence, label.top, label.said = 0, 0.0, None

    def _event(self, label: _Label, run: Run, phase: EventPhase, *, confirmed: bool, reason: EndReason | None) -> Event:
        newest = run.recent[-1]
        ended = phase is EventPhase.END
        return Event(
            id=label.event_id,
            sequence=label.sequence,
            phase=phase,
            source=self._options.source,
            label=label.options.label,
            label_name=label.options.label_name,
            class_id=label.options.class_id if label.options.trained else None,
            start_ns=run.start * SEGMENT_NS,
            end_ns=(run.last + 1) * SEGMENT_NS if ended else None,
            newest_end_ns=(self._newest + 1) * SEGMENT_NS,
            epoch_ns=label.epoch_ns,
            score=newest.probability,
            top_score=label.top,
            relevance=newest.scores.relevance,
            agreement=newest.scores.agreement,
            segments=tuple(
                ScoredSegment(start_ns=one.index * SEGMENT_NS, score=one.probability, relevance=one.scores.relevance) for one in run.recent
            ),
            location=locate([one.scores.attention for one in run.recent]) if "picture" in label.options.modalities else None,
            level_dbfs=newest.scores.level_dbfs,
            skew_ms=None,
            confirmed=confirmed,
            end_reason=reason,
            modalities=label.options.modalities,
            trained=label.options.trained,
            zones=run.zones,
        )


def _extended(run: Run | None, seen: Seen, label: _Label) -> Run | None:
    """Return the run of a label after one more segment, or None when there is none."""
    return followed(run, segment_of(seen, label.options), label.options.thresholds, label.quiet_before)


def _same(event: Event, said: Event | None) -> bool:
    """Return whether a message would repeat the message before it."""
    return said is not None and (
        (event.start_ns, event.segments, event.confirmed, event.location) == (said.start_ns, said.segments, said.confirmed, said.location)
    )
