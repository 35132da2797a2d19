"""Tests the worker in a small world that is simulated step by step: nothing waits, and no real clock is read."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rigs.cases import cases
from rigs.roles import EPOCH_NS, PICTURE, FakeLocalizer, FakeSource, features

from streamav.pipeline.feed import SourceSetup
from streamav.pipeline.inbox import Finished
from streamav.pipeline.lane import Lane, make_lane
from streamav.pipeline.worker import Worker
from streamav.segmenter import SegmenterOptions
from streamav.thresholds import Thresholds
from streamav.tracker import LabelOptions
from streamav.types import SAMPLES_PER_SEGMENT, SEGMENT_NS, Segment, SegmentFeatures

FRAMES = 16
LABEL = LabelOptions(label="bark", label_name="Bark", class_id=0, thresholds=Thresholds(on=0.6, off=0.35))
NEVER = 1e6
SILENCE = np.zeros(SAMPLES_PER_SEGMENT, np.float32)
PICTURES = np.zeros((FRAMES, *PICTURE, 3), np.uint8)


@dataclass
class Camera:
    """A source of the world: a segment is complete every second from *phase_s* on, until it stalls."""

    name: str
    phase_s: float = 0.0
    live: bool = True
    paced: bool = True
    """False: a replay as fast as possible."""
    stalls: tuple[float, float] = (NEVER, NEVER)
    """Begin and end of a pause, s; the segments of the pause then arrive all at once."""
    queue: int = 4
    late_s: list[float] = field(default_factory=list)
    """Time from completion to result, for each of its segments that was processed."""
    given: int = 0

    def due_ns(self) -> int:
        due_s = self.phase_s + self.given + 1.0
        return round((self.stalls[1] if self.stalls[0] <= due_s < self.stalls[1] else due_s) * SEGMENT_NS)


class World:
    """Cameras, and a machine on which a turn costs turn_s + segments * segment_s + frames * frame_s."""

    def __init__(self, *cameras: Camera, frame_s: float = 0.0, segment_s: float = 0.0, turn_s: float = 0.0, gather_s: float = 0.0) -> None:
        self.cameras = cameras
        self.costs = turn_s, segment_s, frame_s
        self.now_ns = 0
        self.batches: list[list[str]] = []
        self.begins_ns: list[int] = []
        self.ready = _Ready(self)
        self.lanes = [self._lane(camera) for camera in cameras]
        self.worker = Worker(self.lanes, self, FakeLocalizer(), self, self.ready, round(gather_s * SEGMENT_NS))

    def _lane(self, camera: Camera) -> Lane:
        source = FakeSource([], live=camera.live)
        source.session = camera.name
        made = SourceSetup(
            id=camera.name,
            source=source,
            segmenter=SegmenterOptions(frames_per_second=FRAMES, picture=PICTURE),
            labels=(LABEL,),
            latency_segments=1,
            queue_segments=camera.queue,
            paced=camera.paced,
        )
        return make_lane(made, self, self.ready)

    # The clock

    def monotonic_ns(self) -> int:
        return self.now_ns

    def utc_ns(self) -> int:
        return EPOCH_NS + self.now_ns

    def wait(self, seconds: float, stop: threading.Event) -> bool:
        self.now_ns += round(seconds * SEGMENT_NS)
        return stop.is_set()

    def pass_time(self, ns: int) -> None:
        self.now_ns += ns
        self.deliver()

    def next_ns(self) -> int:
        return min((camera.due_ns() for camera in self.cameras if camera.paced), default=self.now_ns)

    def deliver(self) -> None:
        for camera, lane in zip(self.cameras, self.lanes, strict=True):
            inbox = lane.feed.inbox
            while (camera.due_ns() <= self.now_ns) if camera.paced else inbox._segments < camera.queue:
                if not camera.live and inbox._segments >= camera.queue:
                    break  # a file waits
                segment = Segment(index=camera.given, start_ns=camera.given * SEGMENT_NS, audio=SILENCE, frames=PICTURES)
                inbox.put(segment, min(self.now_ns, camera.due_ns()) if camera.paced else self.now_ns)
                camera.given += 1

    # The extractor

    def extract(self, segments: Sequence[Segment]) -> list[SegmentFeatures]:
        turn_s, segment_s, frame_s = self.costs
        self.begins_ns.append(self.now_ns)
        cost_s = turn_s + segment_s * len(segments) + frame_s * sum(len(segment.frames) for segment in segments)
        self.pass_time(round(cost_s * SEGMENT_NS))
        return [features(segment.index, 0.0, segment) for segment in segments]

    def run(self, until_s: float) -> World:
        while self.now_ns < until_s * SEGMENT_NS:
            self.deliver()
            self.worker.turn()
            batch = []
            for camera, lane in zip(self.cameras, self.lanes, strict=True):
                if lane.newest is not None:
                    batch.append(camera.name)
                    camera.late_s.append((self.now_ns - lane.given_ns) / SEGMENT_NS)
                    lane.newest = None
                lane.events.clear()
            if batch:
                self.batches.append(batch)
        return self

    def dropped(self) -> int:
        return sum(lane.feed.inbox.dropped for lane in self.lanes)


class _Ready(threading.Condition):
    """A wait lets the world go on until an item arrives, or for the length of the wait."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self._world = world

    def wait(self, timeout: float | None = None) -> bool:
        assert timeout is not None
        end_ns = self._world.now_ns + max(1, round(timeout * SEGMENT_NS))
        self._world.pass_time(max(1, min(end_ns, max(self._world.next_ns(), self._world.now_ns)) - self._world.now_ns))
        return True


