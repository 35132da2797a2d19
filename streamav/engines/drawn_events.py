"""Draws two things that are seen and heard at once, a siren and a clock, so that the samples of an engine's comparison hold events.

Without them a model that is sure of itself calls every sample background, and no wrong decision could show. Both are
plain enough for numpy alone, and the starter model is sure of them (tests/unit/test_samples.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

__all__ = ["EVENTS"]

_LOW_HZ, _HIGH_HZ = 125.0, 7500.0
"""Ends of the mel bands. Source: VGGish, YAMNet."""
_TICK_BANDS = (48.0, 44.0)
"""Where a tick and a tock ring, in mel bands."""


def _siren_picture(picture: NDArray[np.uint8], second: int) -> NDArray[np.uint8]:
    """Draw a van with a blue stripe and two blue lamps that are lit in turn."""
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


def _siren_sound(frame: NDArray[np.float64], band: NDArray[np.float64], second: int) -> NDArray[np.float64]:
    """Sound a wail between 600 and 1,300 Hz with eight partials, every 1.3 s; a frame is 10 ms."""
    hz = 950.0 - 350.0 * np.cos(2 * np.pi * (frame / 100 + second) / 1.3)
    partials = [np.where(number * hz < _HIGH_HZ, 3 / number * _peak(band, _band(number * hz), 0.8), 0.0) for number in range(1, 9)]
    return np.asarray(sum(partials), np.float64)


def _clock_picture(picture: NDArray[np.uint8], second: int) -> NDArray[np.uint8]:
    """Draw a dial with twelve marks and three hands in the middle."""
    drawn = picture.copy()
    height, width = picture.shape[:2]
    y, x = np.indices((height, width))
    down, along = (y - height / 2) / min(height, width), (x - width / 2) / min(height, width)
    radius, turn = np.hypot(down, along), np.arctan2(along, -down) / (2 * np.pi)

    def hand(at: float, inner: float, outer: float, half_width: float) -> NDArray[np.bool_]:
        away = np.abs((turn - at + 0.5) % 1 - 0.5) * 2 * np.pi * radius
        return np.asarray((radius > inner) & (radius < outer) & (away < half_width), np.bool_)

    drawn[radius < 0.33] = (120, 60, 40)  # noqa: PLR2004 - a radius
    drawn[radius < 0.29] = (240, 238, 230)  # noqa: PLR2004
    marks = [hand(mark / 12, 0.23 if mark % 3 else 0.21, 0.27, 0.006) for mark in range(12)]
    drawn[np.any([*marks, hand(0.14, 0.0, 0.15, 0.012), hand(0.70, 0.0, 0.22, 0.009)], axis=0)] = (20, 20, 30)
    drawn[hand(second / 60, 0.0, 0.24, 0.004)] = (200, 30, 30)
    return drawn


def _clock_sound(frame: NDArray[np.float64], band: NDArray[np.float64], second: int) -> NDArray[np.float64]:  # noqa: ARG001 - as a siren's
    """Sound a tick or a tock every 0.3 s."""
    clicks = []
    for number, first in enumerate(range(3, len(frame), 30)):
        fading = np.where(frame >= first, np.exp(-np.maximum(frame - first, 0) / 0.8), 0.0)
        clicks.append(3 * fading * (0.1 + _peak(band, _TICK_BANDS[number % 2], 3.0)))
    return np.asarray(sum(clicks), np.float64)


EVENTS: tuple[tuple[Callable[..., NDArray[np.uint8]], Callable[..., NDArray[np.float64]]], ...] = (
    (_siren_picture, _siren_sound),
    (_clock_picture, _clock_sound),
)
"""For each event: what draws it over a picture (h, w, 3), and what gives its mel magnitudes by frame and band; each takes the second."""


def _peak(band: NDArray[np.float64], centre: NDArray[np.float64] | float, width: float) -> NDArray[np.float64]:
    return np.asarray(np.exp(-0.5 * ((band - centre) / width) ** 2), np.float64)


def _band(hz: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the place of a frequency among the 64 mel bands. Source: HTK mel, as in the front ends of VGGish and YAMNet."""
    low, high, there = (np.log1p(np.asarray(one) / 700.0) for one in (_LOW_HZ, _HIGH_HZ, hz))
    return np.asarray((there - low) / (high - low) * 65 - 1, np.float64)
