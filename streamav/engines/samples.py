"""Makes the pictures and sounds on which engines are compared with the reference; they are seeded and the same on every machine.

They are drawn and synthesized, not recorded, and have no exact symmetry that would hide a swapped axis. Half of the
segments hold an event, so that a decision can be wrong.
This module reads no file; recorded material of a user replaces the samples as a `Calibration`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from streamav.engines.drawn_siren import siren_picture, siren_sound
from streamav.types import WINDOW_SEGMENTS

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["SAMPLE_SEGMENTS", "Calibration", "Samples", "make_samples"]

SAMPLE_SEGMENTS = 12
"""Number of segments of the samples: three windows of ten, each one segment later than the one before."""
PATCH = (96, 64)
"""Frames and bands of a log-mel patch. Source: VGGish."""


_EVENT_SEGMENTS = (0, 1, 2, 6, 7, 8)
"""Of every twelve segments, those in which a siren is seen and heard. The others hold no event; some of them are dark or silent."""


@dataclass(frozen=True, eq=False, slots=True)
class Samples:
    """One picture and one log-mel patch for each of S consecutive segments."""

    pictures: NDArray[np.uint8]
    """Shape (S, h, w, 3), RGB."""
    patches: NDArray[np.float32]
    """Shape (S, 96, 64), natural logarithm of mel magnitudes plus offset."""

    def windows(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return every window of ten consecutive segments: (S, ...) becomes (S - 9, 10, ...)."""
        return np.stack([values[first : first + WINDOW_SEGMENTS] for first in range(len(values) - WINDOW_SEGMENTS + 1)])


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Calibration:
    """Recorded material of a user: one part fits an engine's numbers, another part is compared with the reference."""

    fit: Samples
    """The samples on which ranges of activations are measured."""
    check: Samples
    """The samples on which the engine is compared, at least ten consecutive segments; they are stored beside the engine."""
    source: str
    """Description for display: "14 files, 70 of 141 segments"."""


def make_samples(picture: tuple[int, int], log_mel_offset: float, segments: int = SAMPLE_SEGMENTS, seed: int = 20_230) -> Samples:
    """Make samples for a model.

    Args:
        picture: height and width of the pictures, pixels.
        log_mel_offset: the front end's offset, above 0; patches do not go below its logarithm.
        segments: number of segments S, at least ten.
        seed: seed of all random numbers.
    """
    generator = np.random.default_rng(seed)
    pictures = np.stack([_picture(generator, picture, index) for index in range(segments)])
    patches = np.stack([_patch(generator, log_mel_offset, index) for index in range(segments)])
    for index in (index for index in range(segments) if index % SAMPLE_SEGMENTS in _EVENT_SEGMENTS):
        pictures[index] = _seen(siren_picture(pictures[index], index), generator)
        loud = _level(generator, 20.0)
        patches[index] = np.log(loud * (generator.gamma(2.0, 0.002, PATCH) + siren_sound(PATCH, index)) + log_mel_offset)
    return Samples(pictures, patches)


def _seen(drawn: NDArray[np.uint8], generator: np.random.Generator) -> NDArray[np.uint8]:
    """Soften edges as a lens does, and add sensor noise: flat colours with sharp edges cost int8 more accuracy than photos."""
    padded = np.pad(drawn.astype(np.float64), ((1, 1), (1, 1), (0, 0)), mode="edge")
    sides = padded[:-2, 1:-1] + padded[2:, 1:-1] + padded[1:-1, :-2] + padded[1:-1, 2:]
    soft = (sides + 4 * padded[1:-1, 1:-1]) / 8
    return np.asarray(np.clip(soft + generator.normal(0, 4, drawn.shape), 0, 255), dtype=np.uint8)


def _picture(generator: np.random.Generator, size: tuple[int, int], index: int) -> NDArray[np.uint8]:
    """Draw a sloped background, blobs of colour, stripes and sensor noise; one picture in six is nearly dark."""
    height, width = size
    y, x = np.mgrid[0 : 1 : complex(0, height), 0 : 1 : complex(0, width)]
    slope = generator.uniform(-80, 80, (2, 3))
    colours = generator.uniform(40, 215, 3) + slope[0] * x[..., None] + slope[1] * y[..., None]
    for _ in range(5):
        row, column, radius = generator.uniform(0.1, 0.9), generator.uniform(0.1, 0.9), generator.uniform(0.05, 0.3)
        inside = ((y - row) ** 2 + (x - column) ** 2 < radius**2)[..., None]
        colours = np.where(inside, generator.uniform(0, 255, 3), colours)
    stripes = 30 * np.sin(2 * np.pi * (generator.uniform(2, 14) * x + generator.uniform(2, 14) * y))
    light = 0.08 if index % 6 == 5 else 1.0  # noqa: PLR2004 - the last of six
    noisy = (colours + stripes[..., None]) * light + generator.normal(0, 4, (height, width, 3))
    return np.asarray(np.clip(noisy, 0, 255), dtype=np.uint8)


def _patch(generator: np.random.Generator, offset: float, index: int) -> NDArray[np.float32]:
    """Synthesize mel magnitudes: a noise floor, moving partials and a click, of any level; one patch in six is digital silence."""
    frames, bands = PATCH
    if index % 6 == 3:  # noqa: PLR2004 - one of six
        return np.full(PATCH, np.log(offset), np.float32)
    time, band = np.mgrid[0:frames, 0:bands]
    # Noise of any colour and level: wind, engines and the sea fill all bands.
    magnitude = generator.gamma(2.0, 0.01, PATCH) * _level(generator, 40.0) * np.exp(generator.uniform(-3.0, 1.0) * band / bands)
    lowest, drift = generator.uniform(4, 20), generator.uniform(-0.08, 0.08)
    for partial in range(1, 5):
        centre = lowest * partial + drift * time
        magnitude += generator.uniform(0.1, 2.0) / partial * np.exp(-0.5 * ((band - centre) / 1.2) ** 2)
    click = generator.integers(0, frames - 8)
    magnitude[click : click + 8] += generator.uniform(0, 1.0) * np.exp(-np.arange(8) / 3)[:, None]
    return np.asarray(np.log(magnitude * _level(generator, 40.0) + offset), dtype=np.float32)


def _level(generator: np.random.Generator, most_db: float) -> float:
    """Return a factor of 0 to *most_db* decibels.

    Mel magnitudes of real recordings reach 50 and more (median of the largest: 27); int8 cuts off what is beyond the range of its samples.
    """
    return float(10.0 ** (generator.uniform(0.0, most_db) / 20.0))
