"""Tests that pictures which are encoded as they come give the same features, and that nothing is computed in vain."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from bench.early_simulated import Machine, World
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from rigs.roles import PICTURE, FakeClock, FakeExtractor, FakeLocalizer, FakeSource, make_feed, second
from rigs.tiny_model import make_tiny_bundle

from streamav.app.build import looks_early
from streamav.bundle import Bundle
from streamav.config import ModelSettings
from streamav.engines import open_engine
from streamav.engines.cache import EngineCache
from streamav.features import SegmentExtractor
from streamav.features.visual import mean_over_frames, pictures
from streamav.pipeline import SourceSetup
from streamav.pipeline.ahead import MOST_PICTURES, due_pictures
from streamav.pipeline.early import COMPARED, EARLY_LOAD, HOLD_S, LEAST_WHOLE, OPEN_LOAD, PARTS, EarlyGate
from streamav.pipeline.lane import Lane, make_lane
from streamav.pipeline.worker import Worker
from streamav.protocols import Engine
from streamav.segmenter import SegmenterOptions
from streamav.types import SAMPLES_PER_SEGMENT, SEGMENT_NS, LookedAt, Segment, SegmentFeatures

FRAMES = 16


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make_tiny_bundle(tmp_path_factory.mktemp("tiny"), "fully")


@pytest.fixture(scope="module")
def engine(bundle: Bundle) -> Engine:
    return open_engine(bundle, ModelSettings(engine="cpu", precision="fp32", threads=1), EngineCache())


def segment(index: int, frames: NDArray[np.uint8]) -> Segment:
    rng = np.random.default_rng(index)
    sound = rng.uniform(-0.5, 0.5, SAMPLES_PER_SEGMENT).astype(np.float32)
    return Segment(index=index, start_ns=index * SEGMENT_NS, audio=sound, frames=frames)


def drawn(seed: int, count: int = FRAMES) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (count, 112, 112, 3), np.uint8)


def test_early_features_are_bit_equal_on_the_same_batches(bundle: Bundle, engine: Engine) -> None:
    """In float32 on a real engine: pictures in the same batches give the same bits, whether their segment was complete or not."""
    extractor = SegmentExtractor(engine, bundle.card)
    one = segment(3, drawn(1))
    parts = [one.frames[:4], one.frames[4:8], one.frames[8:12], one.frames[12:]]
    ahead = [looked for part in parts[:3] for looked in extractor.look(part)]
    early = extractor.extract([one], [ahead])[0]
    grids = np.concatenate([engine.network("visual")(part)[0] for part in parts])
    late = mean_over_frames(grids, [FRAMES], np.ones(FRAMES, np.int64))[0]
    np.testing.assert_array_equal(early.visual, late)
    whole = extractor.extract([one])[0]
    np.testing.assert_array_equal(early.audio, whole.audio)
    np.testing.assert_allclose(early.visual, whole.visual, atol=1e-6, rtol=1e-5)


@given(st.lists(st.tuples(st.integers(1, 8), st.lists(st.booleans(), min_size=8, max_size=8), st.integers(0, 8)), min_size=1, max_size=4))
def test_any_part_may_be_early(cases: list[tuple[int, list[bool], int]]) -> None:
    """Any number of segments, with any repeated pictures, of which any part was looked at: the features are those of the late way."""

    class Mean:
        name = "mean"
        encoded = 0

        def network(self, name: str) -> Any:  # noqa: ANN401 - a stand-in
            return self.visual if name == "visual" else lambda mel: (mel.mean(axis=(1, 2))[:, None],)

        def visual(self, pixels: NDArray[np.uint8]) -> tuple[NDArray[np.float32], ...]:
            self.encoded += len(pixels)
            means = pixels.astype(np.float32).mean(axis=(1, 2, 3))
            return np.broadcast_to(means[:, None, None, None], (len(means), 2, 2, 3)).astype(np.float32), means[:, None]

    card = cast(
        "Any",
        SimpleNamespace(
            name="mean",
            evidence=None,
            audio=SimpleNamespace(size=1, log_mel_offset=0.01, least_dbfs=None),
            visual=SimpleNamespace(grid=2, size=3, picture=(112, 112), cuts_bars=True, least_contrast=100),
        ),
    )
    mean = Mean()
    extractor = SegmentExtractor(cast("Engine", mean), card)
    segments, ahead = [], []
    for number, (count, repeats, early) in enumerate(cases):
        frames = drawn(number, count)
        for place in range(1, count):
            if repeats[place]:
                frames[place] = frames[place - 1]
        segments.append(segment(number, frames))
        shown = pictures([segments[-1]]).pixels[:early]
        ahead.append(extractor.look(shown) if len(shown) else [])
    mean.encoded = 0
    found = extractor.extract(segments, ahead)
    assert mean.encoded == sum(pictures([one]).counts[0] for one in segments) - sum(map(len, ahead))  # none is encoded twice
    for mine, other in zip(found, extractor.extract(segments), strict=True):
        np.testing.assert_array_equal(mine.visual, other.visual)
        assert mine.seen is not None
        np.testing.assert_array_equal(mine.seen, other.seen)


class Ahead(FakeExtractor):
    """Records what was looked at early, and what came with each segment."""

    def __init__(self) -> None:
        super().__init__()
        self.early: list[int] = []
        self.given: list[int] = []

    def look(self, pixels: NDArray[np.uint8]) -> list[LookedAt]:
        self.early.append(len(pixels))
        return [LookedAt(one, ()) for one in pixels]

    def extract(self, segments: Sequence[Segment], ahead: Sequence[Sequence[LookedAt]] | None = None) -> list[SegmentFeatures]:
        self.given += [len(one) for one in ahead or ()]
        return super().extract(segments)


class Bench:
    """A worker and its lanes, stepped by hand."""

    def __init__(self, sources: int = 1, *, live: bool = True) -> None:
        self.clock, self.ready, self.extractor = FakeClock(), threading.Condition(), Ahead()
        self.lanes = [self._lane(f"s{number}", live=live) for number in range(sources)]
        self.worker = Worker(self.lanes, self.extractor, FakeLocalizer(), self.clock, self.ready, ahead=self.extractor)
        self.worker.gate.open = True  # as after some whole segments

    def _lane(self, name: str, *, live: bool) -> Lane:
        options = SegmenterOptions(frames_per_second=FRAMES, picture=PICTURE)
        made = SourceSetup(id=name, source=FakeSource([], live=live), segmenter=options, labels=(), latency_segments=1)
        return make_lane(made, self.clock, self.ready)

    def show(self, lane: int, index: int, frames: NDArray[np.uint8]) -> None:
        self.lanes[lane].feed.running = (index, tuple(frames))

    def complete(self, lane: int, index: int, frames: NDArray[np.uint8]) -> None:
        sound = np.zeros(SAMPLES_PER_SEGMENT, np.float32)
        one = Segment(index=index, start_ns=index * SEGMENT_NS, audio=sound, frames=frames)
        self.lanes[lane].feed.inbox.put(one, self.clock.monotonic_ns())


def tiny(seed: int, count: int = FRAMES) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (count, *PICTURE, 3), np.uint8)


def test_parts_of_a_segment_are_looked_at_as_they_come() -> None:
    """A quarter of the pictures at a time; the segment then brings them along, and only the rest is left."""
    bench, frames = Bench(), tiny(0)
    for count in range(1, FRAMES):
        bench.show(0, 0, frames[:count])
        bench.worker._pictures_due()
        bench.worker._look_ahead(bench.extractor)
    assert bench.extractor.early == [FRAMES // PARTS] * (PARTS - 1)
    bench.complete(0, 0, frames)
    bench.worker.turn()
    assert bench.extractor.given == [12]


def test_a_batch_over_sources_forms_and_is_bounded() -> None:
    """Pictures of several sources that are due together are one batch, of a bounded size; the rest follows in the next turn."""
    bench = Bench(sources=4)
    for lane in range(4):
        bench.show(lane, 0, tiny(lane, 4))
    bench.worker.turn()
    bench.worker.turn()
    assert bench.extractor.early == [MOST_PICTURES, MOST_PICTURES]


def test_a_segment_that_waits_goes_first() -> None:
    """While any segment waits nothing is looked at early: a second that may be dropped costs nothing."""
    bench, frames = Bench(sources=2), tiny(0)
    bench.show(0, 1, tiny(1, 4))
    bench.complete(1, 0, frames)
    bench.worker.turn()
    assert bench.extractor.early == []
    assert bench.extractor.batches == [1]


def test_pictures_of_a_second_that_is_gone_are_not_used() -> None:
    """After a gap the running segment is another one; what was looked at belongs to no later segment."""
    bench = Bench()
    bench.show(0, 0, tiny(0, 4))
    bench.worker.turn()
    bench.complete(0, 5, tiny(5))
    bench.worker.turn()
    assert bench.extractor.given == [0]


def test_the_frame_budget_holds_for_early_pictures() -> None:
    """With a budget of four frames only these are due."""
    bench = Bench()
    due = due_pictures(bench.lanes[:1], 4)
    assert due == []
    bench.show(0, 0, tiny(0, 15))
    taken = [len(due_pictures(bench.lanes, 4)) for _ in range(6)]
    assert taken == [1, 1, 1, 1, 0, 0]


def test_early_pictures_cost_like_others() -> None:
    """Their time is part of their segment's cost, by which the frame budget plans."""
    bench, frames = Bench(), tiny(0)
    bench.show(0, 0, frames[:8])
    bench.worker.turn()
    busy_ns = bench.lanes[0].ahead.busy_ns
    assert busy_ns > 0
    bench.complete(0, 0, frames)
    bench.worker.turn()
    assert bench.lanes[0].busy_ns > busy_ns


