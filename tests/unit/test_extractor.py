"""Features of segments through fake encoders."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from numpy.typing import NDArray

from streamav.features import SegmentExtractor
from streamav.features.extractor import level_dbfs
from streamav.protocols import Network
from streamav.types import Quality, Segment


class CountingEngine:
    """Encoders that give back what they were shown, reduced: the mean of a patch, the red of a picture's corner."""

    name = "fake"

    def __init__(self) -> None:
        self.batches: list[tuple[int, ...]] = []

    def network(self, name: str) -> Network:
        return self._audio if name == "audio" else self._visual  # type: ignore[return-value]  # one input is enough here

    @staticmethod
    def _audio(patches: NDArray[np.float32]) -> tuple[NDArray[np.float32], ...]:
        return (patches.mean(axis=(1, 2))[:, None].astype(np.float32),)

    def _visual(self, pictures: NDArray[np.uint8]) -> tuple[NDArray[np.float32], ...]:
        self.batches.append(pictures.shape)
        return (pictures[:, :1, :1, :1].astype(np.float32),)


def _segment(index: int, reds: list[int], level: float = 0.5) -> Segment:
    frames = np.zeros((len(reds), 4, 4, 3), np.uint8)
    frames[:, 0, 0, 0] = reds
    samples = np.full(16_000, level, np.float32)
    return Segment(index=index, start_ns=index * 10**9, audio=samples, frames=frames, quality=Quality(repeated_frames=index))


def _extractor(engine: CountingEngine) -> SegmentExtractor:
    return SegmentExtractor(engine, SimpleNamespace(audio=SimpleNamespace(log_mel_offset=0.01)))  # type: ignore[arg-type]


def test_a_batch_gives_what_single_segments_give() -> None:
    """Segments with different numbers of frames run as one batch and get the features they would get alone."""
    engine = CountingEngine()
    segments = [_segment(0, [10, 20]), _segment(1, [30], 0.1), _segment(2, [1, 2, 3, 6])]

    together = _extractor(engine).extract(segments)
    alone = [_extractor(engine).extract([segment])[0] for segment in segments]

    assert engine.batches[0] == (7, 4, 4, 3)
    assert [float(one.visual[0, 0, 0]) for one in together] == [15.0, 30.0, 3.0]
    for one, other in zip(together, alone, strict=True):
        assert np.array_equal(one.visual, other.visual)
        assert np.allclose(one.audio, other.audio)
        assert (one.index, one.start_ns, one.quality, one.level_dbfs) == (other.index, other.start_ns, other.quality, other.level_dbfs)


def test_nothing_gives_nothing() -> None:
    """An empty batch runs no network."""
    engine = CountingEngine()

    assert _extractor(engine).extract([]) == []
    assert engine.batches == []


def test_levels() -> None:
    """Digital silence has no level, a full-scale square wave 0 dBFS, a tenth of it -20 dBFS."""
    assert level_dbfs(np.zeros(16, np.float32)) is None
    assert level_dbfs(np.ones(16, np.float32)) == 0.0
    assert level_dbfs(np.full(16, 0.1, np.float32)) == pytest.approx(-20.0, abs=1e-5)
