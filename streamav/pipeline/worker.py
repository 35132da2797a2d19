"""Runs the inference: takes the segments of the sources, runs them as one batch, and leaves the events in their lanes.

Synchronous. It uses no thread except for the condition on which it waits, and no sink. The sources of a turn:

    paced sources (live, or a file at its own pace)   the oldest segment of each, so that none waits for the backlog of another
    replays as fast as possible                        when no paced source has anything, or after eight turns without a replay
"""

from __future__ import annotations

import logging
from collections import deque
from typing import TYPE_CHECKING

import numpy as np

from streamav.errors import CaptureError
from streamav.pipeline.ahead import due_pictures, share_out
from streamav.pipeline.budget import Demand, FrameBudget
from streamav.pipeline.early import EarlyGate
from streamav.pipeline.gather import DueTimes
from streamav.pipeline.inbox import Finished
from streamav.pipeline.measure import NS
from streamav.types import TRYING_AGAIN, EndReason, Segment, SourceContent, SourceState, StateChange

if TYPE_CHECKING:
    import threading
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from streamav.clock import Clock
    from streamav.pipeline.inbox import Given
    from streamav.pipeline.lane import Lane
    from streamav.protocols import AheadExtractor, Extractor, Localizer
    from streamav.types import SegmentFeatures, Window

__all__ = ["Worker"]

_log = logging.getLogger(__name__)

_TURN_S = 0.2
"""Longest wait for something to do, so that stop() takes effect, s."""
_PASSED_OVER = 8
"""Replays are skipped at most this many turns in a row, so that they reach their end even when live sources fill the machine."""


