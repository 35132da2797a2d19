"""Tests the ring of ten segments."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rigs.roles import features

from streamav.errors import ShapeError
from streamav.window import WindowRing


@given(st.integers(0, 40), st.integers(0, 5))
def test_every_second_from_the_tenth_on_has_its_window(count: int, first: int) -> None:
    """There is no window before ten segments have arrived; afterwards each push returns the ten that end with it."""
    ring = WindowRing()
    for number in range(count):
        window = ring.push(features(first + number))
        if number < 9:
            assert window is None
        else:
            assert window is not None
            assert [one.index for one in window.segments] == list(range(first + number - 9, first + number + 1))


def test_a_gap_is_refused() -> None:
    """A segment that does not follow the one before is refused, and the ring does not change."""
    ring = WindowRing()
    ring.push(features(3))
    for wrong in (3, 5, 2):
        with pytest.raises(ShapeError, match="must be the next one"):
            ring.push(features(wrong))
    ring.push(features(4))


def test_reset_asks_for_ten_new_segments() -> None:
    """After a reset any index may follow, and ten segments are needed again."""
    ring = WindowRing()
    for index in range(12):
        ring.push(features(index))
    ring.reset()
    windows = [ring.push(features(index)) for index in range(100, 110)]
    assert [window is not None for window in windows] == [False] * 9 + [True]


@given(st.integers(1, 10), st.integers(1, 25))
def test_short_windows_begin_where_the_stretch_begins(least: int, count: int) -> None:
    """From the least number on, every segment has a window; until it is full it holds all segments of the stretch."""
    ring = WindowRing(least)
    lengths = [0 if (window := ring.push(features(number))) is None else len(window.segments) for number in range(count)]
    assert lengths == [min(number, 10) if number >= least else 0 for number in range(1, count + 1)]


@given(st.integers(0, 15))
def test_only_a_short_source_leaves_a_short_window(count: int) -> None:
    """close() returns a short window exactly when there were one to nine segments, and only once."""
    ring = WindowRing()
    for index in range(count):
        ring.push(features(index))
    window = ring.close()
    assert (window is not None) == (1 <= count < 10)
    if window is not None:
        assert len(window.segments) == count
    assert ring.close() is None