def cameras(count: int, **changes: object) -> list[Camera]:
    """Return live cameras whose segments end at different times."""
    return [Camera(f"c{number}", phase_s=number / count, **changes) for number in range(count)]  # type: ignore[arg-type]


# Frames


@pytest.mark.parametrize("second_s", [1.7, 3.0, 5.0])
def test_a_processor_too_slow_for_all_frames_drops_nothing_after_its_first_seconds(second_s: float) -> None:
    """With the paper's networks on a CPU, the overload is known after the first segment, and nothing is dropped later."""
    (camera,) = made = cameras(1)
    world = World(*made, frame_s=second_s / 16)
    world.run(second_s + 3.0)
    at_first = world.dropped()
    assert at_first <= max(0, second_s - 4.0)
    world.run(300.0)
    assert world.dropped() == at_first
    frames = world.worker.budget.frames
    assert frames * second_s / 16 <= 0.8
    assert 2 * frames * second_s / 16 > 0.74
    assert max(camera.late_s[-100:]) < 1.0
    assert world.lanes[0].meter.thinned >= len(camera.late_s) - 2


@pytest.mark.slow
@given(st.integers(2, 8), st.floats(0.2, 1.5))
@cases(20)
def test_several_sources_that_cannot_be_carried_in_full_lose_nothing_after_their_first_seconds(count: int, second_s: float) -> None:
    """If one frame of each source fits, nothing is dropped later than ten seconds after the start."""
    made = cameras(count)
    world = World(*made, frame_s=second_s / 16).run(10.0)
    at_first = world.dropped()
    world.run(120.0)
    assert world.dropped() == at_first
    assert max(max(camera.late_s[-30:]) for camera in made) < 1.0


def test_each_change_is_said_once_with_its_numbers(caplog: pytest.LogCaptureFixture) -> None:
    """Each change logs one warning: frames after and before, load after and before, sources, backlog."""
    with caplog.at_level(logging.WARNING, "streamav"):
        World(*cameras(2), frame_s=0.1).run(120.0)
    said = [record.getMessage() for record in caplog.records]
    assert said[0].startswith("frames per segment changed frames=")
    assert all(word in said[0] for word in ("before=16", "of=16", "load=", "load_before=", "sources=2", "backlog="))
    assert len(said) <= 3