def opened(whole_s: float = 0.2) -> EarlyGate:
    """Return a gate that some whole segments of one source have opened at 0 s."""
    gate = EarlyGate()
    for _ in range(LEAST_WHOLE):
        gate.saw(whole_s)
    assert gate.decide(0.2, full=False, sources=1, now_s=0.0)
    return gate


def test_nothing_is_early_before_whole_segments_have_shown_their_cost() -> None:
    """Two whole segments of every source, at least, are processed first: a first one says little about a machine and many sources."""
    gate = EarlyGate()
    for _ in range(2 * LEAST_WHOLE - 1):
        gate.saw(0.2)
        assert not gate.decide(0.2, full=False, sources=LEAST_WHOLE, now_s=0.0)
    gate.saw(0.2)
    assert gate.decide(0.2, full=False, sources=LEAST_WHOLE, now_s=0.0)


@pytest.mark.parametrize(("load", "full"), [(EARLY_LOAD + 0.01, False), (0.1, True)])
def test_a_full_machine_looks_at_nothing_early(load: float, full: bool) -> None:
    """Above 0.6 of its time (0.5 to begin), or with fewer frames, whole segments are encoded: small batches would cost throughput."""
    gate = opened()
    assert not gate.decide(load, full=full, sources=1, now_s=1.0)
    busy = EarlyGate()
    for second_s in range(100):
        busy.saw(0.2)
        assert not busy.decide(max(load, OPEN_LOAD + 0.01), full=full, sources=1, now_s=second_s)


