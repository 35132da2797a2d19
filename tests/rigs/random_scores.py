"""Strategies for hypothesis: scores of a stream, and the scores that a segment gets from successive windows."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

__all__ = ["latencies", "probabilities", "revisions"]

PROBABILITIES = (0.0, 0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 1.0)
"""At, between and around the thresholds of the tests (on 0.625, off 0.375); exact in float32."""

probabilities = st.lists(st.sampled_from(PROBABILITIES), min_size=1, max_size=40)
"""Probability of one label in each segment."""
latencies = st.integers(min_value=1, max_value=10)
"""L: number of windows after which a segment's scores are final."""


def revisions(length: int) -> st.SearchStrategy[list[list[float]]]:
    """Draw ten probabilities for each of *length* segments: its scores at age 0, 1 ... 9.

    They are drawn from one seed, because hypothesis would be slow with hundreds of single numbers. About half of the ages repeat the
    probability of the age before.
    """

    def thoughts(seed: int) -> list[list[float]]:
        rng = np.random.default_rng(seed)
        drawn = rng.choice(PROBABILITIES, (length, 10))
        for age in range(1, 10):
            drawn[:, age] = np.where(rng.random(length) < 0.5, drawn[:, age - 1], drawn[:, age])
        return [[float(value) for value in row] for row in drawn]

    return st.integers(0, 2**32 - 1).map(thoughts)
