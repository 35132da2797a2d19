"""Changes sounds as rooms, microphones and distance do, and finds by energy where a sound is audible.

It works on arrays of samples, without classes, files or scenes.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from streamav.types import SAMPLE_RATE_HZ

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Samples = NDArray[np.float32]

__all__ = ["activity", "colour", "noise", "repeat", "reverberate", "rms", "to_level"]

FRAME_SAMPLES = 800
"""Frame of `activity`, 50 ms."""
AUDIBLE_DB = 30.0
"""A frame is audible if it is less than this below the sound's loud part (the 95th percentile of the level), in dB."""
FLOOR_DBFS = -58.0
"""Frames below this level, in dBFS, are silence in every sound."""


def rms(samples: Samples) -> float:
    """Return the root mean square, range 0 to 1."""
    return float(np.sqrt(np.mean(np.square(samples, dtype=np.float64)))) if len(samples) else 0.0


def activity(samples: Samples) -> NDArray[np.bool_]:
    """Return for each 50 ms whether the sound is audible, shape (ceil(n / 800),); gaps under 0.3 s count as audible."""
    count = -(-len(samples) // FRAME_SAMPLES)
    padded = np.zeros(count * FRAME_SAMPLES, np.float32)
    padded[: len(samples)] = samples
    level = 10.0 * np.log10(np.mean(np.square(padded.reshape(count, FRAME_SAMPLES)), axis=1) + 1e-12)
    loud = level > max(float(np.percentile(level, 95)) - AUDIBLE_DB, FLOOR_DBFS)
    edges = np.flatnonzero(loud)
    for left, right in pairwise(edges):
        if right - left <= 6:  # noqa: PLR2004  (6 frames are 0.3 s)
            loud[left:right] = True
    return np.asarray(loud, dtype=np.bool_)


def loud_rms(samples: Samples) -> float:
    """Return the RMS over audible frames only, so that pauses do not lower it."""
    heard = np.repeat(activity(samples), FRAME_SAMPLES)[: len(samples)]
    return rms(samples[heard]) if heard.any() else rms(samples)


def to_level(samples: Samples, level_dbfs: float) -> Samples:
    """Scale a sound so that its audible part has the level *level_dbfs*."""
    return (samples * np.float32(10.0 ** (level_dbfs / 20.0) / max(loud_rms(samples), 1e-5))).astype(np.float32)


def repeat(samples: Samples, length: int, pause: int = 0) -> Samples:
    """Repeat a sound, with *pause* samples of silence between, up to *length* samples."""
    unit = np.concatenate([samples, np.zeros(pause, np.float32)])
    return np.tile(unit, -(-length // len(unit)))[:length]


def colour(samples: Samples, rng: np.random.Generator, most_db: float = 9.0) -> Samples:
    """Filter with a smooth random curve of up to +-*most_db*, and sometimes cut off low or high frequencies as small microphones do."""
    spectrum = np.fft.rfft(samples)
    hz = np.linspace(0.0, SAMPLE_RATE_HZ / 2, len(spectrum))
    octave = np.log2(np.maximum(hz, 31.25) / 31.25)  # 0 to 8
    gain = np.interp(octave, np.linspace(0, 8, 6), rng.uniform(-most_db, most_db, 6))
    if rng.random() < 0.25:  # noqa: PLR2004
        gain -= 24.0 * np.clip(np.log2(rng.uniform(80, 500) / np.maximum(hz, 1.0)), 0, 3)
    if rng.random() < 0.25:  # noqa: PLR2004
        gain -= 24.0 * np.clip(np.log2(np.maximum(hz, 1.0) / rng.uniform(2000, 6000)), 0, 3)
    return np.fft.irfft(spectrum * 10.0 ** (gain / 20.0), len(samples)).astype(np.float32)


def reverberate(samples: Samples, rng: np.random.Generator) -> Samples:
    """Add the reverberation of a room: exponentially decaying noise (to -60 dB in 0.1 to 0.9 s) added to the direct sound."""
    decay_s = rng.uniform(0.1, 0.9)
    length = int(decay_s * SAMPLE_RATE_HZ)
    tail = rng.normal(size=length) * 10.0 ** (-3.0 * np.arange(length) / length)
    tail[: int(rng.uniform(0.001, 0.015) * SAMPLE_RATE_HZ)] = 0.0  # the first reflection comes later than the direct sound
    tail *= 10.0 ** (rng.uniform(-14, 2) / 20.0) / max(float(np.sqrt(np.sum(tail**2))), 1e-9)
    tail[0] += 1.0
    size = 1 << (len(samples) + length - 1).bit_length()
    wet = np.fft.irfft(np.fft.rfft(samples, size) * np.fft.rfft(tail, size), size)[: len(samples)]
    return wet.astype(np.float32)


def noise(length: int, rng: np.random.Generator) -> Samples:
    """Make noise of a random colour, from white to steeply falling, RMS 1, sometimes with mains hum."""
    spectrum = np.fft.rfft(rng.normal(size=length))
    hz = np.linspace(0.0, SAMPLE_RATE_HZ / 2, len(spectrum))
    spectrum *= np.maximum(hz, 20.0) ** -rng.uniform(0.0, 1.2)
    wave = np.fft.irfft(spectrum, length)
    wave /= max(float(wave.std()), 1e-9)
    if rng.random() < 0.2:  # noqa: PLR2004
        t = np.arange(length) / SAMPLE_RATE_HZ
        base = rng.choice([50.0, 60.0])
        wave += rng.uniform(0.3, 2.0) * sum(np.sin(2 * np.pi * base * k * t + k) / k for k in range(1, 6))
        wave /= float(wave.std())
    return wave.astype(np.float32)
