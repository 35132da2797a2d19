"""Tests the extraction of features from segments: pictures, level and batches."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from streamav.bundle import AudioCard, ClassEntry, DetectionCard, LocalizerCard, ModelCard, VisualCard
from streamav.errors import EngineError, ShapeError
from streamav.features import LogMelOptions, SegmentExtractor, log_mel
from streamav.features.level import level_dbfs
from streamav.features.visual import mean_over_frames
from streamav.protocols import Network
from streamav.types import Quality, Segment

SIDE = 4


class MeanEngine:
    """Its visual network returns each picture's mean brightness in every cell, its audio network the patch's corner and mean."""

    name = "mean"

    def __init__(self) -> None:
        self.batches: list[int] = []

    def network(self, name: str) -> Network:
        return {"visual": self._visual, "audio": self._audio}[name]

    def _visual(self, *inputs: NDArray[np.generic]) -> tuple[NDArray[np.float32], ...]:
        self.batches.append(len(inputs[0]))
        mean = inputs[0].astype(np.float32).mean(axis=(1, 2, 3))
        return (np.broadcast_to(mean[:, None, None, None], (len(mean), 2, 2, 3)).astype(np.float32),)

    def _audio(self, *inputs: NDArray[np.generic]) -> tuple[NDArray[np.float32], ...]:
        patches = inputs[0].astype(np.float32)
        return (np.stack([patches[:, 0, 0], patches.mean(axis=(1, 2))], axis=1),)


def make_card(audio_size: int = 2) -> ModelCard:
    return ModelCard(
        name="mean",
        version="1",
        profile="custom",
        classes=(ClassEntry(slug="bark", name="Bark"),),
        audio=AudioCard(network="compact_audio", log_mel_offset=0.001, size=audio_size),
        visual=VisualCard(network="compact_visual", picture=(SIDE, SIDE), frames_per_second=4, size=3, grid=2),
        localizer=LocalizerCard(options={}),
        detection=DetectionCard(on=0.5, off=0.5),
        licence_note="none",
    )


def make_segment(index: int, brightness: list[int], side: int = SIDE) -> Segment:
    generator = np.random.default_rng(index)
    frames = np.stack([np.full((side, side, 3), value, np.uint8) for value in brightness])
    audio = (0.1 * generator.standard_normal(16_000)).clip(-1, 1).astype(np.float32)
    return Segment(index=index, start_ns=index * 10**9, audio=audio, frames=frames, quality=Quality(repeated_frames=1))


def test_a_grid_is_the_mean_over_the_frames_of_its_own_segment() -> None:
    """Segments with different numbers of frames run as one batch and do not mix."""
    engine = MeanEngine()
    first, second = SegmentExtractor(engine, make_card()).extract([make_segment(3, [10, 20, 60, 70]), make_segment(7, [200, 100])])
    assert engine.batches == [6]
    assert (first.index, second.index) == (3, 7)
    assert first.start_ns == 3 * 10**9
    assert first.quality == Quality(repeated_frames=1)
    np.testing.assert_allclose(first.visual, np.full((2, 2, 3), 40.0), rtol=1e-6)
    np.testing.assert_allclose(second.visual, np.full((2, 2, 3), 150.0), rtol=1e-6)


def test_audio_goes_through_the_front_end_of_the_card() -> None:
    """The audio encoder gets the log-mel patch with the card's offset."""
    segment = make_segment(0, [0])
    features = SegmentExtractor(MeanEngine(), make_card()).extract([segment])[0]
    patch = log_mel(segment.audio, LogMelOptions(offset=0.001))
    np.testing.assert_allclose(features.audio, [patch[0, 0], patch.mean()], rtol=1e-5)


def test_a_batch_equals_its_segments_one_by_one() -> None:
    """Features do not depend on how many segments are extracted at once."""
    extractor = SegmentExtractor(MeanEngine(), make_card())
    segments = [make_segment(index, [index, 2 * index, 7, 9]) for index in range(5)]
    together = extractor.extract(segments)
    for one, segment in zip(together, segments, strict=True):
        alone = extractor.extract([segment])[0]
        np.testing.assert_array_equal(one.visual, alone.visual)
        np.testing.assert_array_equal(one.audio, alone.audio)
        assert one.level_dbfs == alone.level_dbfs


