"""From the pictures of seconds to what the visual encoder takes, and back to one grid a second. Pure numpy."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from streamav.types import Segment

__all__ = ["mean_grids", "pictures"]


def pictures(segments: Sequence[Segment], most: int | None) -> tuple[NDArray[np.uint8], list[int]]:
    """Give the pictures of B segments, *most* of each, as one batch (n, h, w, 3), uint8, and how many of them each segment has."""
    chosen = [segment.looked_at(most).frames for segment in segments]
    return np.concatenate(chosen), [len(frames) for frames in chosen]


def mean_grids(grids: NDArray[np.float32], counts: Sequence[int]) -> NDArray[np.float32]:
    """Average the grids of each segment's pictures.

    Args:
        grids: shape (n, G, G, V), float32, the segments one after another.
        counts: B numbers of at least 1 that sum to n.

    Returns:
        Shape (B, G, G, V), float32.

    Source: AVE's visual features are means over the frames of a second (Tian et al., ECCV 2018, section 6.1).
    """
    starts = np.cumsum([0, *counts[:-1]])
    sums = np.add.reduceat(grids, starts, axis=0)
    return np.asarray(sums / np.asarray(counts, np.float32)[:, None, None, None], dtype=np.float32)
