"""What is said of a second when it has a certain age: the scores of the windows that have seen it by then, combined.

It is the offline twin of `streamav.aggregation`, over a whole stream at once. It knows no truth and no events.

Age counts from zero; outside `streamav.evaluation` there is only the latency L = 1 ... T, and L is the age L - 1.

    age 0 is said when a second is the newest; at age a it has been seen at positions T - 1 - a ... T - 1 of a + 1 windows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from streamav.aggregation import final_age
from streamav.errors import ShapeError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Combination", "at_age", "at_latency", "scored_seconds"]

Combination = Literal["newest", "mean", "hamming"]


def scored_seconds(seconds: int, segments: int) -> range:
    """Give the seconds of a stream that every age has scores for: the warm-up and the last window are left out."""
    return range(segments - 1, max(segments - 1, seconds - segments + 1))


def at_age(windows: NDArray[np.floating], age: int, how: Combination = "hamming") -> NDArray[np.float64]:
    """Combine the windows that have seen each second by the time it has *age*.

    Args:
        windows: shape (W, T, K): probabilities said by the window of seconds k to k + T - 1.
        age: 0 to T - 1.
        how: newest window only, mean, or weighted by position.

    Returns:
        Shape (S', K), one row for each of `scored_seconds` of the stream of S = W + T - 1 seconds.

    Raises:
        ShapeError: when the age does not lie within a window.

    Source: the project's streaming notes, after diart blocks/aggregation.py (Hamming weight of the position in the window).
    """
    count, segments, _ = windows.shape
    if not 0 <= age < segments:
        msg = f"age must be 0 to {segments - 1}, got {age}"
        raise ShapeError(msg)
    weights = np.hamming(segments) if how == "hamming" else np.ones(segments)
    inside = np.asarray(scored_seconds(count + segments - 1, segments))
    total = np.zeros((len(inside), windows.shape[2]))
    weight = 0.0
    # The window that ends d segments before the newest (which ends `age` after the segment) has it at position T - 1 - age + d. The
    # oldest window comes first, as in a live run, so that the sums are the same to the last bit.
    for back in reversed(range(1 if how == "newest" else age + 1)):
        position = segments - 1 - age + back
        total += weights[position] * windows[inside - position, position]
        weight += weights[position]
    return total / weight


def at_latency(windows: NDArray[np.floating], latency: int, how: Combination = "hamming") -> NDArray[np.float64]:
    """Return the final scores of a run of latency L, 1 to T, rounded to single precision as a live run's are; all else as of `at_age`."""
    return at_age(windows, final_age(latency), how).astype(np.float32).astype(np.float64)
