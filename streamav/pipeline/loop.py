"""Drives a run: capture threads feed one inference worker, whose events go to the sinks on the asyncio loop.

    capture thread of each source            inference worker                              asyncio loop
    Source -> Segmenter -> [inbox] ---->  Extractor -> stages -> Localizer -> stages  -->  Sink

The worker takes at most one segment of each source at a time and runs them as one batch (worker). The loop hands over the results of
a turn before it starts the next one, so nothing accumulates between the two.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from streamav.clock import SystemClock
from streamav.pipeline.lane import failure_of
from streamav.pipeline.measure import NS
from streamav.pipeline.sources import RunningSources
from streamav.pipeline.worker import Worker
from streamav.types import EndReason, SourceState

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streamav.clock import Clock
    from streamav.control import Controls, SourcePlan
    from streamav.pipeline.feed import SourceSetup
    from streamav.pipeline.lane import Lane
    from streamav.pipeline.measure import RunSummary
    from streamav.pipeline.turns import Turns
    from streamav.protocols import AheadExtractor, Extractor, Localizer, Observer, Sink

__all__ = ["Pipeline"]

_log = logging.getLogger(__name__)

TELEMETRY_S = 10.0
"""MQTT contract, section 3.1."""
_GRACE_S = 3.0
"""How long a capture thread may take to end after stop(), s."""


class Pipeline:
    """A run from sources to sinks."""

    def __init__(  # noqa: PLR0913 - the roles, and how they run
        self,
        setups: Sequence[SourceSetup],
        extractor: Extractor,
        localizer: Localizer,
        sink: Sink,
        clock: Clock | None = None,
        *,
        gather_s: float = 0.0,
        observer: Observer | None = None,
        most_frames: int | None = None,
        ahead: AheadExtractor | None = None,
        turns: Turns | None = None,
    ) -> None:
        """Connect the roles; nothing runs before run().

        Args:
            setups: one or more sources with different ids.
            extractor: extractor for all sources.
            localizer: localizer for all sources.
            sink: receives the events; FanOut combines several sinks into one.
            clock: None for the clock of the machine.
            gather_s: longest wait of a segment for the segments of other sources that are due, s; 0 for none.
            observer: sees what every turn computes; None for none, which costs nothing.
            most_frames: frames of a segment of any source; the run then goes on until stop(), and sources come and go (`sources`).
                None for a run of *setups* that ends with them.
            ahead: the extractor, where pictures are encoded as they come (`model.early`); None to wait for whole segments.
            turns: whether turns are recorded or repeated; None for neither.

        Raises:
            CaptureError: when a file cannot be read.
            ShapeError: when there is no source, or two have the same id.
        """
        self._clock = SystemClock() if clock is None else clock
        self._sink = sink
        self._ready = threading.Condition()
        self._book = None if turns is None else turns.book
        script = () if turns is None or turns.replay is None else turns.replay.script
        self.controls: Controls | None = None
        """Changes of what the sources detect, which hold from the next turn on; set before run(). None for no changes."""
        self._stays = most_frames is not None
        self.sources = RunningSources(setups, sink, self._clock, self._ready, lambda: self.controls, observer=observer, stays=self._stays)
        """The sources of the run, which may come and go while it goes on."""
        self._worker = Worker(
            self.sources.lanes,
            extractor,
            localizer,
            self._clock,
            self._ready,
            round(gather_s * NS),
            script,
            most_frames=most_frames,
            ahead=ahead,
        )
        self._stop_ns: int | None = None
        self._told_ns = 0
        self._turned_ns = self._clock.monotonic_ns()
        self.summary: RunSummary | None = None
        """Summary of the run, once it has ended, also with an error."""

    def stop(self) -> None:
        """End the run soon and in order; may be called from any thread, and more than once."""
        if self._stop_ns is None:
            self._stop_ns = self._clock.monotonic_ns()
            for lane in self.sources.lanes:
                lane.feed.stop()

    @property
    def stopping(self) -> bool:
        """True after stop()."""
        return self._stop_ns is not None

    @property
    def idle_s(self) -> float:
        """Seconds since the last turn ended; a turn takes a fifth of a second when there is nothing to do. Any thread may ask."""
        return (self._clock.monotonic_ns() - self._turned_ns) / NS

    @property
    def lanes(self) -> tuple[Lane, ...]:
        """The sources of the run, to read their counters; the loop changes them."""
        return tuple(self.sources.lanes)

    @property
    def work_s(self) -> float:
        """Predicted work for one segment with the frames that are processed now, s; 0 before the first turn."""
        return self._worker.budget.cost.work_s(self._worker.budget.frames)

    @property
    def states(self) -> dict[str, SourceState]:
        """State of each source, by id. Any thread may ask."""
        return {lane.setup.id: lane.stages.state for lane in self.sources.lanes}

    async def run(self) -> RunSummary:
        """Run until all sources have ended or stop() was called.

        A source that cannot be opened ends the run. A source that fails later ends alone. The others go on until they end, and then its
        error is raised.

        Raises:
            CaptureError: when a source cannot be opened or is lost for good; with several sources the message names it.
            StreamavError: any error of an engine.
        """
        start_ns = self._told_ns = self._clock.monotonic_ns()
        worker = ThreadPoolExecutor(1, "inference")
        await self._sink.start()
        try:
            await self._drive(worker)
        finally:
            worker.shutdown(wait=True)
            await self._finish()
        found = self.summary = self.sources.summary((self._clock.monotonic_ns() - start_ns) / NS)
        failure = failure_of(self.sources.lanes)
        if failure is not None and not self._stays:
            raise failure
        return found

    async def _drive(self, worker: ThreadPoolExecutor) -> None:
        for lane in self.sources.lanes:
            self.sources.begin(lane)
        loop = asyncio.get_running_loop()
        while not all(lane.finished for lane in self.sources.lanes) or (self._stays and self._stop_ns is None):
            self.sources.make_changes(lambda: self.stopping)
            await loop.run_in_executor(worker, self._worker.turn)
            self._turned_ns = self._clock.monotonic_ns()
            changes = self._change()
            for lane in self.sources.lanes:
                lane.hand_over(self._sink)
            self._write_down()
            if self.controls is not None:
                self.controls.applied(changes)
            self._tell()
            if not self._stays and any(lane.refused and not lane.joined for lane in self.sources.lanes):
                self.stop()
            if self._stop_ns is not None and self._clock.monotonic_ns() - self._stop_ns > _GRACE_S * NS:
                _log.warning("a source does not stop in time, its thread is abandoned")
                return

    def _change(self) -> list[SourcePlan]:
        """Let the plans that wait hold from now on; no turn runs meanwhile."""
        plans = [] if self.controls is None else self.controls.take()
        for plan in plans:
            for lane in self.sources.lanes:
                if lane.setup.id == plan.source and not lane.finished:
                    lane.change(plan)
        return plans

    async def _finish(self) -> None:
        """Close threads, events and sinks, also after an error."""
        self.stop()
        for lane in self.sources.lanes:
            if not lane.finished:  # after an error or a cancellation; a finished source has already ended its events
                lane.events += lane.stages.interrupt(EndReason.SHUTDOWN)
                lane.hand_over(self._sink)
        await asyncio.gather(*(asyncio.to_thread(lane.feed.join, _GRACE_S) for lane in self.sources.ending))
        if self.controls is not None:
            await self.controls.settle()
        await self._sink.close()

    def _write_down(self) -> None:
        """Tell the book what the turn took and read."""
        turn = [record for lane in self.sources.lanes if (record := lane.record()) is not None]
        if self._book is not None and turn:
            self._book.note(turn)

    def _tell(self) -> None:
        """Send the telemetry of the sources every ten seconds."""
        now_ns = self._clock.monotonic_ns()
        elapsed_s = (now_ns - self._told_ns) / NS
        if elapsed_s < TELEMETRY_S:
            return
        self._told_ns = now_ns
        for lane in self.sources.lanes:
            if not lane.muted:
                self._sink.telemetry(lane.setup.id, lane.telemetry(elapsed_s))