@pytest.mark.parametrize(("wait_s", "stays"), [(0.05, True), (0.19, False), (0.5, False)])
def test_early_pictures_stay_only_where_scores_come_sooner(wait_s: float, stays: bool) -> None:
    """The run compares the waits that it sees: where they do not shrink clearly, whole segments are encoded again."""
    gate = opened(whole_s=0.2)
    for _ in range(COMPARED):
        gate.saw(wait_s)
    assert gate.decide(0.2, full=False, sources=1, now_s=32.0) is stays


def test_early_pictures_that_do_not_pay_are_tried_more_and_more_rarely() -> None:
    """A machine without a gain loses less and less to trials: in an hour they are open for a small share of the time."""
    gate, open_s, changes = EarlyGate(), 0, 0
    for now_s in range(3600):
        gate.saw(0.2)
        before = gate.open
        open_s += gate.decide(0.2, full=False, sources=1, now_s=float(now_s))
        changes += gate.open != before
    assert open_s < 3600 * 0.15
    assert changes > 2  # it does try again
    assert HOLD_S * changes < 3600


def test_sources_show_their_pictures_only_while_the_gate_is_open() -> None:
    """Each picture that is shown wakes the worker, which costs a full machine time, so a closed gate stops that at the source."""
    items = [item for index in range(3) for item in second(index)]
    feed = make_feed(FakeSource(items), SegmenterOptions(frames_per_second=2, picture=PICTURE))
    stale: tuple[int, tuple[NDArray[np.uint8] | None, ...]] = (0, (None,))
    feed.running = stale  # left from a time when it was open
    feed.start()
    assert feed.join(10.0)
    assert feed.running == (0, ())
    bench = Bench()
    bench.worker.gate.open = False
    bench.show(0, 0, tiny(0, 12))
    assert not bench.worker._pictures_due()
    bench.complete(0, 0, tiny(0))
    bench.worker.turn()
    assert not bench.lanes[0].feed.shows


