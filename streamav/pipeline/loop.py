"""Drives everything: capture threads feed one inference worker, whose events go to the sinks on the asyncio loop.

    capture thread of each source            inference worker                              asyncio loop
    Source -> Segmenter -> [inbox] ---->  Extractor -> stages -> Localizer -> stages  -->  Sink

The worker takes at most one segment of each source at a time and runs them as one batch. The loop hands over what came
of it before it asks for the next turn, so nothing piles up between the two.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from streamav.errors import CaptureError
from streamav.pipeline.feed import Feed
from streamav.pipeline.inbox import Finished
from streamav.pipeline.measure import NS, Meter, RunSummary, SystemClock, summary
from streamav.pipeline.stages import SourceStages, StageOptions
from streamav.types import EndReason, EventPhase, Segment, SourceState, Telemetry

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streamav.pipeline.feed import SourceSetup
    from streamav.pipeline.inbox import Given
    from streamav.pipeline.measure import Clock
    from streamav.protocols import Extractor, Localizer, Sink
    from streamav.types import Event, SegmentFeatures, Window

__all__ = ["Pipeline"]

_log = logging.getLogger(__name__)

TELEMETRY_S = 10.0
"""MQTT contract, section 3.1."""
_TURN_S = 0.2
"""Longest wait of the worker for something to do, so that stop() is noticed."""
_GRACE_S = 3.0
"""How long a capture thread may take to end after stop()."""
_MOST_THINNING = 4
_CALM_SEGMENTS = 10


@dataclass(slots=True)
class _Lane:
    """One source on its way through the loop."""

    setup: SourceSetup
    feed: Feed
    stages: SourceStages
    meter: Meter = field(default_factory=Meter)
    thinning: int = 1
    """Every n-th frame is looked at."""
    calm: int = 0
    finished: bool = False
    error: Exception | None = None
    events: list[Event] = field(default_factory=list)
    newest: Segment | None = None
    level_dbfs: float | None = None
    given_ns: int = 0
    frames_told: int = 0


class Pipeline:
    """A run from sources to sinks."""

    def __init__(
        self, setups: Sequence[SourceSetup], extractor: Extractor, localizer: Localizer, sink: Sink, clock: Clock | None = None
    ) -> None:
        """Connect the roles; nothing runs before run().

        Args:
            setups: one or more sources.
            extractor: for all of them.
            localizer: for all of them.
            sink: where events go; FanOut makes one of several.
            clock: None for the machine's.
        """
        self._clock = SystemClock() if clock is None else clock
        self._extractor = extractor
        self._localizer = localizer
        self._sink = sink
        self._ready = threading.Condition()
        self._lanes = [self._lane(setup) for setup in setups]
        self._stop_ns: int | None = None
        self._told_ns = 0

    def _lane(self, setup: SourceSetup) -> _Lane:
        feed = Feed(setup, self._clock, self._ready)
        options = StageOptions(
            source=setup.id,
            session=setup.source.session,
            labels=setup.labels,
            latency_segments=setup.latency_segments,
            media_ids=not setup.source.live,
        )
        return _Lane(setup, feed, SourceStages(options, feed.world.epoch_ns))

    def stop(self) -> None:
        """End the run soon and in order; may be called from any thread, and more than once."""
        if self._stop_ns is None:
            self._stop_ns = self._clock.monotonic_ns()
            for lane in self._lanes:
                lane.feed.stop()

    async def run(self) -> RunSummary:
        """Run until all sources have ended or stop() was called.

        Raises:
            CaptureError: when a source cannot be opened or was lost for good.
            StreamavError: whatever an engine raises.
        """
        start_ns = self._told_ns = self._clock.monotonic_ns()
        worker = ThreadPoolExecutor(1, "inference")
        await self._sink.start()
        try:
            await self._drive(worker)
        finally:
            worker.shutdown(wait=True)
            await self._finish()
        wall_s = (self._clock.monotonic_ns() - start_ns) / NS
        found = summary((lane.meter for lane in self._lanes), wall_s, sum(lane.feed.inbox.dropped for lane in self._lanes))
        for lane in self._lanes:
            if lane.error is not None:
                raise lane.error
        return found

    async def _drive(self, worker: ThreadPoolExecutor) -> None:
        for lane in self._lanes:
            self._sink.source_state(lane.setup.id, SourceState.WARMING_UP, "started")
            lane.feed.start()
        loop = asyncio.get_running_loop()
        while not all(lane.finished for lane in self._lanes):
            await loop.run_in_executor(worker, self._turn)
            for lane in self._lanes:
                self._hand_over(lane)
            self._tell()
            if self._stop_ns is not None and self._clock.monotonic_ns() - self._stop_ns > _GRACE_S * NS:
                _log.warning("a source does not end, it is left behind")
                return

    async def _finish(self) -> None:
        """Leave nothing open: threads, events, sinks, whatever happened."""
        self.stop()
        for lane in self._lanes:
            if not lane.finished:  # after an error or a cancellation; a source that ended by itself has ended its events
                lane.events += lane.stages.interrupt(EndReason.SHUTDOWN)
                self._hand_over(lane)
            await asyncio.to_thread(lane.feed.join, _GRACE_S)
        await self._sink.close()

    # The worker's side

    def _turn(self) -> None:
        """Wait for something to come, and take it through the stages."""
        given = self._take()
        begin_ns = self._clock.monotonic_ns()
        segments = [(lane, self._thinned(lane, one, one.item)) for lane, one in given if isinstance(one.item, Segment)]
        features = self._extractor.extract([segment for _, segment in segments]) if segments else []
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
        for lane, _ in segments:
            lane.meter.segments += 1
            lane.meter.busy_ns += (self._clock.monotonic_ns() - begin_ns) // len(segments)

    def _take(self) -> list[tuple[_Lane, Given]]:
        """Take at most one thing of each source; wait a little when there is nothing."""
        with self._ready:
            for again in (True, False):
                found = [(lane, one) for lane in self._lanes if not lane.finished and (one := lane.feed.inbox.take()) is not None]
                if found or not again:
                    return found
                self._ready.wait(_TURN_S)
        return []

    def _thinned(self, lane: _Lane, given: Given, segment: Segment) -> Segment:
        """Look at fewer frames while the machine is behind: better a coarser second than a lost one."""
        lane.newest, lane.given_ns = segment, given.given_ns
        before = lane.thinning
        if lane.setup.source.live and 2 * given.backlog >= max(2, lane.setup.queue_segments):
            lane.thinning, lane.calm = min(2 * lane.thinning, _MOST_THINNING), 0
        else:
            lane.calm = lane.calm + 1 if given.backlog == 0 else 0
            if lane.calm >= _CALM_SEGMENTS:
                lane.thinning, lane.calm = max(1, lane.thinning // 2), 0
        if lane.thinning != before:
            _log.warning("frames looked at changed source=%s one_in=%d backlog=%d", lane.setup.id, lane.thinning, given.backlog)
        if lane.thinning == 1 or segment.frames.shape[0] == 1:
            return segment
        lane.meter.thinned += 1
        return replace(segment, frames=segment.frames[:: lane.thinning])

    def _windows(self, segments: list[tuple[_Lane, Segment]], features: list[SegmentFeatures]) -> list[tuple[_Lane, Window]]:
        windows = []
        for (lane, _), one in zip(segments, features, strict=True):
            window, events = lane.stages.push(one)
            lane.level_dbfs = one.level_dbfs
            lane.events += events
            if window is not None:
                windows.append((lane, window))
        return windows

    def _note(self, lane: _Lane, given: Given) -> Window | None:
        """Follow what is no segment; a source that ends early has one short window left."""
        if given.item is SourceState.LOST:
            lane.events += lane.stages.interrupt(EndReason.SOURCE_LOST)
            lane.stages.announce(SourceState.LOST, "no more data, trying again")
        elif given.item is SourceState.ONLINE and lane.stages.state is SourceState.LOST:
            lane.stages.announce(SourceState.WARMING_UP, "the source is back")
        elif isinstance(given.item, Finished) and given.item.error is None:
            return lane.stages.last_window()
        return None

    def _end(self, lane: _Lane, finished: Finished) -> None:
        """End a source and its events."""
        lane.finished, lane.error = True, finished.error
        by_itself = not lane.feed.stopped and not lane.setup.source.live
        reason = EndReason.ENDED if by_itself else EndReason.SHUTDOWN
        if finished.error is not None:
            reason = EndReason.SOURCE_LOST
            lane.stages.announce(SourceState.LOST, str(finished.error) if isinstance(finished.error, CaptureError) else "failed")
        lane.events += lane.stages.interrupt(reason)

    # The loop's side

    def _hand_over(self, lane: _Lane) -> None:
        """Give the sinks what a turn brought: before a source is called lost its events end, once it is online they begin."""
        events, lane.events = lane.events, []
        changes, lane.stages.changes = lane.stages.changes, []
        events_first = any(state in {SourceState.LOST, SourceState.WARMING_UP} for state, _ in changes)
        for event in events if events_first else ():
            self._publish(lane, event)
        for state, reason in changes:
            _log.info("source state changed source=%s state=%s reason=%s", lane.setup.id, state.value, reason)
            self._sink.source_state(lane.setup.id, state, reason)
        for event in () if events_first else events:
            self._publish(lane, event)
        if lane.newest is not None:
            if lane.stages.state in {SourceState.ONLINE, SourceState.DEGRADED}:
                lane.meter.latencies_s.append(self._latency_s(lane, lane.newest.start_ns + NS))
            lane.newest = None

    def _publish(self, lane: _Lane, event: Event) -> None:
        skew_ms = lane.setup.source.skew_ms
        if skew_ms is not None:
            event = replace(event, skew_ms=skew_ms)
        if event.phase is EventPhase.END:
            lane.meter.events += event.confirmed
            lane.meter.retracted += event.end_reason is EndReason.RETRACTED
        self._sink.event(event, self._latency_s(lane, event.newest_end_ns))

    def _latency_s(self, lane: _Lane, end_ns: int) -> float:
        return lane.feed.world.latency_s(end_ns, lane.given_ns)

    def _tell(self) -> None:
        """Say every ten seconds how the sources are doing."""
        now_ns = self._clock.monotonic_ns()
        elapsed_s = (now_ns - self._told_ns) / NS
        if elapsed_s < TELEMETRY_S:
            return
        self._told_ns = now_ns
        for lane in self._lanes:
            frames, lane.frames_told = lane.feed.frames - lane.frames_told, lane.feed.frames
            telemetry = Telemetry(
                frames_per_second=frames / elapsed_s,
                level_dbfs=lane.level_dbfs,
                latency_s=lane.meter.latencies_s[-1] if lane.meter.latencies_s else 0.0,
                skew_ms=lane.setup.source.skew_ms,
                realtime_factor=lane.meter.lately(),
                dropped_segments=lane.feed.inbox.dropped,
            )
            self._sink.telemetry(lane.setup.id, telemetry)
