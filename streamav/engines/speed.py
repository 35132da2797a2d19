"""Times an engine's networks where it is made, so that the fastest can be chosen. It knows no library."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from streamav.engines.parity import Answers
    from streamav.protocols import Engine, Network

__all__ = ["best_ms", "second_ms", "second_of", "timed_inputs"]

TIMED_PICTURES = 4
"""Pictures at once where a visual encoder is timed: what memory bounds allow VGG-19."""
_TIMED_RUNS = 5
_TIMED_S = 0.4


def timed_inputs(answers: Answers, name: str) -> list[NDArray[np.generic]]:
    """Give what a network is timed on: a few pictures at once, or one input of any other."""
    return [array[: TIMED_PICTURES if name == "visual" else 1] for array in answers.inputs[name]]


def best_ms(network: Network, inputs: Sequence[NDArray[np.generic]]) -> float:
    """Give the least time of a few runs, in milliseconds for each input: the load of others only ever adds.

    Slow networks run twice, the first time to warm up.
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


def second_of(times_ms: Mapping[str, float], frames: int) -> float:
    """Give the time of one second of one stream, milliseconds, of those of one input of each network: the pictures count *frames* times."""
    return sum(times_ms.values()) + times_ms["visual"] * (frames - 1)


def second_ms(engine: Engine, answers: Answers, frames: int) -> float:
    """Time all four networks of an engine and give one second of one stream, milliseconds."""
    return second_of({name: best_ms(engine.network(name), timed_inputs(answers, name)) for name in answers.inputs}, frames)
