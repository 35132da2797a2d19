"""Combines the scores of the windows that hold a segment, for each age of the segment.

It computes the same as `streamav.aggregation`, but over a whole stream at once. It uses no truth and no events.

Age counts from zero; outside `streamav.evaluation` only the latency L = 1 ... T is used, and L is the age L - 1.

    A segment has age 0 when it is the newest one. At age a, a + 1 windows have scored it, at their positions T - 1 - a ... T - 1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from streamav.aggregation import final_age
from streamav.errors import ShapeError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Combination", "at_age", "at_latency", "scored_segments"]

Combination = Literal["newest", "mean", "hamming"]


def scored_segments(seconds: int, segments: int) -> range:
    """Return the segments of a stream that have scores at every age: the warm-up and the last window are left out."""
    return range(segments - 1, max(segments - 1, seconds - segments + 1))


def at_age(windows: NDArray[np.floating], age: int, how: Combination = "hamming") -> NDArray[np.float64]:
    """Combine the windows that have scored each segment when it has *age*.

    Args:
        windows: shape (W, T, K): probabilities from the window of segments k to k + T - 1.
        age: 0 to T - 1.
        how: newest window only, mean, or weighted by position.

    Returns:
        Shape (S', K), one row for each of `scored_segments` of the stream of S = W + T - 1 segments.

    Raises:
        ShapeError: when the age does not lie within a window.

    Source: the project's streaming notes, after diart blocks/aggregation.py (Hamming weight of the position in the window).
    """
    count, segments, _ = windows.shape
    if not 0 <= age < segments:
        msg = f"age must be 0 to {segments - 1}, got {age}"
        raise ShapeError(msg)
    weights = np.hamming(segments) if how == "hamming" else np.ones(segments)
    inside = np.asarray(scored_segments(count + segments - 1, segments))
    total = np.zeros((len(inside), windows.shape[2]))
    weight = 0.0
    # The newest window ends `age` segments after the segment. A window that ends d segments earlier has it at position T - 1 - age + d.
    # The oldest window is added first, as in a live run, so that the sums are bit-identical.
    for back in reversed(range(1 if how == "newest" else age + 1)):
        position = segments - 1 - age + back
        total += weights[position] * windows[inside - position, position]
        weight += weights[position]
    return total / weight


def at_latency(windows: NDArray[np.floating], latency: int, how: Combination = "hamming") -> NDArray[np.float64]:
    """Return the final scores of a run of latency L, 1 to T, rounded to single precision as in a live run; all else as in `at_age`."""
    return at_age(windows, final_age(latency), how).astype(np.float32).astype(np.float64)
