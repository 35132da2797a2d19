"""Draws a siren that is seen and heard at the same time, so that the samples of an engine's comparison hold an event.

Without an event, a model would score every sample as background with certainty, and no wrong decision could be found. The drawing
needs numpy only, and the starter model detects it with certainty (tests/unit/test_samples.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["siren_picture", "siren_sound"]

_LOW_HZ, _HIGH_HZ = 125.0, 7500.0
"""Ends of the mel bands. Source: VGGish, YAMNet."""
_PARTIALS = 8


def siren_picture(picture: NDArray[np.uint8], second: int) -> NDArray[np.uint8]:
    """Draw a van with a blue stripe and two blue lamps, lit in turn, over a picture (h, w, 3)."""
    drawn = picture.copy()
    y, x = (axis / (side - 1) for axis, side in zip(np.indices(picture.shape[:2]), picture.shape[:2], strict=True))

    def box(left: float, top: float, right: float, bottom: float, colour: tuple[int, int, int]) -> None:
        drawn[(x > left) & (x < right) & (y > top) & (y < bottom)] = colour

    box(0.10, 0.36, 0.85, 0.74, (235, 235, 240))
    box(0.10, 0.56, 0.85, 0.63, (30, 70, 190))
    for left in (0.15, 0.33, 0.51, 0.69):
        box(left, 0.41, left + 0.14, 0.53, (140, 185, 215))
    for wheel in (0.26, 0.70):
        drawn[np.hypot(x - wheel, y - 0.75) < 0.09] = (30, 30, 35)  # noqa: PLR2004 - a radius
    for place, left in enumerate((0.30, 0.48)):
        box(left, 0.26, left + 0.12, 0.35, (90, 160, 255) if (second + place) % 2 else (20, 30, 120))
    return drawn


def siren_sound(shape: tuple[int, int], second: int) -> NDArray[np.float64]:
    """Return the mel magnitudes of a wail between 600 and 1,300 Hz with a period of 1.3 s, by frame (10 ms) and band."""
    frame, band = np.indices(shape, dtype=np.float64)
    hz = 950.0 - 350.0 * np.cos(2 * np.pi * (frame / 100 + second) / 1.3)
    sound = np.zeros(shape)
    for number in range(1, _PARTIALS + 1):
        peak = np.exp(-0.5 * ((band - _band(number * hz, shape[1])) / 0.8) ** 2)
        sound += np.where(number * hz < _HIGH_HZ, 3 / number * peak, 0.0)
    return sound


def _band(hz: NDArray[np.float64], bands: int) -> NDArray[np.float64]:
    """Return the place of a frequency among the mel bands. Source: HTK mel, as in the front ends of VGGish and YAMNet."""
    low, high, there = (np.log1p(np.asarray(one) / 700.0) for one in (_LOW_HZ, _HIGH_HZ, hz))
    return np.asarray((there - low) / (high - low) * (bands + 1) - 1, np.float64)
