from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rigs.cases import cases

from streamav.errors import ShapeError
from streamav.segmenter import Segmenter, SegmenterOptions
from streamav.types import AudioBlock, Segment, VideoFrame

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

SECOND = 1_000_000_000
F = 4
OPTIONS = SegmenterOptions(frames_per_second=F, picture=(2, 3))


def sound(seconds: float, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).uniform(-1, 1, round(seconds * 16_000)).astype(np.float32)


def blocks(samples: NDArray[np.float32], cuts: Sequence[int] = (), first: int = 0) -> list[AudioBlock]:
    """Cut samples at *cuts*; the first sample is at place *first* of the media clock."""
    edges = sorted({0, *(cut for cut in cuts if 0 < cut < samples.size), samples.size})
    return [AudioBlock(start_ns=(first + a) * 62_500, samples=samples[a:b]) for a, b in pairwise(edges)]


def picture(time_s: float, value: int = 0) -> VideoFrame:
    return VideoFrame(start_ns=round(time_s * SECOND), pixels=np.full((2, 3, 3), value, np.uint8))


def pictures(seconds: float, rate: float = 25.0) -> list[VideoFrame]:
    return [picture(number / rate, number % 256) for number in range(round(seconds * rate))]


def run(items: Iterable[AudioBlock | VideoFrame], options: SegmenterOptions = OPTIONS) -> list[Segment]:
    segmenter = Segmenter(options)
    segments = [segment for item in items for segment in segmenter.push(item)]
    return segments + segmenter.close()


def same(one: Sequence[Segment], other: Sequence[Segment]) -> bool:
    return len(one) == len(other) and all(
        (a.index, a.start_ns, a.quality) == (b.index, b.start_ns, b.quality)
        and np.array_equal(a.audio, b.audio)
        and np.array_equal(a.frames, b.frames)
        for a, b in zip(one, other, strict=True)
    )


def merged(*streams: Sequence[AudioBlock | VideoFrame]) -> list[AudioBlock | VideoFrame]:
    """Sort items by their times."""
    return sorted((item for stream in streams for item in stream), key=lambda item: item.start_ns)


def test_whole_seconds_hold_exactly_their_samples_and_the_pictures_on_display() -> None:
    """Segment k holds samples 16000 k to 16000 (k + 1), and frame i is the picture on display at k + i / F seconds."""
    samples = sound(3)
    segments = run(merged(blocks(samples, range(0, 48_000, 1_024)), pictures(3)))
    assert [segment.index for segment in segments] == [0, 1, 2]
    for k, segment in enumerate(segments):
        assert np.array_equal(segment.audio, samples[k * 16_000 : (k + 1) * 16_000])
        assert [int(frame[0, 0, 0]) for frame in segment.frames] == [25 * k + offset for offset in (0, 6, 12, 18)]
        assert (segment.quality.missing_samples, segment.quality.repeated_frames) == (0, 0)


@given(cuts=st.lists(st.integers(1, 55_999), max_size=30), order=st.randoms(use_true_random=False), gap=st.integers(0, 20_000))
@cases(60)
def test_blocks_and_interleaving_change_nothing(cuts: list[int], order: object, gap: int) -> None:
    """Any split of the same sound, also with a gap, in any interleaving with the pictures gives the same segments."""
    before, after = sound(2), sound(1.5, seed=1)
    shown = pictures(4.3)
    plain = run(merged([*blocks(before), *blocks(after, first=32_000 + gap)], shown))
    heard: list[AudioBlock | VideoFrame] = [*blocks(before, cuts), *blocks(after, cuts, first=32_000 + gap)]
    shuffled: list[AudioBlock | VideoFrame] = []
    waiting: list[list[AudioBlock | VideoFrame]] = [list(heard), list(shown)]
    while any(waiting):
        stream = order.choice([stream for stream in waiting if stream])  # type: ignore[attr-defined]
        shuffled.append(stream.pop(0))
    assert same(run(shuffled), plain)


