"""Tests the signs of dead cameras and microphones, and the judgement of them. Encoded media: tests/integration/test_liveness.py."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamav.liveness import PictureSigns, sound_signs
from streamav.pipeline.health import Health
from streamav.types import Quality, Signs, VideoFrame

GOOD = Signs(novelty=0.5, detail=40.0, brightness=90.0, swing=0.1)
FAULTS = {
    "black": Signs(novelty=0.5, detail=1.0, brightness=10.0, swing=0.1),
    "even surface": Signs(novelty=0.5, detail=1.0, brightness=90.0, swing=0.1),
    "frozen": Signs(novelty=0.0, detail=40.0, brightness=90.0, swing=0.1),
    "silence": Signs(novelty=0.5, detail=40.0, brightness=90.0, swing=0.0),
    "clipped": Signs(novelty=0.5, detail=40.0, brightness=90.0, swing=0.1, clipped=0.1),
    "offset": Signs(novelty=0.5, detail=40.0, brightness=90.0, swing=0.1, offset=-0.2),
    "channels": Signs(novelty=0.5, detail=40.0, brightness=90.0, swing=0.1, lone_channel=True),
}


def judged(signs: Sequence[Signs]) -> list[str | None]:
    health = Health()
    return [health.push(Quality(signs=one), 0) for one in signs]


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_named_after_eight_seconds_and_gone_with_them(fault: str) -> None:
    """A fault is named from its eighth second on, with a remedy after a colon, and no longer when most seconds are good."""
    said = judged([GOOD] * 10 + [FAULTS[fault]] * 12 + [GOOD] * 12)
    assert said[:17] == [None] * 17
    first = next(place for place, words in enumerate(said) if words is not None)
    assert first <= 20
    assert all(words is not None and fault in words and ": " in words for words in said[first:22])
    assert said[25:] == [None] * len(said[25:])


def test_one_picture_in_ten_seconds_that_is_new_is_enough() -> None:
    """A picture that changes completely once in a while is not frozen."""
    assert not any(judged([GOOD if number % 10 == 0 else FAULTS["frozen"] for number in range(40)])[10:])


def test_two_faults_are_both_named() -> None:
    """A source may be black and silent at once; both remedies are named."""
    words = judged([Signs(novelty=0.5, detail=1.0, brightness=10.0, swing=0.0)] * 10)[-1]
    assert words is not None
    assert "black" in words
    assert "silence" in words


@given(st.integers(1, 30), st.integers(1, 40), st.integers(1, 40))
def test_pictures_that_come_again_are_not_new(period: int, height: int, width: int) -> None:
    """After one period, a sequence of pictures that repeats has nothing new, whatever their size."""
    random = np.random.default_rng(period)
    pictures = random.integers(0, 256, (period, height, width, 3), dtype=np.uint8)
    signs = PictureSigns(4)
    for number in range(3 * period):
        signs.push(VideoFrame(start_ns=number, pixels=pictures[number % period]))
        novelty, _, _ = signs.take()
        assert novelty == 0.0 or number < period


def test_signs_of_sound_are_those_of_its_samples() -> None:
    """A square wave at full scale is clipped; silence with an offset has no swing; without samples nothing is measured."""
    square = np.resize(np.array([1.0, -1.0], np.float32), 16_000)
    assert sound_signs(square, 16_000, 0) == Signs(swing=1.0, clipped=1.0)
    offset = sound_signs(np.full(16_000, 0.25, np.float32), 16_000, 9_000)
    assert offset == Signs(swing=0.0, offset=0.25, lone_channel=True)
    assert sound_signs(np.zeros(16_000, np.float32), 0, 0) == Signs()
