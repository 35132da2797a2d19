"""Measures the signs by which a camera that sees nothing, and a microphone that hears nothing, are recognised.

Pure: it takes samples and pictures and returns numbers; `streamav.pipeline.health` judges them.

A camera that stands still sends the same picture again. An encoder changes it slightly, but does so in the same way after every
key frame, so that every block of 8 x 8 pixels shows again exactly what it showed some seconds before. In a live picture, even of a
scene in which nothing moves, the noise of the sensor is different each time.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

import numpy as np

from streamav.types import Signs

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from streamav.types import VideoFrame

__all__ = ["PictureSigns", "sound_signs"]

_BLOCK: Final = 8
"""Side of a block, pixels of the scaled picture."""
_MEMORY_S: Final = 10
"""How far back a block's content is compared, s. The key frames of cameras are closer than that."""
_PERCENTILE: Final = 90
"""Text that the camera draws into the picture covers less than the rest."""
_LEAST_BLOCKS: Final = 3
"""Blocks a side that a second difference takes."""
_FULL_SCALE: Final = 0.985
"""Samples from here on are at full scale; resampling and lossy codecs take some of the flat tops away."""


class PictureSigns:
    """Compares the pictures of one source with those of the last ten seconds."""

    def __init__(self, frames_per_second: int) -> None:
        """Remember up to ten seconds of pictures, of which *frames_per_second* are looked at."""
        self._past: deque[NDArray[np.float64]] = deque(maxlen=_MEMORY_S * frames_per_second)
        self._weights: NDArray[np.float64] = np.random.default_rng(0).random(3 * _BLOCK**2)
        self._novel: list[float] = []
        self._newest: NDArray[np.uint8] | None = None

    def push(self, picture: VideoFrame) -> None:
        """Take the next new picture."""
        marks = _blocks(picture.pixels).astype(np.float64) @ self._weights  # one number for each block, equal for equal blocks
        if self._past:
            known = (np.stack(self._past) == marks).any(axis=0)
            self._novel.append(1.0 - float(known.mean()))
        self._past.append(marks)
        self._newest = picture.pixels

    def take(self) -> tuple[float | None, float | None, float | None]:
        """Return novelty, detail and brightness of the pictures since the last call, as in `Signs`."""
        novel, self._novel = self._novel, []
        newest, self._newest = self._newest, None
        if newest is None:
            return None, None, None
        return float(np.mean(novel)) if novel else None, _detail(newest), float(newest.mean())

    def reset(self) -> None:
        """Forget all pictures, as when the source was lost."""
        self._past.clear()
        self._novel, self._newest = [], None


def sound_signs(samples: NDArray[np.float32], arrived: int, lone: int) -> Signs:
    """Return the signs of a segment's sound, those of its pictures left out.

    Args:
        samples: of the segment, shape (N,).
        arrived: how many of them arrived; without any there is nothing to measure.
        lone: how many of those came from one channel of two, the other being silent.
    """
    if not arrived:
        return Signs()
    offset = float(samples.mean())
    return Signs(
        swing=float(samples.std()),
        offset=offset,
        clipped=float(np.count_nonzero(np.abs(samples) >= _FULL_SCALE)) / samples.size,
        lone_channel=2 * lone > arrived,
    )


def _blocks(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the blocks of a picture, shape (blocks, values); a picture smaller than a block is padded."""
    height, width, colours = pixels.shape
    if min(height, width) < _BLOCK:
        pixels = np.pad(pixels, ((0, max(0, _BLOCK - height)), (0, max(0, _BLOCK - width)), (0, 0)))
        height, width = pixels.shape[:2]
    rows, columns = height // _BLOCK, width // _BLOCK
    cut = pixels[: rows * _BLOCK, : columns * _BLOCK].reshape(rows, _BLOCK, columns, _BLOCK, colours)
    return np.ascontiguousarray(cut.swapaxes(1, 2)).reshape(rows * columns, -1)


def _detail(pixels: NDArray[np.uint8]) -> float | None:
    """Return how much the brightness of neighbouring blocks differs from an even slope, in nine of ten places at most.

    A covered lens gives an even picture or one that darkens evenly, so differences of differences are used. Noise is averaged out.
    """
    height, width, _ = pixels.shape
    rows, columns = height // _BLOCK, width // _BLOCK
    if min(rows, columns) < _LEAST_BLOCKS:
        return None
    light = pixels[: rows * _BLOCK, : columns * _BLOCK].reshape(rows, _BLOCK, columns, _BLOCK, 3).mean(axis=(1, 3, 4), dtype=np.float32)
    across, down = np.abs(np.diff(light, 2, axis=1))[1:-1], np.abs(np.diff(light, 2, axis=0))[:, 1:-1]
    return float(np.percentile(np.maximum(across, down), _PERCENTILE))
