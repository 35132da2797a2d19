"""Tests the loop with stand-ins for all roles."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rigs.cases import cases
from rigs.roles import LABELS, PICTURE, FakeClock, FakeExtractor, FakeLocalizer, FakeSource, RecordingSink, seconds

from streamav.errors import CaptureError, EngineError, ShapeError
from streamav.pipeline import Pipeline, RunSummary, SourceSetup
from streamav.pipeline.inbox import Finished, Inbox
from streamav.segmenter import SegmenterOptions
from streamav.thresholds import Thresholds
from streamav.tracker import LabelOptions
from streamav.types import (
    SAMPLES_PER_SEGMENT,
    SEGMENT_NS,
    EndReason,
    Event,
    EventPhase,
    Quality,
    Segment,
    SegmentFeatures,
    SourceState,
    StateChange,
)

NEW, UPDATE, END = EventPhase.NEW, EventPhase.UPDATE, EventPhase.END
QUIET, LOUD = 0.1, 0.9


def setup(source: FakeSource, name: str = "porch", **changes: object) -> SourceSetup:
    labels = tuple(
        LabelOptions(label=label, label_name=label.title(), class_id=number, thresholds=Thresholds(on=0.6, off=0.35))
        for number, label in enumerate(LABELS)
    )
    made = SourceSetup(
        id=name, source=source, segmenter=SegmenterOptions(frames_per_second=2, picture=PICTURE), labels=labels, latency_segments=1
    )
    return replace(made, **changes)  # type: ignore[arg-type]


class Run:
    """A pipeline with its stand-ins."""

    def __init__(self, *setups: SourceSetup) -> None:
        self.extractor, self.sink, self.clock = FakeExtractor(), RecordingSink(), FakeClock()
        self.pipeline = Pipeline(setups, self.extractor, FakeLocalizer(), self.sink, self.clock)
        self.summary: RunSummary | None = None

    def go(self) -> Run:
        self.summary = asyncio.run(self.pipeline.run())
        return self

    @property
    def phases(self) -> list[EventPhase]:
        return [event.phase for event in self.sink.events]


def spans(events: Sequence[Event]) -> list[tuple[str, float, float, EndReason | None]]:
    return [
        (event.label, event.start_ns / SEGMENT_NS, (event.end_ns or 0) / SEGMENT_NS, event.end_reason)
        for event in events
        if event.phase is END
    ]


STREAM = [QUIET] * 11 + [LOUD] * 4 + [QUIET] * 5


def test_a_file_goes_from_sound_to_events() -> None:
    """The first ten seconds are warm-up, the loud segments are one event, and the summary counts it."""
    run = Run(setup(FakeSource(seconds(STREAM)), paced=False)).go()
    assert spans(run.sink.events) == [("bark", 11.0, 15.0, EndReason.ENDED)]
    assert run.phases == [NEW, UPDATE, UPDATE, UPDATE, END]
    assert [state for state, _ in run.sink.states] == [SourceState.STARTING, SourceState.WARMING_UP, SourceState.ONLINE]
    assert (run.sink.started, run.sink.closed) == (1, 1)
    assert run.summary is not None
    assert (run.summary.media_s, run.summary.events, run.summary.dropped_segments) == (20.0, 1, 0)
    assert run.summary.latency_p50_s is not None
    assert run.summary.peak_memory_mb > 1


@pytest.mark.parametrize("latency", [1, 3])
def test_each_segment_s_final_scores_are_handed_over_once(latency: int) -> None:
    """Final scores arrive in order, with every enabled label, also those that become final at the end of the file."""
    run = Run(setup(FakeSource(seconds(STREAM)), paced=False, latency_segments=latency)).go()
    assert [scores.start_ns for scores in run.sink.finals] == [number * SEGMENT_NS for number in range(len(STREAM))]
    (label,) = {frozenset(scores.labels) for scores in run.sink.finals}
    assert label == set(LABELS)
    loud = [number for number, scores in enumerate(run.sink.finals) if scores.labels["bark"] >= 0.5]
    assert loud == [11, 12, 13, 14]
    assert {scores.epoch_ns for scores in run.sink.finals} == {event.epoch_ns for event in run.sink.events}


def test_a_file_of_one_second_is_scored_once() -> None:
    """A file of one segment has one short window, and its event ends with it."""
    run = Run(setup(FakeSource(seconds([LOUD])))).go()
    assert run.phases == [NEW, END]
    assert spans(run.sink.events) == [("bark", 0.0, 1.0, EndReason.ENDED)]


def test_an_open_event_ends_with_the_file() -> None:
    """Events that are open at the end of a file end with reason "ended"."""
    run = Run(setup(FakeSource(seconds([QUIET] * 10 + [LOUD] * 3)))).go()
    assert spans(run.sink.events) == [("bark", 10.0, 13.0, EndReason.ENDED)]


@cases(20)
@given(st.sampled_from([160, 1000, 1024, 4410, 16000]), st.sampled_from(["1", "max"]), st.integers(1, 5), st.integers(1, 4))
def test_events_do_not_depend_on_blocks_queue_or_speed(block: int, speed: str, queue: int, latency: int) -> None:
    """Live equals offline: equal segments give equal events, except for wall-clock times."""

    def play(block: int, speed: str, queue: int) -> list[Event]:
        source = FakeSource(seconds([*STREAM, *STREAM], block_samples=block))
        run = Run(setup(source, queue_segments=queue, paced=speed == "1", latency_segments=latency)).go()
        return [replace(event, epoch_ns=0) for event in run.sink.events]

    assert play(block, speed, queue) == play(SAMPLES_PER_SEGMENT, "max", 4)


def test_a_stop_ends_events_as_shut_down() -> None:
    """stop() in the middle of a live source ends open events and closes the sinks."""
    forever = threading.Event()
    source = FakeSource([*seconds([QUIET] * 10 + [LOUD] * 2), forever], live=True)
    run = Run(setup(source, queue_segments=60))

    async def go() -> None:
        task = asyncio.create_task(run.pipeline.run())
        async with asyncio.timeout(20):
            while not any(event.newest_end_ns == 12 * SEGMENT_NS for event in run.sink.events):  # noqa: ASYNC110 - no event says so
                await asyncio.sleep(0.01)
        run.pipeline.stop()
        run.pipeline.stop()
        await task

    asyncio.run(go())
    assert spans(run.sink.events) == [("bark", 10.0, 12.0, EndReason.SHUTDOWN)]
    assert run.sink.closed == 1
    assert source.closed.is_set()


def test_a_cancelled_run_ends_its_events_too() -> None:
    """Cancellation works like a stop: events end, sinks close, no thread is left."""
    source = FakeSource([*seconds([QUIET] * 10 + [LOUD] * 2), threading.Event()], live=True)
    run = Run(setup(source, queue_segments=60))

    async def go() -> None:
        task = asyncio.create_task(run.pipeline.run())
        async with asyncio.timeout(20):
            await run.sink.heard.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(go())
    assert run.phases[-1] is END
    assert run.sink.closed == 1
    assert not [thread for thread in threading.enumerate() if thread.name.startswith(("capture", "inference"))]


def test_a_lost_source_ends_its_events_and_warms_up_again() -> None:
    """Events end at the last good segment, before the state changes; nothing is scored until ten new segments have arrived."""
    items = [*seconds([QUIET] * 10 + [LOUD] * 2), SourceState.LOST, SourceState.ONLINE, *seconds([LOUD] * 11, first=20)]
    run = Run(setup(FakeSource(items, live=True), queue_segments=60)).go()
    assert spans(run.sink.events) == [("bark", 10.0, 12.0, EndReason.SOURCE_LOST), ("bark", 20.0, 31.0, EndReason.SHUTDOWN)]
    assert [state for state, _ in run.sink.states] == [
        SourceState.STARTING,
        SourceState.WARMING_UP,
        SourceState.ONLINE,
        SourceState.LOST,
        SourceState.WARMING_UP,
        SourceState.ONLINE,
    ]
    lost = run.sink.told.index(SourceState.LOST)
    assert (END, EndReason.SOURCE_LOST) in run.sink.told[:lost]


def test_a_source_that_fails_ends_the_run_with_its_error() -> None:
    """The error reaches the caller of the run, events end as source_lost, and the sinks are closed."""
    items = [*seconds([QUIET] * 10 + [LOUD] * 2), CaptureError("the cable is out")]
    run = Run(setup(FakeSource(items, live=True), queue_segments=60))
    with pytest.raises(CaptureError, match="cable"):
        run.go()
    assert spans(run.sink.events) == [("bark", 10.0, 12.0, EndReason.SOURCE_LOST)]
    assert run.sink.states[-1] == (SourceState.LOST, "the cable is out")
    assert run.sink.closed == 1


def test_a_source_that_fails_later_ends_alone() -> None:
    """The other sources run to their end; then the run raises an error that names the source, and the summary is set."""
    items = [*seconds([QUIET] * 10 + [LOUD] * 2), CaptureError("the cable is out")]
    run = Run(setup(FakeSource(items, live=True), "gate", queue_segments=60), setup(FakeSource(seconds(STREAM)), "porch"))
    with pytest.raises(CaptureError, match=r"^source gate: the cable is out$"):
        run.go()
    ends = [(event.source, event.end_reason) for event in run.sink.events if event.phase is END]
    assert sorted(ends) == [("gate", EndReason.SOURCE_LOST), ("porch", EndReason.ENDED)]
    found = run.pipeline.summary
    assert found is not None
    assert [(one.id, one.media_s, one.events, one.error) for one in found.sources] == [
        ("gate", 12.0, 1, "the cable is out"),
        ("porch", 20.0, 1, None),
    ]
    assert (found.media_s, found.events) == (32.0, 2)


def test_all_sources_that_failed_are_named() -> None:
    """The error has one sentence for each failed source."""
    broken = [setup(FakeSource([*seconds([QUIET] * 3), CaptureError(f"no {name}")]), name) for name in ("gate", "porch")]
    with pytest.raises(CaptureError, match=r"^source gate: no gate; source porch: no porch$"):
        Run(*broken).go()


def test_a_source_that_cannot_be_opened_ends_the_run() -> None:
    """The other sources are stopped in order, so that the user learns of a wrong address at once."""
    closed = setup(FakeSource([CaptureError("there is no such file")]), "gate")
    endless = FakeSource([*seconds([QUIET] * 3), threading.Event()], live=True)
    run = Run(closed, setup(endless, "porch"))
    with pytest.raises(CaptureError, match="source gate: there is no such file"):
        run.go()
    assert endless.closed.is_set()
    assert run.sink.closed == 1


def test_a_bug_in_one_source_is_not_taken_for_a_lost_camera() -> None:
    """The other sources end in order, and the error is raised unchanged."""
    run = Run(setup(FakeSource([*seconds([QUIET] * 3), ZeroDivisionError("oh")]), "gate"), setup(FakeSource(seconds(STREAM)), "porch"))
    with pytest.raises(ZeroDivisionError):
        run.go()
    assert spans(run.sink.events) == [("bark", 11.0, 15.0, EndReason.ENDED)]


def test_sources_must_have_different_ids() -> None:
    """Two sources with one id would share topics and ids of events, so they are refused."""
    with pytest.raises(ShapeError, match="different ids"):
        Run(setup(FakeSource([])), setup(FakeSource([])))
    with pytest.raises(ShapeError, match="different ids"):
        Run()


def test_an_engine_that_fails_ends_the_run_with_its_error() -> None:
    """No thread, event or sink stays open when a network fails in the middle of a run."""
    run = Run(setup(FakeSource([*seconds([QUIET] * 3), threading.Event()], live=True)))
    run.extractor.error = EngineError("out of memory")
    with pytest.raises(EngineError, match="memory"):
        run.go()
    assert run.sink.closed == 1


def test_duration_stops_after_so_many_seconds() -> None:
    """Media beyond the limit are not processed, and a file's events end as at its end."""
    run = Run(setup(FakeSource(seconds([QUIET] * 10 + [LOUD] * 30)), duration_s=14.0)).go()
    assert run.summary is not None
    assert run.summary.media_s == 14.0
    assert spans(run.sink.events) == [("bark", 10.0, 14.0, EndReason.ENDED)]


