"""Measures the motion inside a segment: how much more something moves in one place than the picture moves as a whole. Pure numpy.

What sounds mostly moves: a mouth, a paw, a hand on strings, a train. A camera that shakes moves everything.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["BLOCKS", "CELLS", "FAINT_MOTION", "MOVING_CELLS", "USUAL_MOTION", "motion_of"]

CELLS = 7
"""The picture is cut into 7 x 7 cells, as the grid of visual features is."""
BLOCKS = 28
"""Brightness is averaged over 28 x 28 blocks first: noise of single pixels is no motion."""
MOVING_CELLS = 5
"""What moves fills a tenth of the picture: five cells of 49. On real recordings 1 to 10 gave the same figures."""
FAINT_MOTION = 1.0
"""Grey levels, of 255. Below it a difference is noise of the sensor or of the encoder."""
USUAL_MOTION = 1.3
"""Mean over the segments of 187 real recordings, before it is taken off (1.31, pictures of 224 x 224)."""


def motion_of(frames: NDArray[np.uint8]) -> float:
    """Return the motion in one segment, above or below the usual; it is least where nothing moves or everything moves alike.

    It is ln((m + 1) / (c + 1)) - 1.3. m is the mean of the five largest cells, c the median of all, of the absolute difference of
    consecutive pictures in grey levels (our own measure; docs/results.md says what it is worth).

    Args:
        frames: shape (F, h, w, 3).

    Returns:
        At least -1.3. 0, the usual, when it cannot be measured: there is one picture only, or the pictures are smaller than 28 x 28.
    """
    count, height, width = frames.shape[:3]
    tall, wide = height // BLOCKS, width // BLOCKS
    if count < 2 or not tall or not wide:  # noqa: PLR2004 - a difference takes two
        return 0.0
    cut = frames[:, : BLOCKS * tall, : BLOCKS * wide]
    sums = cut.reshape(count, BLOCKS, tall, BLOCKS, wide * 3).sum(axis=(2, 4), dtype=np.uint32)
    grey = sums.astype(np.float32) / np.float32(tall * wide * 3)
    moved = np.abs(np.diff(grey, axis=0)).mean(axis=0)
    part = BLOCKS // CELLS
    cells = np.sort(moved.reshape(CELLS, part, CELLS, part).mean(axis=(1, 3)).ravel())
    most, usual = cells[-MOVING_CELLS:].mean(), np.median(cells)
    return float(np.log((most + FAINT_MOTION) / (usual + FAINT_MOTION))) - USUAL_MOTION
