"""Tests of our figures against sed_eval and sed_scores_eval: recorded figures always, new ones when the extra `oracle` is installed."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from rigs import metric_oracle
from rigs.metric_oracle import Case

from streamav.evaluation.events import EventCounts, count_events
from streamav.evaluation.psds import PSDS1, PSDS2, psds
from streamav.evaluation.segments import score_segments


def ours(case: Case) -> dict[str, float]:
    found = {}
    for name, collar in metric_oracle.COLLARS.items():
        parts = [count_events(truth, said, case.classes, collar) for truth, said in zip(case.truth, case.said(), strict=True)]
        found[name] = sum(parts, EventCounts()).f1
    labels = np.concatenate([scores.argmax(axis=1) for scores in case.scores])
    segments = score_segments(np.concatenate(case.truth), labels, case.classes)
    found |= {"macro_f1": segments.macro_f1, "background_recall": segments.background_recall}
    found["psds1"], found["psds2"] = psds(case.truth, case.scores, PSDS1, PSDS2)
    return found


@pytest.mark.parametrize("number", range(4))
def test_recorded_figures_of_the_libraries_are_ours_too(number: int) -> None:
    """Event-F1 at both collars, macro-F1, background recall and both PSDS equal the recorded figures of the libraries."""
    case, expected = metric_oracle.read_golden()[number]
    assert 0.0 < expected["collar_1"] < 1.0, "a case that tells nothing"
    assert ours(case) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("seed", range(100, 130))
def test_fresh_streams_are_scored_as_by_the_libraries(seed: int) -> None:
    """The same figures agree on new streams; needs pip install 'streamav[oracle]'."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip("sed_scores_eval", exc_type=ImportError)
    case = metric_oracle.draw(seed)
    assert ours(case) == pytest.approx(metric_oracle.reference(case), abs=1e-6)
