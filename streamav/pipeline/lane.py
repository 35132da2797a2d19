"""Holds everything about one source in the loop, and hands its results to the sinks.

The worker fills a lane and the loop empties it. They never run at the same time, so no lock is needed.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from streamav.errors import CaptureError
from streamav.pipeline.feed import Feed
from streamav.pipeline.inbox import Finished
from streamav.pipeline.measure import NS, Meter
from streamav.pipeline.stages import SourceStages
from streamav.pipeline.turns import LiveTimes, ReplayedTimes, TurnRecord
from streamav.tracker import TrackerOptions, strongest
from streamav.types import EndReason, EventPhase, FinalScores, Observation, Segment, SourceState, StageTimes, Telemetry

if TYPE_CHECKING:
    import threading
    from collections.abc import Sequence

    from streamav.clock import Clock
    from streamav.control import SourcePlan
    from streamav.pipeline.feed import SourceSetup
    from streamav.pipeline.inbox import Given
    from streamav.pipeline.turns import TurnTimes
    from streamav.protocols import Observer, Sink
    from streamav.types import Event, LookedAt, SegmentScores

__all__ = ["Ahead", "Lane", "failure_of", "make_lane"]

_log = logging.getLogger(__name__)
_AFTER_EVENTS = frozenset({SourceState.LOST, SourceState.WARMING_UP, SourceState.DISABLED})
"""States that follow the ends of the events before them."""


@dataclass(slots=True)
class Ahead:
    """What was looked at of the running segment of one source."""

    index: int = -1
    places: tuple[int, ...] = ()
    """Frames of the segment that will be looked at."""
    taken: int = 0
    """How many of the places were looked at, or needed no look."""
    looked: list[LookedAt] = field(default_factory=list)
    busy_ns: int = 0
    """Share of the processing time."""


@dataclass(slots=True)
class Lane:
    """One source in the loop."""

    setup: SourceSetup
    feed: Feed
    stages: SourceStages
    times: TurnTimes
    meter: Meter = field(default_factory=Meter)
    finished: bool = False
    error: Exception | None = None
    events: list[Event] = field(default_factory=list)
    """Events of a turn that the sinks have not received yet."""
    finals: list[SegmentScores] = field(default_factory=list)
    """Scores that became final in a turn and that the sinks have not received yet."""
    newest: Segment | None = None
    """Segment of the last turn, until its latency is recorded."""
    level_dbfs: float | None = None
    given_ns: int = 0
    marks_ns: tuple[int, int, int] = (0, 0, 0)
    """Monotonic times of the last turn: its begin, the end of the encoders, the end of localizer and tracker."""
    busy_ns: int = 0
    """Share of the last turn's processing time."""
    observer: Observer | None = None
    scored: list[SegmentScores] = field(default_factory=list)
    """All scores of a turn that the observer has not received yet; empty without an observer."""
    frames_told: int = 0
    muted: bool = False
    """True while another process still publishes this source: nothing is handed to the sinks, and the window fills."""
    ahead: Ahead = field(default_factory=Ahead)
    """What was looked at of the running segment."""
    held: dict[str, Event] = field(default_factory=dict)
    """Open events of a muted source, by id."""
    gone: bool = False
    """True once the source was released."""
    joined: bool = False
    """True for a source that came while the run went on: when it cannot be opened, it is lost, and the run goes on."""
    took: Given | None = None
    """Item of the last turn, until it is told."""
    frames: int | None = None
    """Frames of its segment that were processed, when they were fewer than all."""

    @property
    def thinned(self) -> bool:
        """True for a live source: fewer frames of its segments may be processed. A replay processes those that the recorded run did."""
        return self.setup.source.live and self.setup.replay is None

    def begin(self, given: Given) -> None:
        """Begin a turn with an item."""
        self.took, self.frames = given, None
        self.times.begin(given.given_ns)

    def record(self) -> TurnRecord | None:
        """Return what the turn took and read, once; None when it took nothing."""
        given, self.took = self.took, None
        if given is None:
            return None
        item = given.item
        return TurnRecord(
            source=self.setup.id,
            item="segment" if isinstance(item, Segment) else "finished" if isinstance(item, Finished) else "note",
            index=item.index if isinstance(item, Segment) else None,
            frames=self.frames,
            **self.times.reading._asdict(),
            stopped=self.feed.stopped,
        )

    @property
    def running(self) -> bool:
        """True while further segments are expected."""
        return not self.finished and self.stages.enabled and self.stages.state is not SourceState.LOST

    @property
    def refused(self) -> bool:
        """True when the source could not even be opened."""
        return self.error is not None and not self.feed.began

    def change(self, plan: SourcePlan) -> None:
        """Detect by a new plan; the events that it ends are handed over with the next results."""
        self.events += self.stages.change(plan)
        self.setup = replace(self.setup, labels=plan.labels, latency_segments=plan.latency_segments)
        if not plan.enabled:
            self.level_dbfs = None

    def hand_over(self, sink: Sink) -> None:
        """Hand the results of a turn to the sink. Events end before a source is reported lost and begin after it is reported online."""
        self.times.hand_over()
        events, self.events = self.events, []
        changes, self.stages.changes = self.stages.changes, []
        if self.muted:
            self._hold(events)
            return
        events_first = any(state in _AFTER_EVENTS for state, _ in changes)
        for event in events if events_first else ():
            self._publish(event, sink)
        for state, reason in changes:
            _log.info("source state changed source=%s state=%s reason=%s", self.setup.id, state.value, reason)
            sink.source_state(self.setup.id, state, reason)
        for event in () if events_first else events:
            self._publish(event, sink)
        for scores in self.finals:
            sink.scores(self.setup.id, self._by_label(scores))
        self.finals.clear()
        if self.observer is not None and (self.newest is not None or self.scored):
            self._show(self.observer)
        if self.newest is not None:
            if self.stages.state in {SourceState.ONLINE, SourceState.DEGRADED}:
                self.meter.latencies_s.append(self._latency_s(self.newest.start_ns + NS))
            self.newest = None

    def speak(self, sink: Sink) -> None:
        """Hand over to the sink from now on: the state of the source first, then its open events, each with its opening message."""
        self.muted = False
        sink.source_state(self.setup.id, self.stages.state, "taken over")
        for event in self.held.values():
            self._publish(replace(event, phase=EventPhase.NEW), sink)
        self.held.clear()

    def _hold(self, events: Sequence[Event]) -> None:
        """Keep the newest state of open events, and forget the rest of a turn."""
        for event in events:
            if event.phase is EventPhase.END:
                self.held.pop(event.id, None)
            else:
                self.held[event.id] = event
        self.finals.clear()
        self.scored.clear()
        self.newest = None

    def telemetry(self, elapsed_s: float) -> Telemetry:
        """Return the telemetry of the source for the last *elapsed_s* seconds."""
        frames, self.frames_told = self.feed.frames - self.frames_told, self.feed.frames
        factor, looked = self.meter.lately()
        return Telemetry(
            frames_per_second=frames / elapsed_s,
            level_dbfs=self.level_dbfs,
            latency_s=self.meter.latencies_s[-1] if self.meter.latencies_s else 0.0,
            skew_ms=self.times.skew_ms,
            realtime_factor=factor,
            dropped_segments=self.feed.inbox.dropped,
            looked_frames_per_second=looked,
            thinned_segments=self.meter.thinned,
        )

    def _publish(self, event: Event, sink: Sink) -> None:
        skew_ms = self.times.skew_ms
        if skew_ms is not None:
            event = replace(event, skew_ms=skew_ms)
        if event.phase is EventPhase.END:
            self.meter.events += event.confirmed
            self.meter.retracted += event.end_reason is EndReason.RETRACTED
        sink.event(event, self._latency_s(event.newest_end_ns))

    def _show(self, observer: Observer) -> None:
        """Hand what the turn did to the observer."""
        scores, self.scored[:] = tuple(self.scored), []
        observation = Observation(
            segment=self.newest,
            scores=scores,
            times=None if self.newest is None else self._times(self.newest),
            busy_s=self.busy_ns / NS,
            epoch_ns=self.times.epoch_ns(),
            skew_ms=self.times.skew_ms,
            dropped_segments=self.feed.inbox.dropped,
        )
        observer.observe(self.setup.id, observation)

    def _times(self, segment: Segment) -> StageTimes:
        """Return where the latency of a segment was spent."""
        begin_ns, encoded_ns, scored_ns = self.marks_ns
        now_ns = self.feed.now_ns()
        return StageTimes(
            capture_s=max(0.0, self._latency_s(segment.start_ns + NS) - (now_ns - self.given_ns) / NS),
            wait_s=(begin_ns - self.given_ns) / NS,
            features_s=(encoded_ns - begin_ns) / NS,
            model_s=(scored_ns - encoded_ns) / NS,
            publish_s=(now_ns - scored_ns) / NS,
        )

    def _by_label(self, scores: SegmentScores) -> FinalScores:
        """Return scores with the names of the labels that may become events."""
        probabilities = scores.class_probabilities
        return FinalScores(
            start_ns=scores.index * NS,
            epoch_ns=self.times.epoch_ns(),
            labels={label.label: float(probabilities[label.place]) for label in self.setup.labels},
            background=float(probabilities[-1]),
            relevance=scores.relevance,
            agreement=scores.agreement,
            level_dbfs=scores.level_dbfs,
            place=strongest(scores.attention),
        )

    def _latency_s(self, end_ns: int) -> float:
        return self.times.latency_s(end_ns)