def test_two_sources_share_one_batch_and_nothing_else() -> None:
    """Segments that are ready together are extracted together, and the events of the sources stay separate."""
    loud = setup(FakeSource(seconds(STREAM)), "porch")
    quiet = setup(FakeSource(seconds([QUIET] * 20)), "garden")
    run = Run(loud, quiet).go()
    assert {event.source for event in run.sink.events} == {"porch"}
    assert spans(run.sink.events) == [("bark", 11.0, 15.0, EndReason.ENDED)]
    assert sum(run.extractor.batches) == 40


def test_the_measured_delay_goes_into_events() -> None:
    """Each message holds the delay between sound and picture that the source measured."""
    source = FakeSource(seconds(STREAM))
    source.skew_ms = -12
    assert {event.skew_ms for event in Run(setup(source)).go().sink.events} == {-12}


def test_telemetry_comes_every_ten_seconds() -> None:
    """Telemetry arrives every ten seconds of the clock, with numbers in range."""
    run = Run(setup(FakeSource(seconds([QUIET] * 30))))
    run.clock.step_ns = 500_000_000
    run.go()
    assert run.sink.telemetries
    assert all(one.latency_s >= 0 and one.dropped_segments == 0 for one in run.sink.telemetries)
    assert {one.looked_frames_per_second for one in run.sink.telemetries} <= {0.0, 2.0}
    assert {one.thinned_segments for one in run.sink.telemetries} == {0}


