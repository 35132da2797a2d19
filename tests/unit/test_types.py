"""Tests that the values between the stages check their shapes and types."""

from __future__ import annotations

from dataclasses import FrozenInstanceError

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from rigs.roles import features, window_scores

from streamav.errors import ShapeError
from streamav.types import AudioBlock, Quality, Segment, SegmentFeatures, VideoFrame, Window, WindowScores

SOUND = np.zeros(16_000, np.float32)
FRAMES = np.zeros((4, 8, 8, 3), np.uint8)


@pytest.mark.parametrize(
    "samples",
    [np.zeros(0, np.float32), np.zeros((2, 5), np.float32), np.zeros(5, np.float64), np.zeros(5, np.int16)],
    ids=["empty", "stereo", "float64", "int16"],
)
def test_sound_is_mono_float32(samples: NDArray[np.float32]) -> None:
    """Any other sound is refused, with what it must be and what was got."""
    with pytest.raises(ShapeError, match=r"AudioBlock.samples must be float32 \(\*\), got"):
        AudioBlock(start_ns=0, samples=samples)


def test_pictures_are_rgb() -> None:
    """Pictures must have three channels of uint8, rows first."""
    VideoFrame(start_ns=0, pixels=FRAMES[0])
    for wrong in (FRAMES, FRAMES[0, :, :, :1], FRAMES[0].astype(np.float32)):
        with pytest.raises(ShapeError, match=r"VideoFrame.pixels"):
            VideoFrame(start_ns=0, pixels=wrong)


@given(start_ns=st.integers(0, 10**15), size=st.integers(1, 40_000))
def test_sound_and_pictures_know_their_span(start_ns: int, size: int) -> None:
    """Sound ends after its last sample; a picture is complete when it is shown, so its end is its start."""
    block = AudioBlock(start_ns=start_ns, samples=np.zeros(size, np.float32))
    assert block.end_ns == start_ns + size * 62_500
    picture = VideoFrame(start_ns=start_ns, pixels=FRAMES[0])
    assert picture.end_ns == picture.start_ns == start_ns


def test_a_segment_is_one_second() -> None:
    """A segment has exactly 16 000 samples and cannot be changed afterwards."""
    segment = Segment(index=0, start_ns=0, audio=SOUND, frames=FRAMES)
    assert segment.quality == Quality(missing_samples=0, repeated_frames=0)
    with pytest.raises(FrozenInstanceError):
        segment.index = 1  # type: ignore[misc]
    with pytest.raises(ShapeError, match=r"Segment.audio must be float32 \(16000\)"):
        Segment(index=0, start_ns=0, audio=SOUND[:-1], frames=FRAMES)


@given(available=st.integers(1, 32), frames=st.integers(1, 40))
def test_frames_that_are_looked_at_are_distinct_in_order_and_spread(available: int, frames: int) -> None:
    """The chosen frames are distinct, in time order, each from the middle of its part; sound and index stay the same."""
    shown = np.arange(available, dtype=np.uint8)[:, None, None, None].repeat(3, axis=3)
    segment = Segment(index=3, start_ns=3, audio=SOUND, frames=shown)
    seen = segment.looked_at(frames)
    chosen = seen.frames[:, 0, 0, 0].tolist()
    count = min(frames, available)
    assert chosen == sorted(set(chosen))
    assert len(chosen) == count
    middles = [(2 * place + 1) * available / (2 * count) for place in range(count)]
    assert all(number <= middle < number + 1 for number, middle in zip(chosen, middles, strict=True))
    assert (seen.index, seen.start_ns) == (3, 3)
    assert seen.audio is segment.audio


def test_all_frames_are_looked_at_by_default_and_none_never() -> None:
    """Without a limit nothing changes; a limit below one frame is refused."""
    segment = Segment(index=0, start_ns=0, audio=SOUND, frames=FRAMES)
    assert segment.looked_at(None) is segment.looked_at(4) is segment
    with pytest.raises(ShapeError, match="at least 1, got 0"):
        segment.looked_at(0)


def test_features_have_their_axes() -> None:
    """Audio features are a vector, visual features a grid."""
    with pytest.raises(ShapeError, match=r"SegmentFeatures.visual"):
        SegmentFeatures(index=0, start_ns=0, audio=SOUND, visual=np.zeros((7, 7), np.float32), level_dbfs=None)


@pytest.mark.parametrize("indices", [[], [0, 2], [1, 0], list(range(11))], ids=["empty", "gap", "backwards", "eleven"])
def test_a_window_is_one_to_ten_consecutive_segments(indices: list[int]) -> None:
    """Any other choice of segments is refused."""
    with pytest.raises(ShapeError, match="1 to 10 consecutive segments"):
        Window(segments=tuple(features(index) for index in indices))


def test_a_window_knows_where_it_begins() -> None:
    """first_index is the index of the oldest segment."""
    assert Window(segments=(features(7), features(8))).first_index == 7


def test_scores_of_a_window_agree_in_length() -> None:
    """Every array has one row for each segment."""
    right = window_scores(0, [0.5] * 10)
    with pytest.raises(ShapeError, match=r"WindowScores\.relevance"):
        WindowScores(
            first_index=0,
            relevance=right.relevance[:9],
            class_probabilities=right.class_probabilities,
            agreement=right.agreement,
            attention=right.attention,
            levels_dbfs=right.levels_dbfs,
        )
