"""Tests of sounds that rooms, noise and codecs have degraded, in the log-mel domain."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from streamav.features.logmel import LogMelOptions, band_hz, log_mel
from streamav.training.starter import degradation
from streamav.training.starter.degradation import degraded

FRONT_END = LogMelOptions(offset=0.001)


def tones(seed: int) -> torch.Tensor:
    """Return patches (8, 96, 64) of a tone at 1 kHz that begins in the middle, each at another level."""
    time = np.arange(16_000) / 16_000
    wave = np.where(time > 0.5, np.sin(2 * np.pi * 1000.0 * time), 0.0).astype(np.float32)
    levels = np.random.default_rng(seed).uniform(0.01, 0.5, 8).astype(np.float32)
    return torch.from_numpy(np.stack([log_mel(wave * level, FRONT_END) for level in levels]))


@given(st.integers(0, 1000))
def test_patches_stay_patches(seed: int) -> None:
    """Degraded patches have the shape, the least value and the finite numbers of patches; the originals do not change."""
    clean = tones(seed)
    kept = clean.clone()
    noises = torch.randn(5, 96, 64, generator=torch.Generator().manual_seed(seed)) - 3.0
    found = degraded(clean, noises, torch.Generator().manual_seed(seed))
    assert found.shape == clean.shape
    assert torch.isfinite(found).all()
    assert (found >= np.log(0.001) - 1e-4).all()
    assert torch.equal(clean, kept)
    again = degraded(clean, noises, torch.Generator().manual_seed(seed))
    assert torch.equal(found, again)


def only(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    for name in ("_NOISY", "_NARROW", "_ROOMY", "_LEVELLED"):
        monkeypatch.setattr(degradation, name, float(name == kind))


def test_noise_has_the_power_that_its_ratio_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """With noise of a ratio of 10 dB the mean power of a patch grows by a tenth."""
    only(monkeypatch, "_NOISY")
    monkeypatch.setattr(degradation, "_SNR_DB", (10.0, 10.0))
    clean = tones(0)
    found = degraded(clean, torch.full((1, 96, 64), -2.0), torch.Generator().manual_seed(0))
    power = [(one.exp() - 0.001).square().mean((1, 2)) for one in (clean, found)]
    np.testing.assert_allclose(power[1] / power[0], 1.1, rtol=1e-3)


def test_a_codec_takes_the_bands_outside_its_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between 300 Hz and 3300 Hz nothing changes; far above the upper limit at most -30 dB are left."""
    only(monkeypatch, "_NARROW")
    flat = torch.zeros(16, 96, 64)
    found = degraded(flat, flat[:1], torch.Generator().manual_seed(0))
    hz = band_hz()
    inside, far = (hz > 300) & (hz < 3300), hz > 7300
    np.testing.assert_allclose(found[:, :, inside], 0.0, atol=1e-5)
    assert (found[:, :, far] < np.log(10 ** (-30 / 20) + 0.02)).all()


def test_a_room_lengthens_a_sound_and_adds_no_power(monkeypatch: pytest.MonkeyPatch) -> None:
    """A click is heard after it is over, never before it, and the sum of its power does not grow."""
    only(monkeypatch, "_ROOMY")
    click = torch.full((4, 96, 64), float(np.log(0.001)))
    click[:, 10] = 0.0
    found = degraded(click, click[:1], torch.Generator().manual_seed(0))
    power = (found.exp() - 0.001).clamp_min(0).square().sum((1, 2))
    assert (power <= (click.exp() - 0.001).square().sum((1, 2)) * 1.001).all()
    assert (found[:, :10] <= np.log(0.001) + 1e-3).all()
    assert (found[:, 20] > np.log(0.001) + 0.5).all()


def test_bands_rise_from_125_to_7500_hz() -> None:
    """The middles of the bands rise and lie between the ends of the mel bank; a tone is loudest in the band that is nearest to it."""
    hz = band_hz()
    assert (np.diff(hz) > 0).all()
    assert 125 < hz[0] < hz[-1] < 7500
    for tone in (300.0, 1000.0, 4000.0):
        wave = (0.5 * np.sin(2 * np.pi * tone * np.arange(16_000) / 16_000)).astype(np.float32)
        loudest = log_mel(wave, FRONT_END).mean(0).argmax()
        assert abs(loudest - np.abs(hz - tone).argmin()) <= 1