def test_a_run_without_early_pictures_keeps_no_waits() -> None:
    """Nobody judges how long segments waited when pictures are never encoded early, so a run of months keeps none of it."""
    bench = Bench()
    late = Worker(bench.lanes, bench.extractor, FakeLocalizer(), bench.clock, bench.ready)
    for index in range(3):
        bench.complete(0, index, tiny(index))
        late.turn()
    assert bench.lanes[0].meter.segments == 3
    assert not late.gate._waits_s


def test_repeated_pictures_are_looked_at_once() -> None:
    """A still picture is encoded once, as in the late way."""
    bench = Bench()
    bench.show(0, 0, np.repeat(tiny(0, 1), 12, axis=0))
    for _ in range(4):
        bench.worker._pictures_due()
        bench.worker._look_ahead(bench.extractor)
    assert sum(bench.extractor.early) == 1


def test_a_capture_thread_shows_the_running_segment() -> None:
    """What it shows are the decided frames of the segment that comes next, none of the one before."""
    items = [item for index in range(2) for item in second(index)]
    feed = make_feed(FakeSource(items), SegmenterOptions(frames_per_second=2, picture=PICTURE))
    feed.shows = True
    feed.start()
    assert feed.join(10.0)
    index, shown = feed.running
    assert index <= 1
    assert len(shown) <= 2


@pytest.mark.parametrize(
    ("early", "picture_ms", "frames", "looks"),
    [
        ("auto", 6.4, 16, True),  # paper in int8
        ("auto", 1.1, 4, False),  # starter
        ("auto", 3.0, 4, False),  # edge
        ("auto", None, 16, False),  # an engine without a recorded cost
        (True, 0.1, 4, True),
        (False, 100.0, 16, False),
    ],
)
def test_auto_follows_the_recorded_cost(early: Any, picture_ms: float | None, frames: int, looks: bool) -> None:  # noqa: ANN401
    """Early pictures are for models whose pictures take long; a setting overrides that."""
    engine = cast("Engine", SimpleNamespace(name="x", picture_ms=picture_ms))
    assert looks_early(early, engine, frames) is looks


def test_an_engine_knows_its_recorded_cost(engine: Engine) -> None:
    """The CPU engine keeps the time of a picture that was measured when it was made."""
    assert getattr(engine, "picture_ms", 0.0) > 0.0


@pytest.mark.parametrize("streams", [44, 60])
def test_a_full_machine_works_exactly_as_without(streams: int) -> None:
    """In the simulated bench, at 0.8 and 1.1 of edge's machine: the same pictures at the same times, from the first second on."""
    edge = Machine("edge", 4, 0.006, 0.0031)
    late, early = (World(edge, streams, early=early) for early in (False, True))
    for world in (late, early):
        world.run(20)
    assert early.looked == late.looked
    assert early.late_s == late.late_s