class Worker:
    """Runs turns; each turn is one batch."""

    def __init__(  # noqa: PLR0913 - the roles, and how they run
        self,
        lanes: Sequence[Lane],
        extractor: Extractor,
        localizer: Localizer,
        clock: Clock,
        ready: threading.Condition,
        gather_ns: int = 0,
        script: Sequence[Sequence[str]] = (),
        *,
        most_frames: int | None = None,
        ahead: AheadExtractor | None = None,
    ) -> None:
        """Keep the sources and the networks.

        Args:
            lanes: one for each source.
            extractor: extractor for all sources.
            localizer: localizer for all sources.
            clock: clock of the run.
            ready: notified whenever an item arrives.
            gather_ns: longest wait of a segment for the segments of other sources that are due, ns.
            script: ids of the sources from which the first turns take their items, as a recorded run did.
            most_frames: frames of a segment of any source, where sources come later; None for the most of *lanes*.
            ahead: the extractor, where it encodes pictures before their segment is complete; None to wait for whole segments.
        """
        self._ahead = ahead
        self._script = deque(script)
        self._lanes = lanes
        self._extractor = extractor
        self._localizer = localizer
        self._clock = clock
        self._ready = ready
        self._due = DueTimes(gather_ns)
        self._gather_ns = gather_ns
        self._passed_over = 0
        self.gate = EarlyGate()
        self._pictures: list[tuple[Lane, NDArray[np.uint8]]] = []
        self.budget = FrameBudget(most_frames or max(lane.setup.segmenter.frames_per_second for lane in lanes))

    def turn(self) -> None:
        """Wait for items and run them through the stages."""
        taken = self._take()
        for lane, one in taken:
            lane.begin(one)
        given = [(lane, one) for lane, one in taken if lane.stages.enabled or not isinstance(one.item, Segment)]
        if not given and self._ahead is not None and self._look_ahead(self._ahead):
            return
        begin_ns = self._clock.monotonic_ns()
        self._choose_frames(given, begin_ns)
        segments = [(lane, self._looked_at(lane, one, one.item)) for lane, one in given if isinstance(one.item, Segment)]
        features = self._features(segments)
        encoded_ns = self._clock.monotonic_ns()
        windows = [
            *self._windows(segments, features),
            *((lane, window) for lane, one in given if (window := self._note(lane, one)) is not None),
        ]
        scores = self._localizer.localize([window for _, window in windows]) if windows else []
        for (lane, _), found in zip(windows, scores, strict=True):
            lane.events += lane.stages.score(found)
        for lane, one in given:
            if isinstance(one.item, Finished):
                self._end(lane, one.item)
        if segments:
            self._count(segments, (begin_ns, encoded_ns, self._clock.monotonic_ns()))

    # What a turn consists of

    def _take(self) -> list[tuple[Lane, Given]]:
        """Take at most one item of each source; wait a short time when there is none."""
        with self._ready:
            if self._script:
                return self._scripted(self._script.popleft())
            taken = self._pick()
            if not taken and not self._pictures_due():
                self._ready.wait(_TURN_S)
                taken = self._pick()
            if self._gather_ns > 0 and len(self._lanes) > 1:
                self._gather(taken)
        return taken

    def _pick(self) -> list[tuple[Lane, Given]]:
        paced = self._of([lane for lane in self._lanes if lane.setup.paced])
        replays = [lane for lane in self._lanes if not lane.setup.paced]
        if not replays or (paced and self._passed_over < _PASSED_OVER):
            self._passed_over += 1
            return paced
        self._passed_over = 0
        return paced + self._of(replays)

    def _of(self, lanes: Sequence[Lane]) -> list[tuple[Lane, Given]]:
        return [(lane, one) for lane in lanes if not lane.finished and (one := lane.feed.inbox.take()) is not None]

    def _scripted(self, wanted: Sequence[str]) -> list[tuple[Lane, Given]]:
        """Take one item of each of these sources, however long it takes; a source that has ended is left out."""
        taken = []
        by_id = {lane.setup.id: lane for lane in self._lanes}
        for name in wanted:
            lane = by_id[name]
            if lane.finished:
                continue
            while (one := lane.feed.inbox.take()) is None:
                self._ready.wait(_TURN_S)
            taken.append((lane, one))
        return taken

    def _gather(self, taken: list[tuple[Lane, Given]]) -> None:
        """Wait for the segments of other sources that are due; never longer than the bound, and never for an overdue one."""
        came = [one.given_ns for lane, one in taken if isinstance(one.item, Segment) and lane.setup.paced]
        if not came:
            return
        first_ns = min(came)
        while True:
            here = {lane.setup.id for lane, _ in taken}
            absent = [lane for lane in self._lanes if lane.setup.paced and lane.running and lane.setup.id not in here]
            wait_ns = self._due.wait_ns(first_ns, self._clock.monotonic_ns(), (lane.setup.id for lane in absent))
            if wait_ns == 0:
                break
            self._ready.wait(wait_ns / NS)
            taken += self._of(absent)
        for lane, one in taken:
            if isinstance(one.item, Segment):
                self._due.came(lane.setup.id, one.given_ns)

    # Pictures of segments that are not complete yet

    def _pictures_due(self) -> bool:
        """Return whether pictures are due now; they are taken in _look_ahead(), where no segment has come meanwhile."""
        if self._ahead is None or not self.gate.open:
            return False
        self._pictures += due_pictures(self._lanes, self.budget.frames)
        return bool(self._pictures)

    def _look_ahead(self, extractor: AheadExtractor) -> bool:
        """Encode the pictures that are due; return False when there are none."""
        due, self._pictures = self._pictures, []
        if not due:
            return False
        begin_ns = self._clock.monotonic_ns()
        looked = extractor.look(np.stack([pixels for _, pixels in due]))
        share_out(due, looked, self._clock.monotonic_ns() - begin_ns)
        return True

    def _features(self, segments: list[tuple[Lane, Segment]]) -> list[SegmentFeatures]:
        """Return the features of the segments of a turn, with what was looked at ahead of each."""
        if not segments:
            return []
        items = [segment for _, segment in segments]
        if self._ahead is None:
            return self._extractor.extract(items)
        ahead = [lane.ahead.looked if lane.ahead.index == segment.index else [] for lane, segment in segments]
        return self._ahead.extract(items, ahead)

    # How many frames are processed

    def _choose_frames(self, given: list[tuple[Lane, Given]], now_ns: int) -> None:
        """Choose fewer frames when the machine cannot process them all: fewer frames are better than a lost segment."""
        running = [lane for lane in self._lanes if lane.running and lane.setup.paced]
        live = sum(lane.thinned for lane in running)
        backlogs = [(one.backlog, lane.setup.queue_segments) for lane, one in given if lane.thinned]
        behind = any(2 * backlog >= max(2, bound) for backlog, bound in backlogs)
        demand = Demand(live=live, replays=len(running) - live, behind=behind)
        change = self.budget.choose(demand, now_ns / NS)
        if self._ahead is not None:
            self._choose_early(given, demand, now_ns)
        if change is not None:
            _log.warning(
                "frames per segment changed frames=%d before=%d of=%d load=%.2f load_before=%.2f sources=%d backlog=%d",
                change.after,
                change.before,
                self.budget.levels[-1],
                change.load,
                change.load_before,
                len(running),
                max((backlog for backlog, _ in backlogs), default=0),
            )

    def _choose_early(self, given: list[tuple[Lane, Given]], demand: Demand, now_ns: int) -> None:
        """Open or close the gate; a source shows its pictures only while it is open, because each one wakes this thread."""
        load, full = self.budget.load(self.budget.frames, demand), self.budget.frames < self.budget.levels[-1]
        before = self.gate.open
        self.gate.decide(load, full=full, sources=demand.live + demand.replays, now_s=now_ns / NS)
        if self.gate.open != before:
            _log.info("early pictures %s load=%.2f", "begin" if self.gate.open else "end", load)
        for lane, _ in given:
            lane.feed.shows = self.gate.open

    def _looked_at(self, lane: Lane, given: Given, segment: Segment) -> Segment:
        lane.newest, lane.given_ns = segment, given.given_ns
        seen = segment.looked_at(self.budget.frames if lane.thinned else lane.times.frames)
        lane.frames = None if seen is segment else len(seen.frames)
        lane.meter.thinned += seen is not segment
        lane.meter.looked_frames += len(seen.frames)
        return seen

    def _count(self, segments: Sequence[tuple[Lane, Segment]], marks_ns: tuple[int, int, int]) -> None:
        busy_ns = marks_ns[2] - marks_ns[0]
        busy_ns += sum(lane.ahead.busy_ns for lane, segment in segments if lane.ahead.index == segment.index)
        self.budget.spent(busy_ns / NS, len(segments), sum(len(segment.frames) for _, segment in segments))
        for lane, _ in segments:
            lane.meter.segments += 1
            if self._ahead is not None and lane.setup.paced:
                self.gate.saw((marks_ns[2] - lane.given_ns) / NS)
            lane.marks_ns, lane.busy_ns = marks_ns, busy_ns // len(segments)
            lane.meter.busy_ns += lane.busy_ns

    # What happens with the results

    def _windows(self, segments: list[tuple[Lane, Segment]], features: list[SegmentFeatures]) -> list[tuple[Lane, Window]]:
        windows = []
        for (lane, _), one in zip(segments, features, strict=True):
            window, events = lane.stages.push(one)
            lane.level_dbfs = one.level_dbfs
            lane.events += events
            if window is not None:
                windows.append((lane, window))
        return windows

    def _note(self, lane: Lane, given: Given) -> Window | None:
        """Handle an item that is not a segment; return the one window of a source that ended before any, else None."""
        if isinstance(given.item, SourceContent):
            lane.stages.expect(given.item)
        elif isinstance(given.item, StateChange) and given.item.state is SourceState.LOST:
            lane.events += lane.stages.lose()
            lane.stages.announce(SourceState.LOST, f"{given.item.reason or 'no more data'}{TRYING_AGAIN}")
        elif isinstance(given.item, StateChange) and lane.stages.state is SourceState.LOST:
            lane.stages.announce(SourceState.WARMING_UP, "the source is back")
        elif isinstance(given.item, Finished) and given.item.error is None:
            return lane.stages.last_window()
        return None

    def _end(self, lane: Lane, finished: Finished) -> None:
        """End a source and its events."""
        lane.finished, lane.error = True, finished.error
        by_itself = not lane.feed.stopped and not lane.times.stopped and not lane.setup.source.live
        reason = EndReason.ENDED if by_itself else EndReason.SHUTDOWN
        if finished.error is not None:
            reason = EndReason.SOURCE_LOST
            known = isinstance(finished.error, CaptureError)
            lane.stages.announce(SourceState.LOST, str(finished.error) if known else "failed")
            if len(self._lanes) > 1 or lane.joined:  # the error of a run of one source is what the run ends with
                _log.error("source failed source=%s reason=%s", lane.setup.id, finished.error, exc_info=None if known else finished.error)
        lane.events += lane.stages.interrupt(reason)