@given(
    overlap=st.integers(-3_000, 3_000),
    cuts=st.lists(st.integers(1, 23_999), max_size=10),
)
@cases(60)
def test_how_a_jittering_block_is_split_does_not_matter(overlap: int, cuts: list[int]) -> None:
    """A block with an early or late time stamp gives the same segments in one piece or in several."""
    first, late = sound(1.5), sound(1.5, seed=2)
    place = 24_000 + overlap
    whole = run([*blocks(first), *blocks(late, first=place), *pictures(3)])
    pieces = run([*blocks(first), *blocks(late, cuts, first=place), *pictures(3)])
    assert same(pieces, whole)


def test_a_gap_is_silent_and_counted() -> None:
    """Sound that never arrived is zero in its place, and its samples are counted."""
    samples = sound(2)
    items = [*blocks(samples[:12_000]), *blocks(samples[20_000:], first=20_000)]
    first, second = run(merged(items, pictures(2)))
    assert (first.quality.missing_samples, second.quality.missing_samples) == (4_000, 4_000)
    assert not first.audio[12_000:].any()
    assert np.array_equal(second.audio[4_000:], samples[20_000:])


@pytest.mark.parametrize("shift", [-300, 300])
def test_jitter_below_the_tolerance_adds_and_drops_nothing(shift: int) -> None:
    """Time stamps that are off by less than 20 ms leave the sound without a gap."""
    samples = sound(2)
    items = [*blocks(samples[:16_000]), *blocks(samples[16_000:], first=16_000 + shift)]
    segments = run(merged(items, pictures(2)))
    assert np.array_equal(np.concatenate([segment.audio for segment in segments]), samples)


def test_an_overlap_is_dropped() -> None:
    """Sound that arrives twice is used once."""
    samples = sound(2)
    items = [*blocks(samples[:20_000]), *blocks(samples[10_000:], first=10_000)]
    assert np.array_equal(np.concatenate([segment.audio for segment in run([*items, *pictures(2)])]), samples)


def test_few_pictures_are_repeated_and_counted() -> None:
    """Without a newer picture the last one is repeated and counted; before the first picture, the first picture is used."""
    (segment,) = run([picture(0.3, 7), picture(0.8, 9), *blocks(sound(1))])
    assert [int(frame[0, 0, 0]) for frame in segment.frames] == [7, 7, 7, 7]
    assert segment.quality.repeated_frames == 3


@pytest.mark.parametrize("starts_s", [0.0, 5.6])
def test_pictures_more_than_two_seconds_away_are_absent(starts_s: float) -> None:
    """Beside 12 s of sound, pictures of 3 s stand for the seconds up to 2 s before and behind them; other seconds are black and say so."""
    shown = [replace(one, start_ns=one.start_ns + round(starts_s * SECOND)) for one in pictures(3.0)]
    segments = run(merged(blocks(sound(12), range(0, 192_000, 1_600)), shown))
    seen = [k for k, segment in enumerate(segments) if not segment.quality.picture_missing]
    ends_s = starts_s + 2.96
    assert seen == [k for k in range(12) if k + 0.75 >= starts_s - 2 and k <= ends_s + 2]
    assert not any(segment.frames.any() for k, segment in enumerate(segments) if k not in seen)
    assert segments[seen[-1]].frames.all()
    assert all(segment.quality.one_sided == (k not in seen) for k, segment in enumerate(segments))


def test_a_second_without_any_sound_is_only_seen() -> None:
    """Sound is never held on: where none came for a whole second, the second says so."""
    segments = run(merged(blocks(sound(2.5)), pictures(6.0)))
    assert [segment.quality.one_sided for segment in segments] == [False, False, False, True, True, True]


@pytest.mark.parametrize(("seconds", "count", "missing"), [(2.49, 2, 0), (2.5, 3, 8_000), (2.9, 3, 1_600), (0.4, 0, 0)])
def test_a_last_second_is_kept_from_half_of_it_on(seconds: float, count: int, missing: int) -> None:
    """close() pads and keeps a segment of which at least half arrived, and drops a shorter rest."""
    segments = run(merged(blocks(sound(seconds)), pictures(seconds)))
    assert len(segments) == count
    assert sum(segment.quality.missing_samples for segment in segments) == missing