# A slow machine


def segment(index: int, frames: int = 4) -> Segment:
    return Segment(
        index=index,
        start_ns=index * SEGMENT_NS,
        audio=np.zeros(SAMPLES_PER_SEGMENT, np.float32),
        frames=np.zeros((frames, *PICTURE, 3), np.uint8),
        quality=Quality(),
    )


def test_a_full_live_inbox_drops_its_oldest_segment() -> None:
    """Notes keep their place, the newest segments stay, and drops are counted."""
    ready = threading.Condition()
    inbox = Inbox(ready, 2, waits=False)
    for index in range(3):
        inbox.put(segment(index), 0)
    inbox.tell(StateChange(SourceState.LOST), 0)
    inbox.put(segment(7), 0)
    inbox.tell(Finished(), 0)
    with ready:
        given = [one.item for one in iter(inbox.take, None)]
    assert [one.index if isinstance(one, Segment) else one for one in given] == [2, StateChange(SourceState.LOST), 7, Finished()]
    assert inbox.dropped == 2


def test_a_full_replay_inbox_makes_the_giver_wait() -> None:
    """Nothing is dropped: put() returns only when there is room or the inbox is closed."""
    ready = threading.Condition()
    inbox = Inbox(ready, 1, waits=True)
    results: list[bool] = []
    giver = threading.Thread(target=lambda: results.extend(inbox.put(segment(index), 0) for index in range(3)))
    giver.start()
    with ready:
        ready.wait_for(lambda: inbox._segments == 1, 5.0)
        first = inbox.take()
    with ready:
        ready.wait_for(lambda: inbox._segments == 1, 5.0)
    inbox.close()
    giver.join(5.0)
    assert first is not None
    assert results == [True, True, False]
    assert inbox.dropped == 0


