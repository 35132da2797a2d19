from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from streamav.errors import DataError
from streamav.evaluation.segments import score_segments

LABELS = arrays(np.int64, st.integers(1, 40), elements=st.integers(0, 3))


def test_scores_of_a_known_case() -> None:
    """Every figure is right for a case small enough to count by hand."""
    truth = np.array([0, 0, 1, 3, 3, 3])
    said = np.array([0, 1, 1, 3, 3, 2])
    scores = score_segments(truth, said, 3)
    assert scores.accuracy == pytest.approx(4 / 6)
    assert scores.background_recall == pytest.approx(2 / 3)
    assert scores.event_recall == pytest.approx(2 / 3)
    assert scores.always_background == pytest.approx(1 / 2)
    assert scores.majority == pytest.approx(1 / 2)
    # class 0: 2*1/(2+1), class 1: 2*1/(1+2), class 2: predicted once, never true
    assert scores.macro_f1 == pytest.approx((2 / 3 + 2 / 3 + 0) / 3)


@given(LABELS)
def test_the_truth_itself_is_perfect(truth: np.ndarray[tuple[int], np.dtype[np.int64]]) -> None:
    """Predictions equal to the truth score one in every figure that exists."""
    scores = score_segments(truth, truth.copy(), 3)
    assert scores.accuracy == 1.0
    assert np.nan_to_num(scores.macro_f1, nan=1.0) == 1.0
    assert np.nan_to_num(scores.background_recall, nan=1.0) == 1.0


@given(LABELS)
def test_the_baselines_are_what_they_say(truth: np.ndarray[tuple[int], np.dtype[np.int64]]) -> None:
    """Predicting background everywhere scores always_background; no constant prediction beats majority."""
    scores = [score_segments(truth, np.full_like(truth, label), 3) for label in range(4)]
    assert scores[3].accuracy == scores[3].always_background
    assert max(one.accuracy for one in scores) == pytest.approx(scores[0].majority)


@pytest.mark.parametrize(("truth", "said"), [([0, 1], [0]), ([], []), ([0, 4], [0, 0]), ([0, 1], [0, -1])])
def test_what_cannot_be_scored_is_refused(truth: list[int], said: list[int]) -> None:
    """Shapes that differ, empty arrays, and labels out of range are errors."""
    with pytest.raises(DataError):
        score_segments(np.array(truth, np.int64), np.array(said, np.int64), 3)