def test_a_stalled_modality_is_waited_for_only_so_long() -> None:
    """A segment is cut without sound once pictures are patience_s past it, and without pictures once sound is."""
    options = SegmenterOptions(frames_per_second=F, picture=(2, 3), patience_s=1.0)
    segmenter = Segmenter(options)
    cut = [segment for frame in pictures(2.1) for segment in segmenter.push(frame)]
    assert [segment.quality.missing_samples for segment in cut] == [16_000]
    deaf = Segmenter(options)
    cut = [segment for block in blocks(sound(2.1), range(0, 33_600, 1_600)) for segment in deaf.push(block)]
    assert [segment.quality.repeated_frames for segment in cut] == [F]
    assert not cut[0].frames.any()


def test_late_sound_of_a_second_already_cut_is_dropped() -> None:
    """Sound that arrives after its segment was cut does not appear in a later one."""
    options = SegmenterOptions(frames_per_second=F, picture=(2, 3), patience_s=1.0)
    samples = sound(3)
    first, second, third = run([*pictures(2.1), *blocks(samples, [16_000]), *pictures(3)[53:]], options)
    assert first.quality.missing_samples == 16_000
    assert np.array_equal(second.audio, samples[16_000:32_000])
    assert np.array_equal(third.audio, samples[32_000:])


def test_memory_is_bounded_when_pictures_never_come() -> None:
    """After an hour of sound without a picture, the segmenter holds at most patience_s of it."""
    segmenter = Segmenter(OPTIONS)
    block = sound(1)
    for second in range(120):
        segmenter.push(AudioBlock(start_ns=second * SECOND, samples=block))
    assert len(segmenter._blocks) <= 11


def test_after_a_reset_the_index_is_again_the_time() -> None:
    """A new stretch begins at the whole second nearest to its first item, and index * 1 s is still the media time."""
    segmenter = Segmenter(OPTIONS)
    for item in merged(blocks(sound(2.6)), pictures(2.6)):
        segmenter.push(item)
    assert [segment.index for segment in segmenter.reset()] == [2]
    later = sound(2)
    items = merged(blocks(later, [16_000], first=round(7.7 * 16_000)), [picture(7.7 + n / 25, n) for n in range(52)])
    segments = [segment for item in items for segment in segmenter.push(item)]
    assert [(segment.index, segment.start_ns) for segment in segments] == [(8, 8 * SECOND)]
    assert np.array_equal(segments[0].audio, later[4_800:20_800])


def test_a_leap_of_the_time_stamps_ends_the_stretch() -> None:
    """A jump of more than a minute is not filled with silence."""
    segmenter = Segmenter(OPTIONS)
    for item in merged(blocks(sound(1)), pictures(0.5)):
        segmenter.push(item)
    rest = segmenter.push(picture(3_600.0))
    assert [segment.index for segment in rest] == [0]
    segments = [*segmenter.push(picture(3_600.9)), *segmenter.push(picture(3_601.0))]
    segments += [s for block in blocks(sound(1), first=3_600 * 16_000) for s in segmenter.push(block)]
    assert [segment.index for segment in segments] == [3_600]


def test_pictures_of_another_size_are_refused() -> None:
    """A picture of another size is refused, and the error names both sizes."""
    with pytest.raises(ShapeError, match=r"\(2, 3\).*\(4, 4\)"):
        Segmenter(OPTIONS).push(VideoFrame(start_ns=0, pixels=np.zeros((4, 4, 3), np.uint8)))


@pytest.mark.parametrize("wrong", [{"frames_per_second": 0}, {"patience_s": -1.0}, {"jitter_s": 1.0}, {"stretch_gap_s": 1.0}])
def test_options_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    """Every range is checked when the options are built."""
    with pytest.raises(ShapeError, match=next(iter(wrong))):
        SegmenterOptions(**{"frames_per_second": 4, "picture": (2, 2), **wrong})  # type: ignore[arg-type]
