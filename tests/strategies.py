"""What hypothesis draws: scores of a stream, and how a window's model changes its mind about them."""

from __future__ import annotations

from hypothesis import strategies as st

__all__ = ["latencies", "probabilities", "revisions"]

PROBABILITIES = (0.0, 0.1, 0.3, 0.35, 0.4, 0.5, 0.6, 0.65, 0.8, 1.0)
"""On, between and around the thresholds of the tests (on 0.6, off 0.35)."""

probabilities = st.lists(st.sampled_from(PROBABILITIES), min_size=1, max_size=40)
"""Probability of one label in each second."""
latencies = st.integers(min_value=1, max_value=10)
"""L, seconds until a score is final."""


def revisions(length: int) -> st.SearchStrategy[list[list[float]]]:
    """Draw for each of *length* seconds ten probabilities: what is thought of it at age 0, 1 ... 9."""
    ages = st.lists(st.sampled_from(PROBABILITIES), min_size=10, max_size=10)
    return st.lists(ages, min_size=length, max_size=length)
