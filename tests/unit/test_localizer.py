"""Tests the localizer on an engine."""

from __future__ import annotations

import weakref
from dataclasses import replace
from typing import cast

import numpy as np
import pytest
from numpy.typing import NDArray

from streamav.localizer import Head, VscgLocalizer
from streamav.protocols import Engine
from streamav.types import Quality, SegmentFeatures, Window
from streamav.window import WindowRing

Arrays = tuple[NDArray[np.float32], ...]


class FakeEngine:
    """Encodes a segment as its own first number, and counts its calls."""

    name = "fake"

    def __init__(self) -> None:
        self.encoded: list[int] = []
        self.localized: list[tuple[int, ...]] = []
        self.given: list[weakref.ref[NDArray[np.float32]]] = []

    def network(self, name: str) -> object:
        return {"encode_segment": self._encode, "localize_window": self._localize}[name]

    def _encode(self, audio: NDArray[np.float32], visual: NDArray[np.float32]) -> Arrays:
        self.encoded.append(len(audio))
        attention = np.ones((len(audio), 2, 2), np.float32)
        attention[:, 0, 0] = audio[:, 0]
        self.given.append(weakref.ref(attention))
        return audio.copy(), visual[:, 0, 0], attention

    def _localize(self, audio: NDArray[np.float32], visual: NDArray[np.float32]) -> Arrays:
        self.localized.append(audio.shape)
        batch, length, _ = audio.shape
        relevance = audio[:, :, 0]
        classes = np.tile(np.array([2.0, 0.0], np.float32), (batch, 1))
        segments = np.zeros((batch, length, 3), np.float32)
        segments[:, :, 0] = audio[:, :, 0]
        return relevance, classes, segments, np.full((batch, length), 1.0001, np.float32)


def feature(index: int) -> SegmentFeatures:
    return SegmentFeatures(
        index=index,
        start_ns=index,
        audio=np.array([index], np.float32),
        visual=np.zeros((2, 2, 1), np.float32),
        level_dbfs=-float(index),
    )


def windows(count: int, first: int = 0, length: int = 10) -> list[Window]:
    stream = [feature(first + index) for index in range(count + length - 1)]
    return [Window(segments=tuple(stream[start : start + length])) for start in range(count)]


def make(head: Head = "segment") -> tuple[VscgLocalizer, FakeEngine]:
    engine = FakeEngine()
    return VscgLocalizer(cast("Engine", engine), head), engine


def test_each_second_is_encoded_once() -> None:
    """The first window encodes ten segments, later ones encode one each; every window is localized."""
    localizer, engine = make()
    for window in windows(30):
        localizer.localize([window])
    assert engine.encoded == [10] + [1] * 29
    assert engine.localized == [(1, 10, 1)] * 30


def test_sources_that_take_turns_keep_their_cache() -> None:
    """Windows of several sources are one batch, and each segment is still encoded once."""
    localizer, engine = make()
    for group in zip(windows(20), windows(20, 100), windows(20, 200), strict=True):
        localizer.localize(group)
    assert engine.encoded == [30] + [3] * 19
    assert engine.localized == [(3, 10, 1)] * 20


def test_sources_in_separate_turns_are_encoded_once() -> None:
    """Eight sources with one window each in turn: ten encodings for a first window, then one for each new segment."""
    localizer, engine = make()
    rings = [WindowRing() for _ in range(8)]
    new = 0
    for index in range(30):
        for source, ring in enumerate(rings):
            window = ring.push(feature(100 * source + index))
            if window is not None:
                localizer.localize([window])
                new += 1 if index > 9 else 10
    assert sum(engine.encoded) == new
    assert engine.encoded == [10] * 8 + [1] * 20 * 8


