"""Tests the sentence in which training on own clips ends."""

from __future__ import annotations

import pytest

from streamav.cli.own_localizer import verdict


@pytest.mark.parametrize(
    ("accuracy", "said"),
    [(0.40, "do not use this model"), (0.60, "do not use this model"), (0.65, "a weak model"), (0.90, "has learned the classes")],
)
def test_a_model_is_judged_against_one_answer_for_everything(accuracy: float, said: str) -> None:
    """A model that is not better than always giving the same answer is called so, with what to do; both figures are given."""
    text = verdict({"accuracy": accuracy, "always_background": 0.5, "majority": 0.6})
    assert said in text
    assert f"{accuracy:.1%}" in text
    assert "60.0%" in text
