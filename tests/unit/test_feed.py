"""Tests the capture thread of one source, with a source that plays given items."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from rigs.roles import EPOCH_NS, PICTURE, FakeClock, FakeSource, make_feed, read_feed

from streamav.segmenter import SegmenterOptions
from streamav.types import SEGMENT_NS, AudioBlock, Segment, SourceState, VideoFrame

OPTIONS = SegmenterOptions(frames_per_second=4, picture=PICTURE)
Item = AudioBlock | VideoFrame


def sound(seconds: float, cuts: Sequence[int] = (1_000,)) -> list[AudioBlock]:
    """Return sound in which no two samples are equal, in blocks of alternating sizes."""
    count = round(seconds * 16_000)
    edges = [0]
    while edges[-1] < count:
        edges.append(min(count, edges[-1] + cuts[len(edges) % len(cuts)]))
    samples = np.linspace(-1.0, 1.0, count, dtype=np.float32)
    return [AudioBlock(start_ns=a * 62_500, samples=samples[a:b]) for a, b in pairwise(edges)]


def pictures(seconds: float, rate: int = 5) -> list[VideoFrame]:
    """Return pictures that all differ."""
    return [
        VideoFrame(start_ns=number * SEGMENT_NS // rate, pixels=np.full((*PICTURE, 3), number % 256, np.uint8))
        for number in range(round(seconds * rate))
    ]


def interleaved(heard: Sequence[AudioBlock], seen: Sequence[VideoFrame], pictures_ahead_s: float) -> list[Item]:
    """Merge both as a container does whose pictures come this much before their sound (negative: after)."""
    ahead_ns = round(pictures_ahead_s * SEGMENT_NS)
    return sorted([*heard, *seen], key=lambda item: item.start_ns - (ahead_ns if isinstance(item, VideoFrame) else 0))


def read(items: Sequence[Item | SourceState], duration_s: float | None, *, live: bool = False) -> list[Segment]:
    source = FakeSource(items, live=live)
    segments = read_feed(make_feed(source, OPTIONS, duration_s))
    assert source.closed.is_set()
    return segments


def same(one: Segment, other: Segment) -> bool:
    return (
        (one.index, one.quality) == (other.index, other.quality)
        and np.array_equal(one.audio, other.audio)
        and np.array_equal(one.frames, other.frames)
    )


@given(
    limit=st.integers(1, 6),
    ahead_s=st.floats(-9.0, 9.0),
    cuts=st.lists(st.integers(500, 20_000), min_size=1, max_size=3),
    rate=st.sampled_from([2, 5, 12]),
)
def test_a_limited_run_is_the_beginning_of_the_whole_one(limit: int, ahead_s: float, cuts: list[int], rate: int) -> None:
    """Sound and pictures are complete up to the limit, also when one is ahead of the other within the segmenter's patience."""
    items = interleaved(sound(9.0, cuts), pictures(9.0, rate), ahead_s)
    limited, whole = read(items, float(limit)), read(items, None)
    assert len(limited) == limit
    assert all(segment.quality.missing_samples == 0 for segment in limited)
    assert all(same(one, other) for one, other in zip(limited, whole[:limit], strict=True))


def test_a_limit_between_two_seconds_is_rounded_and_the_last_second_is_whole() -> None:
    """2.5 s are three whole segments, 2.4 s are two."""
    items = interleaved(sound(6.0), pictures(6.0), 1.0)
    for duration_s, count in ((2.5, 3), (2.4, 2)):
        segments = read(items, duration_s)
        assert [segment.index for segment in segments] == list(range(count))
        assert all(segment.quality.missing_samples == 0 for segment in segments)


def test_a_source_shorter_than_the_limit_is_read_to_its_end() -> None:
    """The limit adds nothing to a short source."""
    assert len(read(interleaved(sound(3.0), pictures(3.0), 0.0), 5.0)) == 3


def test_a_limit_that_a_loss_reaches_ends_the_run() -> None:
    """If a live source had reached the limit when it was lost, the run ends and does not wait for its return."""
    items = [*interleaved(sound(3.0), pictures(2.6), 0.0), SourceState.LOST, AudioBlock(start_ns=0, samples=np.zeros(1, np.float32))]
    assert [segment.index for segment in read(items, 3.0, live=True)] == [0, 1, 2]


def test_a_source_that_is_back_is_mapped_to_the_world_anew() -> None:
    """The media clock may have another value after a loss, so the mapping from before the loss is not used."""
    clock = FakeClock(step_ns=0)

    def play() -> Iterator[Item | SourceState]:
        clock.now_ns = 2 * SEGMENT_NS
        yield VideoFrame(start_ns=2 * SEGMENT_NS, pixels=np.zeros((*PICTURE, 3), np.uint8))
        yield SourceState.LOST
        clock.now_ns = 10 * SEGMENT_NS
        yield VideoFrame(start_ns=3 * SEGMENT_NS, pixels=np.zeros((*PICTURE, 3), np.uint8))

    feed = make_feed(FakeSource(play(), live=True), OPTIONS, clock=clock)
    read_feed(feed)
    assert feed.world.epoch_ns() == EPOCH_NS + 7 * SEGMENT_NS