def test_a_segment_that_leaves_the_window_leaves_no_memory() -> None:
    """An encoded segment is kept as long as its features: ten in a ring, none after a reset."""
    localizer, engine = make()
    ring = WindowRing()
    for index in range(40):
        window = ring.push(feature(index))
        if window is not None:
            localizer.localize([window])
        del window
    assert len(localizer._encoded) == 10
    assert [array() for array in engine.given] == [None] * 31  # no row keeps the arrays of its batch in memory
    ring.reset()
    assert len(localizer._encoded) == 0


def test_a_batch_gives_what_single_windows_give() -> None:
    """Scores do not depend on which windows are scored together."""
    stream = windows(5)
    together, _ = make()
    single, _ = make()
    for one, other in zip(together.localize(stream), [single.localize([window])[0] for window in stream], strict=True):
        np.testing.assert_array_equal(one.class_probabilities, other.class_probabilities)
        np.testing.assert_array_equal(one.relevance, other.relevance)
        assert one.first_index == other.first_index


def test_scores_are_in_range() -> None:
    """Probabilities and attention sum to 1, agreement is a cosine, and levels are passed on."""
    localizer, _ = make()
    (scores,) = localizer.localize(windows(1))
    np.testing.assert_allclose(scores.class_probabilities.sum(axis=1), 1.0, atol=1e-6)
    np.testing.assert_allclose(scores.attention.sum(axis=(1, 2)), 1.0, atol=1e-6)
    assert scores.agreement.max() == 1.0
    np.testing.assert_allclose(scores.relevance, 1 / (1 + np.exp(-np.arange(10.0))), rtol=1e-6)
    np.testing.assert_allclose(scores.class_probabilities[3], np.exp([3, 0, 0]) / np.exp([3, 0, 0]).sum(), rtol=1e-6)
    assert scores.levels_dbfs == tuple(-float(index) for index in range(10))


@pytest.mark.parametrize("head", ["segment", "two_stage"])
@pytest.mark.parametrize("lacking", [Quality(picture_missing=True), Quality(missing_samples=16_000)], ids=["picture", "sound"])
def test_what_is_only_heard_or_only_seen_is_background(head: Head, lacking: Quality) -> None:
    """A segment without any picture, or any sound, is background for certain; those beside it are scored as before."""
    (window,) = windows(1)
    segments = tuple(replace(one, quality=lacking) if one.index in {3, 9} else one for one in window.segments)
    (scores,), (before,) = make(head)[0].localize([Window(segments=segments)]), make(head)[0].localize([window])
    assert scores.class_probabilities[[3, 9]].tolist() == [[0.0, 0.0, 1.0]] * 2
    assert scores.relevance[[3, 9]].tolist() == [0.0, 0.0]
    others = [0, 1, 2, 4, 5, 6, 7, 8]
    np.testing.assert_array_equal(scores.class_probabilities[others], before.class_probabilities[others])
    np.testing.assert_array_equal(scores.relevance[others], before.relevance[others])


def test_two_stages_combine_relevance_and_the_window_class() -> None:
    """The score is [sigmoid(e) softmax(c), 1 - sigmoid(e)]."""
    localizer, _ = make("two_stage")
    (scores,) = localizer.localize(windows(1))
    relevance = 1 / (1 + np.exp(-4.0))
    share = np.exp(2.0) / (np.exp(2.0) + 1.0)
    expected = [relevance * share, relevance * (1 - share), 1 - relevance]
    np.testing.assert_allclose(scores.class_probabilities[4], expected, rtol=1e-5)


@pytest.mark.parametrize("length", [1, 5, 9])
def test_a_short_window_is_filled_up_and_cut_again(length: int) -> None:
    """The network always gets ten segments, and only the scores of the real segments are returned."""
    localizer, engine = make()
    (scores,) = localizer.localize(windows(1, length=length))
    assert engine.localized == [(1, 10, 1)]
    assert engine.encoded == [length]
    assert scores.relevance.shape == (length,)


def test_nothing_gives_nothing() -> None:
    """Without a window the engine is not called."""
    localizer, engine = make()
    assert localizer.localize([]) == []
    assert not engine.localized
