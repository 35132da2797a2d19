"""Tests of the reliability of scores."""

from __future__ import annotations

import numpy as np
import pytest

from streamav.errors import DataError
from streamav.evaluation.reliability import reliability


def two_labels(score: float, right: int, wrong: int) -> tuple[np.ndarray, np.ndarray]:
    """Return segments predicted as label 0 with one score; the first *right* of them are right."""
    truth = np.array([0] * right + [1] * wrong)
    return np.tile([score, 1.0 - score], (len(truth), 1)), truth


def test_scores_that_mean_what_they_say_have_no_error() -> None:
    """Eight of ten right at a score of 0.8 is calibrated, and lies in one bin."""
    found = reliability(*two_labels(0.8, 8, 2))
    assert found.calibration_error == pytest.approx(0.0)
    assert found.counts.sum() == found.counts.max() == 10
    assert found.accuracy[found.counts > 0].tolist() == pytest.approx([0.8])


@pytest.mark.parametrize(("right", "over"), [(5, 0.4), (10, -0.1)])
def test_the_error_is_the_distance_and_its_side_is_told(right: int, over: float) -> None:
    """At a score of 0.9, five of ten right gives an overconfidence of 0.4, all right one of -0.1."""
    found = reliability(*two_labels(0.9, right, 10 - right))
    assert found.calibration_error == pytest.approx(abs(over))
    assert found.overconfidence == pytest.approx(over)


def test_distances_of_two_bins_do_not_cancel() -> None:
    """Overconfident and underconfident bins add up in the error, and cancel only in the overconfidence."""
    (first, truth), (second, others) = two_labels(0.9, 8, 2), two_labels(0.7, 8, 2)
    found = reliability(np.concatenate([first, second]), np.concatenate([truth, others]))
    assert found.calibration_error == pytest.approx(0.1)
    assert found.overconfidence == pytest.approx(0.0, abs=1e-9)


def test_a_score_of_one_is_in_the_last_bin() -> None:
    """Scores at both ends of the range belong to a bin."""
    assert reliability(*two_labels(1.0, 3, 0)).counts[-1] == 3


@pytest.mark.parametrize("shape", [(3, 2), (0, 2)])
def test_what_does_not_fit_is_refused(shape: tuple[int, int]) -> None:
    """Predictions and truth of different number, or empty ones, are a DataError."""
    with pytest.raises(DataError, match="must match"):
        reliability(np.zeros(shape), np.zeros(2 if shape[0] else 0, dtype=np.int64))
