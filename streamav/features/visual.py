"""Selects the pictures of segments for the visual encoder, and averages its outputs to one a segment. Pure numpy.

A camera slower than the model's frames a second shows each picture in several frames. Such a picture is encoded once and
counts as often as it was shown.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from streamav.types import Segment

__all__ = ["Pictures", "mean_over_frames", "pictures"]


class Pictures(NamedTuple):
    """The pictures of B segments, one after another."""

    pixels: NDArray[np.uint8]
    """Shape (n, h, w, 3): no picture equals the one before it in the same segment."""
    counts: list[int]
    """Pictures of each segment: B numbers of at least 1 that sum to n."""
    shown: NDArray[np.int64]
    """Number of frames in which each picture was on display, shape (n,), at least 1."""


def pictures(segments: Sequence[Segment]) -> Pictures:
    """Return the pictures that the frames of each of B segments show."""
    chosen, counts, shown = [], [], []
    for frames in (segment.frames for segment in segments):
        first = [0, *(place for place in range(1, len(frames)) if not np.array_equal(frames[place], frames[place - 1]))]
        chosen.append(frames if len(first) == len(frames) else frames[first])
        counts.append(len(first))
        shown.append(np.diff([*first, len(frames)]))
    return Pictures(np.concatenate(chosen), counts, np.concatenate(shown))


def mean_over_frames(values: NDArray[np.float32], counts: Sequence[int], shown: NDArray[np.int64]) -> NDArray[np.float32]:
    """Average the grids, or the class scores, of each segment's pictures over the frames that showed them.

    Args:
        values: shape (n, ...), float32, the segments one after another.
        counts: as in `Pictures`.
        shown: as in `Pictures`.

    Returns:
        Shape (B, ...), float32.

    Source: AVE's visual features are means over the frames of a second (Tian et al., ECCV 2018, section 6.1).
    """
    starts = np.cumsum([0, *counts[:-1]])
    axes = (-1, *([1] * (values.ndim - 1)))
    weighted = values if int(shown.max()) == 1 else values * shown.astype(np.float32).reshape(axes)
    frames = np.add.reduceat(shown, starts).astype(np.float32)
    return np.asarray(np.add.reduceat(weighted, starts, axis=0) / frames.reshape(axes), dtype=np.float32)
