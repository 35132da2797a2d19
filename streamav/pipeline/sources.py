"""Holds the sources of a run: those of the start, and those that come and go while it goes on, between two turns.

A change may be asked for from any thread. It is made on the loop, when no turn runs, so that the worker never sees the list change.
"""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future
from typing import TYPE_CHECKING

from streamav.errors import CaptureError, ShapeError
from streamav.pipeline.lane import make_lane
from streamav.pipeline.measure import SourceSummary, summary
from streamav.types import EndReason, SourceState

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Mapping, Sequence

    from streamav.clock import Clock
    from streamav.control import Controls
    from streamav.pipeline.feed import SourceSetup
    from streamav.pipeline.lane import Lane
    from streamav.pipeline.measure import Meter, RunSummary
    from streamav.protocols import Observer, Sink

__all__ = ["RunningSources"]


class RunningSources:
    """The sources of a run."""

    def __init__(
        self,
        setups: Sequence[SourceSetup],
        sink: Sink,
        clock: Clock,
        ready: threading.Condition,
        controls: Callable[[], Controls | None],
        *,
        observer: Observer | None,
        stays: bool,
    ) -> None:
        """Make the sources of the start; none is opened before begin().

        Args:
            setups: sources with different ids.
            sink: takes their states and events.
            clock: of the run.
            ready: notified when a source has a segment.
            controls: returns what the sources detect, or None without changes.
            observer: sees what every turn computes; None for none.
            stays: True where the run goes on without sources, until it is stopped; then their counters are not kept.

        Raises:
            CaptureError: when a file cannot be read.
            ShapeError: when there is no source and the run does not stay, or two have the same id.
        """
        if (not setups and not stays) or len({setup.id for setup in setups}) < len(setups):
            msg = f"a run needs sources with different ids, got {[setup.id for setup in setups]}"
            raise ShapeError(msg)
        self._sink, self._clock, self._ready, self._controls = sink, clock, ready, controls
        self._observer, self._stays = observer, stays
        self.lanes = [self._lane(setup, alone=len(setups) == 1) for setup in setups]
        """The sources that run, in the order of their start."""
        self._changes: deque[Callable[[], None]] = deque()
        self._leaving: list[Lane] = []
        self._past: list[tuple[SourceSummary, Meter]] = []

    @property
    def ending(self) -> list[Lane]:
        """All sources whose threads may still run, also those that were released."""
        return [*self.lanes, *self._leaving]

    def make_changes(self, stopping: Callable[[], bool]) -> None:
        """Make the changes that were asked for, as long as the run is not *stopping*. To be called on the loop between two turns."""
        while self._changes and not stopping():
            self._changes.popleft()()

    def summary(self, wall_s: float) -> RunSummary:
        """Return the summary of a run of *wall_s* seconds, with the sources that were released."""
        every = [*self._past, *((counted(lane), lane.meter) for lane in self.lanes)]
        return summary([one for one, _ in every], [meter for _, meter in every], wall_s)

    def _lane(self, setup: SourceSetup, *, alone: bool) -> Lane:
        try:
            return make_lane(setup, self._clock, self._ready, self._observer)
        except CaptureError as exc:
            if alone:
                raise
            msg = f"source {setup.id}: {exc}"
            raise CaptureError(msg) from exc

    def add(self, setup: SourceSetup, told: Callable[[], None] | None = None) -> None:
        """Start a source beside those that run; may be called from any thread. The content of a file is hashed before this returns.

        Args:
            setup: the source; its id must be free.
            told: called on the loop just before the source is reported to the sinks; None starts the source muted: it fills its window
                and publishes nothing until speak().

        Raises:
            CaptureError: when the file cannot be read.
        """
        lane = self._lane(setup, alone=False)
        lane.muted = told is None

        def begin() -> None:
            self.lanes.append(lane)
            if told is None:
                lane.feed.start()
                return
            told()
            self.begin(lane)

        self._changes.append(begin)

    def prepare(self, setup: SourceSetup) -> Lane:
        """Return a source for exchange(); it does not run yet. The content of a file is hashed. May be called from any thread.

        Raises:
            CaptureError: when the file cannot be read.
        """
        lane = self._lane(setup, alone=False)
        lane.joined = True
        return lane

    def exchange(
        self,
        leaving: Mapping[str, Callable[[], None]],
        coming: Sequence[tuple[Lane, Callable[[], None]]],
        first: Callable[[], None] = lambda: None,
    ) -> Future[None]:
        """End some sources and start others, all between the same two turns; the rest goes on. May be called from any thread.

        Args:
            leaving: id of a source -> called on the loop after its last event was handed to the sinks.
            coming: what prepare() returned, and what is called on the loop just before the source is reported to the sinks. An id may
                be among *leaving*, too: then the source starts again.
            first: called on the loop before all of this.

        Returns:
            What is done once this has happened; it never is when the run ends before.
        """
        done: Future[None] = Future()

        def change() -> None:
            first()
            for name, told in leaving.items():
                for lane in [one for one in self.lanes if one.setup.id == name]:
                    self._drop(lane)
                    told()
            for lane, told in coming:
                self.lanes.append(lane)
                told()
                self.begin(lane)
            done.set_result(None)

        self._changes.append(change)
        return done

    def speak(self, name: str, told: Callable[[], None]) -> None:
        """Let a muted source publish; *told* is called on the loop just before. May be called from any thread."""

        def begin() -> None:
            for lane in self.lanes:
                if lane.setup.id == name and lane.muted:
                    told()
                    lane.speak(self._sink)

        self._changes.append(begin)

    def release(self, name: str, told: Callable[[], None] | None = None, *, quiet: bool = False) -> None:
        """End a source and its events, and forget it; the others go on. May be called from any thread.

        Args:
            name: id of the source.
            told: called on the loop after the last event of the source was handed to the sinks.
            quiet: True leaves a source alone that has an open event at that moment.
        """

        def end() -> None:
            for lane in [one for one in self.lanes if one.setup.id == name and not (quiet and not one.stages.quiet)]:
                self._drop(lane)
                if told is not None:
                    told()

        self._changes.append(end)

    def begin(self, lane: Lane) -> None:
        """Report a source, with what holds for it now, and open it."""
        self._sink.source_state(lane.setup.id, SourceState.STARTING, "the source is being opened")
        controls = self._controls()
        if controls is not None:
            plan = controls.plan(lane.setup.id)
            if not plan.enabled or plan.labels != lane.setup.labels or plan.latency_segments != lane.setup.latency_segments:
                lane.change(plan)
                lane.hand_over(self._sink)
        lane.feed.start()

    def _drop(self, lane: Lane) -> None:
        lane.feed.stop()
        if not lane.finished:
            lane.events += lane.stages.interrupt(EndReason.SHUTDOWN)
        lane.hand_over(self._sink)
        lane.gone = True
        if not self._stays:
            self._past.append((counted(lane), lane.meter))
        self.lanes.remove(lane)
        self._leaving = [one for one in self._leaving if not one.feed.join(0.0)] + [lane]


def counted(lane: Lane) -> SourceSummary:
    """Return the counters of a source."""
    return SourceSummary.of(lane.setup.id, lane.meter, lane.feed.inbox.dropped, lane.error)
