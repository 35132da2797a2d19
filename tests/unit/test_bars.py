"""Tests of bars at the edges of pictures: what is cut off, and what never is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamav.features.bars import inside_bars, without_bars
from streamav.localizer import over_picture
from streamav.tracker.place import locate

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from streamav.types import Box

SIDE = 112


def scene(seed: int, height: int = SIDE, width: int = SIDE) -> NDArray[np.uint8]:
    """Return a picture with detail everywhere: no line of it has one colour."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def barred(seed: int, bars: tuple[int, int, int, int], colour: int = 16, noise: int = 2) -> NDArray[np.uint8]:
    """Return a scene between bars: left, top, right, bottom in pixels; they are as noisy as compression leaves them."""
    left, top, right, bottom = bars
    rng = np.random.default_rng(seed)
    picture = np.clip(colour + rng.integers(-noise, noise + 1, (SIDE, SIDE, 3)), 0, 255).astype(np.uint8)
    picture[top : SIDE - bottom, left : SIDE - right] = scene(seed, SIDE - top - bottom, SIDE - left - right)
    return picture


@given(
    seed=st.integers(0, 99),
    first=st.integers(3, 40),
    more=st.integers(0, 3),
    upright=st.booleans(),
    colour=st.sampled_from([0, 16, 128, 255]),
)
def test_a_pair_of_bars_is_found_to_the_pixel(seed: int, first: int, more: int, upright: bool, colour: int) -> None:
    """Bars of one colour at two opposite edges are found, whatever their colour and thickness, also when one is a little thicker."""
    second = min(first + more, 2 * first)
    bars = (first, 0, second, 0) if upright else (0, first, 0, second)
    left, top, right, bottom = bars
    wanted = (left / SIDE, top / SIDE, 1 - right / SIDE, 1 - bottom / SIDE)
    assert inside_bars(barred(seed, bars, colour)) == pytest.approx(wanted)


def test_bars_on_all_sides_leave_the_middle() -> None:
    """A film with bars that was put on a wider screen has bars on four sides."""
    assert inside_bars(barred(3, (20, 14, 20, 14))) == pytest.approx((20 / SIDE, 14 / SIDE, 92 / SIDE, 98 / SIDE))


@pytest.mark.parametrize(
    "picture",
    [
        pytest.param(scene(0), id="no bars"),
        pytest.param(np.zeros((SIDE, SIDE, 3), np.uint8), id="all black"),
        pytest.param(np.full((SIDE, SIDE, 3), 200, np.uint8), id="all grey"),
        pytest.param(barred(1, (0, 30, 0, 0)), id="dark above only"),
        pytest.param(barred(1, (0, 40, 0, 10)), id="dark above, a thin floor"),
        pytest.param(barred(1, (0, 2, 0, 2)), id="too thin to matter"),
        pytest.param(barred(1, (0, 50, 0, 50)), id="almost nothing seen"),
        pytest.param(barred(1, (0, 20, 0, 20), noise=25), id="night with noise above and below"),
        pytest.param(np.concatenate([barred(1, (0, 20, 0, 0))[:90], np.full((22, SIDE, 3), 230, np.uint8)]), id="dark above, bright below"),
    ],
)
def test_what_is_no_pair_of_bars_stays(picture: NDArray[np.uint8]) -> None:
    """Dark or bright parts that are no pair of bars are part of the scene: nothing is cut off, and not one pixel changes."""
    assert inside_bars(picture) is None
    pictures = picture[None]
    assert without_bars(pictures) is pictures


@given(st.integers(0, 99), st.tuples(st.integers(5, 40), st.integers(5, 40)))
def test_a_picture_put_between_bars_comes_back(seed: int, thickness: tuple[int, int]) -> None:
    """The scene between the bars fills the picture again; pictures without bars beside it do not change."""
    across, down = thickness
    coarse = np.kron(scene(seed, 4, 4), np.ones((28, 28, 1), np.uint8))
    rows = np.linspace(0, SIDE - 1, SIDE - 2 * down).round().astype(int)
    columns = np.linspace(0, SIDE - 1, SIDE - 2 * across).round().astype(int)
    small = np.full((SIDE, SIDE, 3), 0, np.uint8)
    small[down : SIDE - down, across : SIDE - across] = coarse[rows][:, columns]
    plain = scene(seed)
    wide, same = without_bars(np.stack([small, plain]))
    assert wide.shape == small.shape
    assert (same == plain).all()
    middles = np.ix_(range(14, SIDE, 28), range(14, SIDE, 28))
    if inside_bars(small) == pytest.approx((across / SIDE, down / SIDE, 1 - across / SIDE, 1 - down / SIDE)):
        assert (wide[middles] == coarse[middles]).all()


@given(st.integers(0, 99), st.tuples(st.floats(0.0, 0.4), st.floats(0.0, 0.4), st.floats(0.6, 1.0), st.floats(0.6, 1.0)), st.integers(1, 9))
def test_attention_stays_on_what_it_was_on(seed: int, inside: Box, side: int) -> None:
    """Attention over the scene, as a grid over the whole picture, keeps its sum and its centre of mass, and bars get none."""
    attention = np.random.default_rng(seed).random((side, side)).astype(np.float32)
    attention /= attention.sum()
    whole = over_picture(attention, inside)
    assert whole.sum() == pytest.approx(1.0, abs=1e-4)
    assert (whole >= 0).all()
    left, top, right, bottom = inside
    edges = np.arange(side + 1) / side
    assert whole[edges[1:] <= top].sum() == pytest.approx(0.0, abs=1e-6)
    assert whole[:, edges[:-1] >= right].sum() == pytest.approx(0.0, abs=1e-6)
    middle = (np.arange(side) + 0.5) / side
    for axis, (start, end) in enumerate(((top, bottom), (left, right))):
        centre = float(whole.sum(axis=1 - axis) @ middle)
        wanted = start + (end - start) * float(attention.sum(axis=1 - axis) @ middle)
        assert centre == pytest.approx(wanted, abs=0.5 / side)


def test_an_even_attention_between_bars_gives_no_box() -> None:
    """Attention that is the same everywhere in the scene says nothing about the place, with bars as without them."""
    even = np.full((7, 7), 1 / 49, np.float32)
    assert over_picture(even, None) is not even
    found = locate([over_picture(even, (0.0, 2 / 7, 1.0, 5 / 7))])
    assert found is not None
    assert found.box is None