@given(shown=st.lists(st.lists(st.integers(1, 4), min_size=1, max_size=5), min_size=1, max_size=6))
def test_mean_over_frames_equals_a_plain_loop(shown: list[list[int]]) -> None:
    """Averaging in one pass, weighted by how often each picture was shown, equals averaging the frames of each segment alone."""
    counts = [len(one) for one in shown]
    grids = np.random.default_rng(0).standard_normal((sum(counts), 2, 2, 3)).astype(np.float32)
    times = np.concatenate([np.array(one) for one in shown])
    ends = np.cumsum([0, *counts])
    expected = np.stack([np.repeat(grids[a:b], times[a:b], axis=0).mean(axis=0) for a, b in itertools.pairwise(ends)])
    np.testing.assert_allclose(mean_over_frames(grids, counts, times), expected, rtol=1e-5, atol=1e-6)


@given(brightness=st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=16), min_size=1, max_size=4))
def test_a_picture_that_stays_on_display_is_looked_at_once(brightness: list[list[int]]) -> None:
    """For a slow camera each picture is encoded once, and the features are those of all frames."""
    engine = MeanEngine()
    features = SegmentExtractor(engine, make_card()).extract([make_segment(index, one) for index, one in enumerate(brightness)])
    assert engine.batches == [sum(len(list(itertools.groupby(one))) for one in brightness)]
    for one, found in zip(brightness, features, strict=True):
        np.testing.assert_allclose(found.visual, np.full((2, 2, 3), np.mean(one)), rtol=1e-5, atol=1e-6)


def test_levels() -> None:
    """Full scale is 0 dBFS, half the amplitude 6.02 dB less, and digital silence has no level."""
    assert level_dbfs(np.ones(16_000, np.float32)) == 0.0
    assert level_dbfs(np.full(16_000, 0.5, np.float32)) == pytest.approx(-6.0206, abs=1e-3)
    assert level_dbfs(np.zeros(16_000, np.float32)) is None


def test_wrong_shapes_are_named() -> None:
    """Pictures of another size, and an encoder whose shape differs from its card, are refused with both sizes."""
    with pytest.raises(ShapeError, match=r"\(4, 4\) \(height, width\), got \(5, 5\)"):
        SegmentExtractor(MeanEngine(), make_card()).extract([make_segment(0, [1], side=5)])
    with pytest.raises(ShapeError, match=r"got \(1, 2\)"):
        SegmentExtractor(MeanEngine(), make_card(audio_size=9)).extract([make_segment(0, [1])])


def test_nothing_gives_nothing() -> None:
    """An empty batch does not run the networks."""
    engine = MeanEngine()
    assert SegmentExtractor(engine, make_card()).extract([]) == []
    assert engine.batches == []


def test_errors_of_an_engine_pass_through() -> None:
    """An error of the engine reaches the caller unchanged."""

    class Broken(MeanEngine):
        def _visual(self, *inputs: NDArray[np.generic]) -> tuple[NDArray[np.float32], ...]:
            msg = "gone"
            raise EngineError(msg)

    with pytest.raises(EngineError, match="gone"):
        SegmentExtractor(Broken(), make_card()).extract([make_segment(0, [1])])


@pytest.mark.parametrize("cuts_bars", [True, False])
def test_bars_are_cut_off_where_the_card_says_so(cuts_bars: bool) -> None:
    """Where the card says so, the encoder sees the scene without its bars, also ahead of time, and the features name the box it covers."""
    card = make_card()
    side = 100
    card = card.model_copy(update={"visual": card.visual.model_copy(update={"picture": (side, side), "cuts_bars": cuts_bars})})
    segment = make_segment(0, [10, 20], side)
    segment.frames[:, 30:70] = np.random.default_rng(0).integers(0, 2, (2, 40, side, 3), dtype=np.uint8) * 200
    segment.frames[1] = segment.frames[0]
    scene = float(segment.frames[0, 30:70].mean())
    extractor = SegmentExtractor(MeanEngine(), card)
    (features,) = extractor.extract([segment])
    (early,) = extractor.look(segment.frames[:1])
    assert features.inside == (pytest.approx((0.0, 0.3, 1.0, 0.7)) if cuts_bars else None)
    assert features.visual[0, 0, 0] == pytest.approx(scene if cuts_bars else segment.frames[0].mean(), abs=1.0)
    np.testing.assert_array_equal(early.outputs[0], features.visual)
