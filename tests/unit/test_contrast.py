"""Tests of the contrast of pale pictures: what is stretched, by how much, and what stays."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamav.features.contrast import LEAST_CONTRAST, with_contrast

if TYPE_CHECKING:
    from numpy.typing import NDArray


def pictures(seed: int, low: float, high: float, count: int = 2) -> NDArray[np.uint8]:
    """Return pictures of patches whose brightness lies evenly between two grey levels."""
    patches = np.random.default_rng(seed).permuted(np.tile(np.linspace(low, high, 256), (count, 1)), axis=1).reshape(count, 16, 16, 1)
    return np.repeat(np.kron(patches, np.ones((1, 7, 7, 1))), 3, axis=3).round().astype(np.uint8)


def span(picture: NDArray[np.uint8]) -> float:
    low, high = np.percentile(picture.mean(axis=2), (2, 98))
    return float(high - low)


@given(seed=st.integers(0, 99), low=st.floats(0, 150), width=st.floats(8, 255))
def test_the_contrast_is_at_least_what_is_asked_for(seed: int, low: float, width: float) -> None:
    """A pale picture gets the least contrast or four times its own; any other one does not change by one pixel."""
    given_ = pictures(seed, low, min(low + width, 255.0))
    found = with_contrast(given_, LEAST_CONTRAST)
    for before, after in zip(given_, found, strict=True):
        if span(before) >= LEAST_CONTRAST + 4:
            np.testing.assert_array_equal(before, after)
        elif span(before) < LEAST_CONTRAST - 4:
            assert span(after) == pytest.approx(min(LEAST_CONTRAST, 4 * span(before)), rel=0.12, abs=4)


def test_what_shows_enough_is_not_copied() -> None:
    """Pictures with enough contrast are returned themselves; a pale one beside them is changed alone."""
    plain, pale = pictures(0, 10, 240), pictures(1, 120, 150)
    assert with_contrast(plain, LEAST_CONTRAST) is plain
    both = np.concatenate([plain[:1], pale[:1]])
    found = with_contrast(both, LEAST_CONTRAST)
    np.testing.assert_array_equal(found[0], plain[0])
    assert span(found[1]) > 2 * span(pale[0])


@pytest.mark.parametrize("level", [0, 16, 128, 255])
def test_a_covered_or_black_picture_stays(level: int) -> None:
    """Where nothing is to be seen no noise is made visible."""
    noise = np.random.default_rng(0).integers(0, 2, (2, 112, 112, 3))
    dark = np.clip(level + noise, 0, 255).astype(np.uint8)
    assert with_contrast(dark, LEAST_CONTRAST) is dark


def test_colours_and_order_of_brightness_stay() -> None:
    """Stretching keeps which of two places is brighter, and the hue of what is coloured."""
    pale = pictures(3, 100, 140, 1)
    pale[..., 0] += 5
    (found,) = with_contrast(pale, LEAST_CONTRAST)
    order = np.argsort(pale[0].mean(axis=2).ravel(), kind="stable")
    assert (np.diff(found.mean(axis=2).ravel()[order]) >= -1e-6).all()
    assert (found[..., 0] > found[..., 1]).all()
