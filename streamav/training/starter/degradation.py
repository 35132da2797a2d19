"""Makes log-mel patches sound as rooms, cheap microphones and codecs leave them, while the teacher hears them clean.

A student that learns the scores of the clean sound from a degraded one names events through noise and narrow bands. All of it happens
in the log-mel domain: a patch is ln(m + 0.001) of mel magnitudes m, and powers m squared of independent sounds add up.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from streamav.features.logmel import HOP_SAMPLES, band_hz, log_mel
from streamav.training.composite.sound import noise
from streamav.training.composite.views import segment_of_ambience
from streamav.training.starter.sound_examples import OFFSET
from streamav.types import SAMPLE_RATE_HZ, SAMPLES_PER_SEGMENT

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from streamav.training.composite.material import Material

__all__ = ["degraded", "noise_patches"]

_NOISY, _NARROW, _ROOMY, _LEVELLED = 0.5, 0.3, 0.15, 0.2
"""Share of the patches that get each kind of degradation."""
_SNR_DB = (3.0, 32.0)
"""From noise as loud as most ears accept to noise that is hardly audible."""
_UPPER_HZ = (3300.0, 3500.0, 4000.0, 5000.0, 5500.0, 6500.0)
"""Upper limits of codecs: G.711 (3400 Hz), and AAC and Opus at low rates."""
_LOWER_HZ = (0.0, 0.0, 120.0, 200.0, 300.0)
"""Lower limits: none, high-pass filters of cameras, G.711 (300 Hz)."""
_FLOOR_DB = (30.0, 80.0)
"""What an upper limit leaves above it."""
_DECAY_S = (0.2, 0.9)
"""Time in which a room's sound falls by 60 dB."""
_LEVEL_DB = (-10.0, 8.0)
_NOISE_DBFS = -20.0
"""Level at which noise is turned into patches; only its shape counts."""


def noise_patches(material: Material, count: int, seed: int) -> Tensor:
    """Return patches (count, 96, 64) of noise for `degraded`: one half of noise of random colour with hum, one half of ambience."""
    rng = np.random.default_rng(seed)
    ambients = material.of("ambient")
    gain = np.float32(10.0 ** (_NOISE_DBFS / 20.0))
    waves = (
        segment_of_ambience(material, ambients, rng) if ambients and place % 2 else noise(SAMPLES_PER_SEGMENT, rng)
        for place in range(count)
    )
    return torch.from_numpy(np.stack([log_mel(wave * gain, OFFSET) for wave in waves]))


def degraded(patches: Tensor, noises: Tensor, generator: torch.Generator) -> Tensor:
    """Return patches (B, 96, 64) of which some have a room, noise, a narrow band or another level.

    Args:
        patches: ln(mel magnitude + 0.001); they stay as they are.
        noises: patches of noise (N, 96, 64), N >= 1.
        generator: of all random choices.
    """
    magnitude = (patches.exp() - OFFSET.offset).clamp_min(0.0)
    chosen = torch.rand(4, len(patches), generator=generator) < torch.tensor([_ROOMY, _NOISY, _NARROW, _LEVELLED])[:, None]
    changes: tuple[Callable[[Tensor, torch.Generator], Tensor], ...] = (_in_room, partial(_with_noise, noises=noises), _narrow, _level)
    for some, change in zip(chosen, changes, strict=True):
        if some.any():
            magnitude[some] = change(magnitude[some], generator)
    return (magnitude + OFFSET.offset).log()


def _between(bounds: tuple[float, float], count: int, generator: torch.Generator) -> Tensor:
    low, high = bounds
    return low + (high - low) * torch.rand(count, generator=generator)


def _one_of(values: Sequence[float], count: int, generator: torch.Generator) -> Tensor:
    return torch.tensor(values)[torch.randint(len(values), (count,), generator=generator)]


def _with_noise(magnitude: Tensor, generator: torch.Generator, noises: Tensor) -> Tensor:
    """Add noise; the ratio is that of the mean powers over the patch."""
    count = len(magnitude)
    drawn = (noises[torch.randint(len(noises), (count,), generator=generator)].exp() - OFFSET.offset).clamp_min(0.0)
    power, other = (one.square().mean((1, 2)) for one in (magnitude, drawn))
    gain = (power / other.clamp_min(1e-9)).sqrt() * 10.0 ** (-_between(_SNR_DB, count, generator) / 20.0)
    return (magnitude.square() + (gain[:, None, None] * drawn).square()).sqrt()


def _narrow(magnitude: Tensor, generator: torch.Generator) -> Tensor:
    """Weaken the bands outside the limits of a codec; the slope above the upper limit is steep, the lower one falls by 12 dB an octave."""
    count, hz = len(magnitude), torch.from_numpy(band_hz()).float()
    upper, lower = _one_of(_UPPER_HZ, count, generator)[:, None], _one_of(_LOWER_HZ, count, generator)[:, None]
    floor = 10.0 ** (-_between(_FLOOR_DB, count, generator) / 20.0)[:, None]
    above = floor + (1.0 - floor) * torch.exp(-(hz - upper).clamp_min(0.0) / (0.04 * upper))
    below = torch.where(hz < lower, (hz / lower.clamp_min(1.0)).square(), 1.0)
    return magnitude * (above * below)[:, None]


def _in_room(magnitude: Tensor, generator: torch.Generator) -> Tensor:
    """Smear the powers over time with one exponential decay; the direct sound keeps 10 to 80 % of the power."""
    decay_s = float(_between(_DECAY_S, 1, generator))
    times = torch.arange(magnitude.shape[1] - 1) * (HOP_SAMPLES / SAMPLE_RATE_HZ)
    tail = 10.0 ** (-6.0 * times / decay_s)
    kernel = (tail / tail.sum()).flip(0)[None, None]
    count, frames, bands = magnitude.shape
    power = magnitude.square()
    lines = functional.pad(power.transpose(1, 2).reshape(-1, 1, frames), (kernel.shape[-1] - 1, 0))
    smeared = functional.conv1d(lines, kernel).reshape(count, bands, frames).transpose(1, 2)
    share = _between((0.2, 0.9), 1, generator)
    return ((1.0 - share) * power + share * smeared).sqrt()


def _level(magnitude: Tensor, generator: torch.Generator) -> Tensor:
    return magnitude * (10.0 ** (_between(_LEVEL_DB, len(magnitude), generator) / 20.0))[:, None, None]
