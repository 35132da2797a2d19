"""Synthesizes the sounds of the things in the rendered scene, each in many variants, with numpy only.

It handles neither pictures nor scene. All sounds are our own; none is a recording.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from streamav.errors import SettingsError
from streamav.types import SAMPLE_RATE_HZ

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

__all__ = ["Voice", "ambience", "synthesize"]

_RMS = 0.1  # -20 dBFS
_FADE_S = 0.01
"""Length of the fades at both ends, s, against clicks."""


def synthesize(kind: str, seconds: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """Synthesize the sound of one thing of a kind.

    Args:
        kind: one of `streamav.capture.scene.KINDS`.
        seconds: length, at least 0.1.
        rng: chooses pitch, pace and timbre.

    Returns:
        Shape (round(seconds * 16000),) float32: mono, 16 kHz, RMS 0.1 (-20 dBFS) or less, range [-1, 1],
        with fades of 10 ms at both ends.

    Raises:
        SettingsError: when there is no such kind, or the sound would be shorter than 0.1 s.
    """
    if kind not in _SYNTHESIZERS:
        msg = f"a kind of the scene must be one of {', '.join(sorted(_SYNTHESIZERS))}, got {kind!r}"
        raise SettingsError(msg)
    count = round(seconds * SAMPLE_RATE_HZ)
    if count < SAMPLE_RATE_HZ // 10:
        msg = f"a synthesized sound must last at least 0.1 s, got {seconds} s"
        raise SettingsError(msg)
    sound = _SYNTHESIZERS[kind](count, rng)
    sound *= _RMS / max(float(np.sqrt(np.mean(sound**2))), 1e-9)
    sound /= max(1.0, float(np.abs(sound).max()) / 0.95)  # ticks have high peaks: their RMS ends lower, so that no peak exceeds 1
    ramp = np.linspace(0.0, 1.0, round(_FADE_S * SAMPLE_RATE_HZ))
    sound[: ramp.size] *= ramp
    sound[-ramp.size :] *= ramp[::-1]
    return sound.astype(np.float32)


class Voice:
    """The sound of one thing from an onset to an offset: synthesized when its first sample is due, freed after its last."""

    def __init__(self, kind: str, onset_s: float, offset_s: float, *, seed: Sequence[int]) -> None:
        """Keep kind, times and seed; nothing is synthesized yet. Equal seeds give equal sounds. Kind and length as in `synthesize`."""
        self._kind, self._seconds, self._seed = kind, offset_s - onset_s, seed
        self._start = round(onset_s * SAMPLE_RATE_HZ)
        self._stop = self._start + round(self._seconds * SAMPLE_RATE_HZ)
        self._samples: NDArray[np.float32] | None = None

    def mix_into(self, block: NDArray[np.float32], begin: int) -> None:
        """Add the sound from sample *begin* on to *block*, shape (n,), in place; blocks must come in the order of their times.

        Raises:
            SettingsError: when there is no such kind, or the sound is shorter than 0.1 s.
        """
        end = begin + block.size
        first, last = max(begin, self._start), min(end, self._stop)
        if first < last:
            if self._samples is None:
                self._samples = synthesize(self._kind, self._seconds, np.random.default_rng(self._seed))
            block[first - begin : last - begin] += self._samples[first - self._start : last - self._start]
        if self._stop <= end:
            self._samples = None


def ambience(seconds: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """Synthesize the murmur of a room, shape (round(seconds * 16000),) float32, RMS 1: noise that falls by 3 to 6 dB an octave."""
    count = round(seconds * SAMPLE_RATE_HZ)
    noise = _noise(count, rng, 30.0, 7_000.0, slope=float(rng.uniform(0.5, 1.0)))
    return np.asarray(noise / max(float(np.sqrt(np.mean(noise**2))), 1e-9), np.float32)


def _noise(count: int, rng: np.random.Generator, low_hz: float, high_hz: float, slope: float = 0.0) -> NDArray[np.float64]:
    """Return noise between two frequencies whose amplitude falls as frequency to the power of -slope."""
    hz = np.fft.rfftfreq(count, 1.0 / SAMPLE_RATE_HZ)
    gain = np.where((hz >= low_hz) & (hz <= high_hz), np.maximum(hz, low_hz) ** -slope, 0.0)
    noise = np.fft.irfft(np.fft.rfft(rng.standard_normal(count)) * gain, count)
    return np.asarray(noise / max(float(np.abs(noise).max()), 1e-12), np.float64)


def _tone(hz: NDArray[np.float64], harmonics: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return a tone of changing pitch, shape as *hz*; harmonics above 7.5 kHz are left out."""
    phase = 2.0 * np.pi * np.cumsum(hz) / SAMPLE_RATE_HZ
    sound = np.zeros_like(phase)
    for number, weight in enumerate(harmonics, start=1):
        sound += weight * np.sin(number * phase) * (number * hz < 7_500.0)  # noqa: PLR2004
    return sound


def _add(sound: NDArray[np.float64], at_s: float, part: NDArray[np.float64]) -> None:
    """Mix *part* into *sound* from *at_s* on, cut where the sound ends."""
    start = round(at_s * SAMPLE_RATE_HZ)
    room = sound[start : start + part.size]
    room += part[: room.size]


