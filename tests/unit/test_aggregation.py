"""Tests the combination of scores of windows into scores of segments."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rigs.random_scores import latencies, probabilities, revisions
from rigs.roles import window_scores

from streamav.aggregation import Aggregation
from streamav.errors import ShapeError
from streamav.types import SegmentScores, WindowScores

HAMMING = 0.54 - 0.46 * np.cos(2 * np.pi * np.arange(10) / 9)


def windows_of(scores: Sequence[float]) -> list[WindowScores]:
    """Return the windows over a stream whose scores never change; one short window for a short stream."""
    if len(scores) < 10:
        return [window_scores(0, scores)]
    return [window_scores(first, scores[first : first + 10]) for first in range(len(scores) - 9)]


def run(windows: Sequence[WindowScores], latency: int) -> list[list[SegmentScores]]:
    """Push all windows and close."""
    aggregation = Aggregation(latency)
    return [*(aggregation.push(window) for window in windows), aggregation.close()]


@given(probabilities, latencies)
def test_each_second_becomes_final_exactly_once(scores: list[float], latency: int) -> None:
    """Every segment is final once, in order, and is not returned again."""
    rounds = run(windows_of(scores), latency)
    finals = [one.index for given_ in rounds for one in given_ if one.final]
    assert finals == list(range(len(scores)))
    done: set[int] = set()
    for given_ in rounds:
        assert not done & {one.index for one in given_}
        assert [one.index for one in given_] == sorted(one.index for one in given_)
        done |= {one.index for one in given_ if one.final}


@given(probabilities, latencies)
def test_scores_that_all_windows_agree_on_are_kept(scores: list[float], latency: int) -> None:
    """Where all windows give a segment the same scores, the combination has these scores; probabilities sum to 1."""
    for given_ in run(windows_of(scores), latency):
        for one in given_:
            assert one.class_probabilities[0] == pytest.approx(scores[one.index], abs=1e-6)
            assert one.class_probabilities.sum() == pytest.approx(1.0, abs=1e-6)
            assert one.attention.sum() == pytest.approx(1.0, abs=1e-6)
            assert one.relevance == pytest.approx(scores[one.index], abs=1e-6)


@given(st.data(), st.integers(10, 25), latencies)
def test_the_combination_is_the_hamming_mean_over_positions(data: st.DataObject, length: int, latency: int) -> None:
    """At age a a segment is the mean of a + 1 windows, weighted by its positions 9, 8 ... 9 - a in them."""
    thought = data.draw(revisions(length))  # thought[t][age]
    windows = [window_scores(first, [thought[first + position][9 - position] for position in range(10)]) for first in range(length - 9)]
    for newest, given_ in enumerate(run(windows, latency)[:-1], start=9):
        for one in given_:
            assert one.age == newest - one.index
            first_age = max(0, 9 - one.index)  # segments of the first window, except for its last, have no earlier ages
            ages = range(first_age, one.age + 1)
            weights = np.array([HAMMING[9 - age] for age in ages])
            expected = float(np.sum(weights * [thought[one.index][age] for age in ages]) / weights.sum())
            assert one.class_probabilities[0] == pytest.approx(expected, abs=1e-5)
            assert one.final == (one.age >= latency - 1)


@given(latencies)
def test_a_skipped_window_loses_no_second(latency: int) -> None:
    """If windows are not scored because of a backlog, the segments still become final once each."""
    scores = [0.1 * (index % 10) for index in range(30)]
    windows = [window for window in windows_of(scores) if window.first_index % 4 == 0]
    finals = [one.index for given_ in run(windows, latency) for one in given_ if one.final]
    assert finals == list(range(30))


@given(st.data(), st.integers(1, 10), st.integers(1, 20), latencies)
def test_short_windows_change_no_final_score(data: st.DataObject, least: int, length: int, latency: int) -> None:
    """Windows that are not full yet give provisional scores; the final ones are those without these windows."""
    thought = [[data.draw(st.floats(0.0, 1.0, width=32)) for _ in range(min(end, 10))] for end in range(1, length + 1)]
    windows = [window_scores(max(0, end - 10), thought[end - 1]) for end in range(1, length + 1)]
    short, full = windows[least - 1 : 9], windows[9:] or windows[-1:]

    def finals(given_: Sequence[WindowScores]) -> list[tuple[int, float]]:
        return [(one.index, float(one.class_probabilities[0])) for round_ in run(given_, latency) for one in round_ if one.final]

    assert finals([*short, *full] if length >= 10 else [*short, windows[-1]]) == finals(full)
    assert not any(one.final for window in short for one in Aggregation(latency).push(window))


def test_after_closing_a_new_stretch_may_begin() -> None:
    """After close() all segments are final, and later windows are not mixed with them."""
    aggregation = Aggregation(3)
    aggregation.push(window_scores(0, [0.5] * 10))
    assert [one.index for one in aggregation.close()] == [8, 9]
    assert [one.index for one in aggregation.push(window_scores(40, [0.5] * 10))] == list(range(40, 50))
    assert aggregation.close()


@pytest.mark.parametrize("latency", [0, 11])
def test_a_latency_outside_the_window_is_refused(latency: int) -> None:
    """A latency outside of 1 to 10 is refused."""
    with pytest.raises(ShapeError, match="1 to 10"):
        Aggregation(latency)