def make_lane(setup: SourceSetup, clock: Clock, ready: threading.Condition, observer: Observer | None = None) -> Lane:
    """Build the lane of a source. Nothing is read yet, except that the content of a file is hashed.

    Raises:
        CaptureError: when the file cannot be read.
    """
    feed = Feed(setup, clock, ready)
    options = TrackerOptions(
        source=setup.id,
        session=setup.source.session,
        labels=setup.labels,
        media_ids=not setup.source.live,
        timed=setup.paced if setup.replay is None else setup.replay.timed,
    )
    finals: list[SegmentScores] = []
    scored: list[SegmentScores] = []
    on_scores = None if observer is None else scored.extend
    times = LiveTimes(feed.world, lambda: setup.source.skew_ms) if setup.replay is None else ReplayedTimes(setup.replay)
    stages = SourceStages(options, setup.latency_segments, times.epoch_ns, finals.append, on_scores)
    return Lane(setup, feed, stages, times, finals=finals, observer=observer, scored=scored)


def failure_of(lanes: Sequence[Lane]) -> Exception | None:
    """Return the error that ends a run: the error of the one failed source, or one that names all failed sources; None for none."""
    failed = [(lane.setup.id, lane.error) for lane in lanes if lane.error is not None]
    if not failed:
        return None
    worst = next((error for _, error in failed if not isinstance(error, CaptureError)), failed[0][1])
    if len(lanes) == 1 or not isinstance(worst, CaptureError):  # a bug keeps its traceback
        return worst
    combined = CaptureError("; ".join(f"source {name}: {error}" for name, error in failed))
    combined.__cause__ = worst
    return combined