def test_every_live_source_is_looked_at_alike_and_files_are_looked_at_in_full() -> None:
    """All live sources get the same number of frames, and files keep all frames."""
    world = World(*cameras(3), Camera("file", live=False), frame_s=0.013).run(200.0)
    *live, file = (lane.meter for lane in world.lanes)
    assert file.thinned == 0
    assert file.looked_frames == 16 * file.segments
    assert {meter.looked_frames // meter.segments for meter in live} == {world.worker.budget.frames}
    assert world.worker.budget.frames == 8
    assert world.dropped() == 0


def test_replays_alone_are_never_thinned() -> None:
    """All frames of a file are processed on a machine of any speed."""
    world = World(Camera("file", live=False), Camera("fast", live=False, paced=False), frame_s=0.2).run(200.0)
    assert sum(lane.meter.thinned for lane in world.lanes) == 0
    assert world.worker.budget.frames == 16


def test_a_sources_end_gives_its_share_to_the_others() -> None:
    """All frames fit for one source but not for three, so they return when two sources end."""
    world = World(*cameras(3), frame_s=0.025).run(60.0)
    assert world.worker.budget.frames == 8
    for camera, lane in zip(world.cameras[1:], world.lanes[1:], strict=True):
        camera.stalls = (0.0, NEVER)
        lane.feed.inbox.tell(Finished(), world.now_ns)
    world.run(120.0)
    assert world.worker.budget.frames == 16


# Together and fair


def test_what_comes_while_a_turn_runs_goes_together_in_the_next() -> None:
    """Batches form only when the machine is busy; on an idle machine no segment waits."""
    busy = World(*cameras(8), turn_s=0.5, segment_s=0.01).run(60.0)
    assert np.mean([len(batch) for batch in busy.batches[5:]]) > 3
    assert busy.dropped() == 0
    idle = World(*cameras(8), turn_s=0.001, segment_s=0.01).run(60.0)
    assert max(len(batch) for batch in idle.batches) == 1
    assert max(max(camera.late_s) for camera in idle.cameras) < 0.02


def test_gathering_makes_larger_batches_and_is_bounded() -> None:
    """Segments that end within the bound form one batch, and none waits longer than the bound."""
    close = [Camera(f"c{number}", phase_s=0.01 * number) for number in range(4)]
    world = World(*close, segment_s=0.005, gather_s=0.05).run(30.0)
    assert [len(batch) for batch in world.batches[-10:]] == [4] * 10
    assert max(max(camera.late_s) for camera in close) <= 0.05 + 4 * 0.005 + 0.001
    alone = World(Camera("c0"), gather_s=0.5).run(30.0)
    assert max(alone.cameras[0].late_s) == 0.0


@pytest.mark.slow
@cases(30)
@given(st.lists(st.floats(0.0, 1.0), min_size=2, max_size=6), st.floats(3.0, 20.0), st.sampled_from([0.0, 0.02, 0.2]))
def test_a_stalled_source_costs_the_others_nothing(phases: list[float], stall_s: float, gather_s: float) -> None:
    """From the second missing segment on, the latency of the other sources is as without the stalled source."""
    others = [Camera(f"c{number}", phase) for number, phase in enumerate(phases)]
    World(*others, Camera("stalls", 0.5, stalls=(stall_s, NEVER)), segment_s=0.01, gather_s=gather_s).run(40.0)
    without = [Camera(f"c{number}", phase) for number, phase in enumerate(phases)]
    World(*without, segment_s=0.01, gather_s=gather_s).run(40.0)
    for one, same in zip(others, without, strict=True):
        assert one.late_s[-15:] == pytest.approx(same.late_s[-15:], abs=1e-6)


def test_a_backlog_of_one_source_does_not_starve_the_others() -> None:
    """A source that returns with all its old segments at once takes one place in each turn, like every source."""
    hasty = Camera("hasty", 0.0, stalls=(5.5, 45.5), queue=60)
    steady = Camera("steady", 0.5)
    world = World(hasty, steady, segment_s=0.1).run(60.0)
    assert max(steady.late_s) <= 0.3  # the turn that runs, and its own turn of two
    assert len(hasty.late_s) >= 55
    assert world.dropped() == 0


def test_a_fast_replay_does_not_delay_a_live_source() -> None:
    """A live segment waits at most for the turn that runs, and the replay uses the rest of the machine."""
    live, replay = Camera("live", 0.37), Camera("replay", live=False, paced=False)
    world = World(live, replay, segment_s=0.1).run(60.0)
    assert max(live.late_s) <= 0.2 + 1e-6
    assert len(live.late_s) >= 58
    assert len(replay.late_s) > 400
    assert world.dropped() == 0


def test_a_replay_comes_to_its_end_beside_a_full_machine() -> None:
    """A replay is run after it was skipped eight times."""
    live, replay = cameras(8, live=True), Camera("replay", live=False, paced=False)
    World(*live, replay, segment_s=0.124).run(60.0)
    assert len(replay.late_s) > 10