class SlowExtractor(FakeExtractor):
    """Waits with its first segment until the source has given all items, and takes two seconds for four frames."""

    def __init__(self, given: threading.Event, clock: FakeClock) -> None:
        super().__init__()
        self._given, self._clock = given, clock

    def extract(self, segments: Sequence[Segment]) -> list[SegmentFeatures]:
        self._given.wait(5.0)
        self._clock.now_ns += sum(segment.frames.shape[0] for segment in segments) * SEGMENT_NS // 2
        return super().extract(segments)


class TellingSource(FakeSource):
    """Sets a flag after its last item."""

    def __init__(self, items: Sequence[object], given: threading.Event) -> None:
        super().__init__(items, live=True)  # type: ignore[arg-type]
        self._given = given

    def items(self):  # type: ignore[no-untyped-def]  # noqa: ANN201
        yield from super().items()
        self._given.set()


def test_a_machine_that_is_behind_looks_at_fewer_frames_and_drops_the_oldest() -> None:
    """Live segments are thinned before and while segments are dropped; the remaining ones give events without a break."""
    given = threading.Event()
    source = TellingSource(seconds([LOUD] * 17), given)
    slow = setup(source, queue_segments=12, segmenter=SegmenterOptions(frames_per_second=4, picture=PICTURE))
    run = Run(slow)
    run.extractor = SlowExtractor(given, run.clock)
    run.pipeline = Pipeline([slow], run.extractor, FakeLocalizer(), run.sink, run.clock)
    run.go()
    assert run.summary is not None
    assert run.summary.dropped_segments in {4, 5}  # whether the first one is taken before all have arrived depends on timing
    assert run.summary.media_s + run.summary.dropped_segments == 17
    assert run.summary.thinned_segments > 0
    assert min(run.extractor.frames) == 1
    ((label, _, end_s, reason),) = spans(run.sink.events)
    assert (label, end_s, reason) == ("bark", 17.0, EndReason.SHUTDOWN)
