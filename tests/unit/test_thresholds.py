"""Tests of thresholds: checked ranges, and the order of the places that set them."""

from __future__ import annotations

import math
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from streamav.errors import SettingsError, ShapeError
from streamav.thresholds import FIELDS, PartialThresholds, Thresholds, resolve

CARD = PartialThresholds(on=0.6, off=0.35, min_segments=2, gap_segments=1)


@pytest.mark.parametrize(
    "wrong",
    [{"off": 0.7}, {"on": 1.2}, {"on": math.nan}, {"min_segments": 0}, {"min_segments": 61}, {"gap_segments": -1}, {"gap_segments": 61}],
)
def test_values_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    """Values out of range are a ShapeError in code and a pydantic error in settings.

    An `off` above `on` is found only after all places are merged.
    """
    with pytest.raises(ShapeError, match="thresholds need"):
        Thresholds(**({"on": 0.6, "off": 0.35} | wrong))  # type: ignore[arg-type]
    if "off" not in wrong:
        with pytest.raises(ValidationError):
            PartialThresholds.model_validate(wrong)


places = st.fixed_dictionaries(
    {},
    optional={
        "on": st.integers(50, 100).map(lambda value: value / 100),
        "off": st.integers(0, 50).map(lambda value: value / 100),
        "min_segments": st.integers(1, 60),
        "gap_segments": st.integers(0, 60),
    },
)


@given(places, places, places)
def test_each_value_comes_from_the_first_place_that_has_it(
    own: dict[str, float], general: dict[str, float], card_class: dict[str, float]
) -> None:
    """Each value comes from the first of: the class's setting, the general setting, the card's class, the card."""
    found = resolve(
        "bark",
        card=CARD,
        card_class=PartialThresholds.model_validate(card_class),
        general=PartialThresholds.model_validate(general),
        own=PartialThresholds.model_validate(own),
    )
    for name in FIELDS:
        wanted = next(place[name] for place in (own, general, card_class, CARD.model_dump()) if name in place)
        assert getattr(found, name) == wanted


def test_places_that_are_missing_say_nothing() -> None:
    """The card alone sets all values."""
    assert resolve("bark", card=CARD) == Thresholds(on=0.6, off=0.35, min_segments=2, gap_segments=1)


def test_a_lower_on_takes_the_off_of_the_card_along_and_never_one_that_was_asked_for() -> None:
    """A lower `on` in the settings lowers the card's `off`; an `off` in the settings above `on` is an error that names the class."""
    for own, general in product((None, PartialThresholds(on=0.2)), repeat=2):
        if own or general:
            assert resolve("bark", card=CARD, general=general, own=own).off == 0.2
    with pytest.raises(SettingsError, match=r"detection.off of bark must be at most on \(0.2\), got 0.3"):
        resolve("bark", card=CARD, general=PartialThresholds(off=0.3), own=PartialThresholds(on=0.2))