def _siren(count: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Synthesize two tones in turn, or a wail that rises and falls."""
    time_s = np.arange(count) / SAMPLE_RATE_HZ
    low = float(rng.uniform(430.0, 700.0))
    if rng.random() < 0.5:  # noqa: PLR2004
        high, period_s = low * float(rng.uniform(1.25, 1.5)), float(rng.uniform(0.8, 1.4))
        step = np.tanh(12.0 * np.sin(2 * np.pi * time_s / period_s))
    else:
        high, period_s = low * float(rng.uniform(1.8, 2.6)), float(rng.uniform(0.6, 3.0))
        step = -np.cos(2 * np.pi * time_s / period_s)
    hz = low + (high - low) * (0.5 + 0.5 * step)
    weights = np.arange(1, 9, dtype=np.float64) ** -float(rng.uniform(0.8, 1.6))
    return np.tanh(float(rng.uniform(0.8, 2.0)) * _tone(hz, weights))


def _clock(count: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Synthesize ticks: short ringing clicks of two pitches in turn at an even pace."""
    sound = 0.004 * rng.standard_normal(count)
    pace_hz, pitch = float(rng.uniform(2.0, 5.0)), float(rng.uniform(1_800.0, 4_500.0))
    decay_s, time_s = float(rng.uniform(0.004, 0.015)), np.arange(round(0.12 * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    clicks = []
    for factor in (1.0, float(rng.uniform(0.75, 0.95))):
        ring = np.sin(2 * np.pi * pitch * factor * time_s) + 0.6 * np.sin(2 * np.pi * 1.73 * pitch * factor * time_s)
        clicks.append((ring + 0.8 * rng.standard_normal(time_s.size)) * np.exp(-time_s / decay_s))
    for number in range(int(count / SAMPLE_RATE_HZ * pace_hz) + 1):
        _add(sound, number / pace_hz, clicks[number % 2] * (1.0 if number % 2 == 0 else 0.8))
    return sound


def _bird(count: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Synthesize phrases of chirps that glide between 2 and 7 kHz, with short rests."""
    sound = 0.002 * rng.standard_normal(count)
    centre, at_s = float(rng.uniform(2_800.0, 5_200.0)), float(rng.uniform(0.0, 0.1))
    while at_s < count / SAMPLE_RATE_HZ:
        length_s, bend = float(rng.uniform(0.05, 0.18)), float(rng.uniform(-0.35, 0.35))
        for _ in range(int(rng.integers(2, 6))):
            along = np.linspace(-1.0, 1.0, round(length_s * SAMPLE_RATE_HZ))
            hz = np.clip(centre * (1.0 + bend * along + 0.05 * np.sin(40.0 * along)), 1_800.0, 7_200.0)
            _add(sound, at_s, _tone(hz, np.array([1.0, 0.15])) * np.cos(np.pi / 2 * along) ** 2)
            at_s += length_s + float(rng.uniform(0.02, 0.08))
        at_s += float(rng.uniform(0.1, 0.35))
    return sound


def _train(count: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Synthesize a rumble, the double knock of wheels on rail joints, and sometimes a horn of several notes."""
    seconds = count / SAMPLE_RATE_HZ
    sound = _noise(count, rng, 40.0, 900.0, slope=0.9) + 0.25 * _noise(count, rng, 900.0, 5_000.0, slope=0.5)
    time_s = np.arange(round(0.1 * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    knock = 1.5 * (rng.standard_normal(time_s.size) * np.exp(-time_s / 0.02) + np.sin(2 * np.pi * 180 * time_s) * np.exp(-time_s / 0.04))
    pace_hz = float(rng.uniform(1.2, 2.4))
    for number in range(int(seconds * pace_hz) + 1):
        for late_s in (0.0, 0.13):
            _add(sound, number / pace_hz + late_s, knock * float(rng.uniform(0.6, 1.0)))
    chord, at_s = float(rng.uniform(260.0, 340.0)) * np.array([1.0, 1.19, 1.34, 1.59]), float(rng.uniform(0.0, 0.4))
    while at_s < seconds:
        length = round(float(rng.uniform(0.7, 1.6)) * SAMPLE_RATE_HZ)
        envelope = np.minimum(1.0, np.minimum(np.arange(length), np.arange(length)[::-1]) / 800.0)
        weights = np.arange(1, 11, dtype=np.float64) ** -0.9
        _add(sound, at_s, 0.35 * envelope * sum(_tone(np.full(length, hz), weights) for hz in chord))
        at_s += length / SAMPLE_RATE_HZ + float(rng.uniform(0.3, 1.2))
    return sound


def _helicopter(count: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Synthesize the beat of rotor blades and the whine of a turbine."""
    time_s = np.arange(count) / SAMPLE_RATE_HZ
    blade_hz = float(rng.uniform(9.0, 18.0)) * (1.0 + 0.01 * np.sin(2 * np.pi * 0.3 * time_s))
    beat = 0.5 + 0.5 * np.sin(2 * np.pi * np.cumsum(blade_hz) / SAMPLE_RATE_HZ)
    sharp = beat ** float(rng.uniform(3.0, 8.0))
    wash = _noise(count, rng, 50.0, float(rng.uniform(700.0, 1_800.0)), slope=0.6) + 0.3 * _noise(count, rng, 1_000.0, 5_000.0, slope=0.5)
    low = np.sin(2 * np.pi * float(rng.uniform(60.0, 110.0)) * time_s)
    whine = np.sin(2 * np.pi * float(rng.uniform(1_500.0, 3_200.0)) * time_s)
    return (0.15 + sharp) * wash + 0.5 * sharp * low + float(rng.uniform(0.0, 0.03)) * whine


_SYNTHESIZERS: dict[str, Callable[[int, np.random.Generator], NDArray[np.float64]]] = {
    "bird": _bird,
    "clock": _clock,
    "helicopter": _helicopter,
    "siren": _siren,
    "train": _train,
}
