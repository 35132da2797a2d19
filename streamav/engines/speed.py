"""Times an engine's networks on the machine where the engine is made, so that the fastest engine can be chosen."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from streamav.engines.parity import Answers
    from streamav.protocols import Engine, Network

__all__ = ["best_ms", "second_ms", "segment_ms_of", "timed_inputs"]

TIMED_PICTURES = 4
"""Batch size for timing a visual encoder: the number of pictures that the memory bounds allow VGG-19."""
_TIMED_RUNS = 5
_TIMED_S = 0.4
"""A network is timed for at most this long, s, and at most `_TIMED_RUNS` times (our choice)."""


def timed_inputs(answers: Answers, name: str) -> list[NDArray[np.generic]]:
    """Return the inputs on which a network is timed: a few pictures at once, or one input of any other network."""
    return [array[: TIMED_PICTURES if name == "visual" else 1] for array in answers.inputs[name]]


def best_ms(network: Network, inputs: Sequence[NDArray[np.generic]]) -> float:
    """Return the shortest time of a few runs, in milliseconds for each input. The shortest, since load of other programs only adds time.

    Slow networks run twice; the first run is a warm-up.
    """
    network(*inputs)
    best, end = float("inf"), time.perf_counter() + _TIMED_S
    for _ in range(_TIMED_RUNS):
        began = time.perf_counter()
        network(*inputs)
        best = min(best, time.perf_counter() - began)
        if time.perf_counter() > end:
            break
    return 1e3 * best / len(inputs[0])


def segment_ms_of(times_ms: Mapping[str, float], frames: int) -> float:
    """Return the time of one segment of one stream, ms, from the times of one input of each network; a segment has *frames* pictures."""
    return sum(times_ms.values()) + times_ms["visual"] * (frames - 1)


def second_ms(engine: Engine, answers: Answers, frames: int) -> float:
    """Time all four networks of an engine; return the time of one segment of one stream, ms."""
    return segment_ms_of({name: best_ms(engine.network(name), timed_inputs(answers, name)) for name in answers.inputs}, frames)
