"""Tests of the motion inside a segment: something that moves in one place, against a picture that moves as a whole."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamav.features.motion import USUAL_MOTION, motion_of

if TYPE_CHECKING:
    from numpy.typing import NDArray


def scene(seed: int = 0, side: int = 112) -> NDArray[np.uint8]:
    """Return a still picture with detail everywhere, four times."""
    coarse = np.random.default_rng(seed).integers(0, 255, (side // 7, side // 7, 3), dtype=np.uint8)
    return np.repeat(np.kron(coarse, np.ones((7, 7, 1), np.uint8))[None], 4, axis=0)


def with_a_hand(frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return frames in which a bright thing of a tenth of the picture goes back and forth."""
    moved = frames.copy()
    for number, frame in enumerate(moved):
        frame[20:50, 30 + 12 * (number % 2) : 60 + 12 * (number % 2)] = 250
    return moved


def test_a_thing_that_moves_counts_and_a_shaking_camera_does_not() -> None:
    """The motion of a moving thing is above that of a still picture, and above that of a picture that moves as a whole."""
    still = scene()
    shaking = np.stack([np.roll(frame, 3 * (number % 2), axis=1) for number, frame in enumerate(still)])
    assert motion_of(still) == pytest.approx(-USUAL_MOTION)
    assert motion_of(with_a_hand(still)) > 0.5
    assert motion_of(shaking) < -0.3


def test_noise_of_the_sensor_is_no_motion() -> None:
    """Noise of single pixels hardly counts, however the picture is lit."""
    noise = np.random.default_rng(1).normal(0, 6, (4, 112, 112, 3))
    noisy = np.clip(scene() + noise, 0, 255).astype(np.uint8)
    assert motion_of(noisy) < motion_of(scene()) + 0.2
    assert motion_of(with_a_hand(noisy)) > 0.5


@given(st.integers(0, 9), st.sampled_from([(112, 112), (60, 91), (224, 224), (28, 40)]), st.integers(2, 16))
def test_it_has_bounds_and_no_side(seed: int, size: tuple[int, int], count: int) -> None:
    """It lies between -1.3 and ln 256 for any pictures, and is the same for mirrored and for reversed ones."""
    frames = np.random.default_rng(seed).integers(0, 256, (count, *size, 3), dtype=np.uint8)
    found = motion_of(frames)
    assert -USUAL_MOTION <= found <= np.log(256.0)
    cut = frames[:, : size[0] // 28 * 28, : size[1] // 28 * 28]
    assert motion_of(cut[:, :, ::-1]) == pytest.approx(found, abs=1e-4)
    assert motion_of(frames[::-1]) == pytest.approx(found, abs=1e-4)


@pytest.mark.parametrize("shape", [(1, 112, 112, 3), (4, 8, 8, 3), (4, 27, 112, 3)])
def test_what_cannot_be_measured_is_usual(shape: tuple[int, ...]) -> None:
    """One picture, or pictures of less than 28 x 28, have the usual motion: no label gains or loses by it."""
    assert motion_of(np.zeros(shape, np.uint8)) == 0.0
