from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamav.errors import ShapeError
from streamav.features.level import MOST_GAIN_DB, gain_of
from streamav.features.logmel import LogMelOptions, log_mel, mel_bank

if TYPE_CHECKING:
    from pathlib import Path


def _tone(hz: float, amplitude: float = 0.5) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    return (amplitude * np.sin(2.0 * np.pi * hz * np.arange(16_000) / 16_000)).astype(np.float32)


def test_silence_is_the_logarithm_of_the_offset() -> None:
    """Digital silence gives log(offset) everywhere, so no value is minus infinity."""
    patch = log_mel(np.zeros(16_000, np.float32), LogMelOptions(offset=0.01))
    assert patch.shape == (96, 64)
    assert patch.dtype == np.float32
    np.testing.assert_allclose(patch, np.log(0.01), rtol=1e-6)


@pytest.mark.parametrize("hz", [300.0, 1000.0, 4000.0])
def test_a_tone_peaks_in_the_band_that_holds_it(hz: float) -> None:
    """The loudest band of a pure tone is the one whose centre is nearest on the mel axis."""
    edges = np.linspace(1127.0 * np.log1p(125.0 / 700.0), 1127.0 * np.log1p(7500.0 / 700.0), 66)
    nearest = int(np.argmin(np.abs(edges[1:-1] - 1127.0 * np.log1p(hz / 700.0))))
    patch = log_mel(_tone(hz), LogMelOptions())
    assert abs(int(patch.mean(axis=0).argmax()) - nearest) <= 1


def test_magnitude_doubles_with_amplitude() -> None:
    """Twice the amplitude adds log 2 where the tone is far above the offset: magnitude, not power."""
    quiet, loud = (log_mel(_tone(1000.0, a), LogMelOptions(offset=1e-6)).max() for a in (0.25, 0.5))
    assert loud - quiet == pytest.approx(np.log(2.0), abs=1e-3)


def test_it_equals_the_sum_written_out() -> None:
    """A frame of the patch equals a discrete Fourier transform written as a sum."""
    samples = np.random.default_rng(1).uniform(-0.5, 0.5, 16_000).astype(np.float32)
    n = np.arange(400)
    frame = samples[160 * 7 : 160 * 7 + 400] * (0.5 - 0.5 * np.cos(2.0 * np.pi * n / 400.0))
    spectrum = np.exp(-2j * np.pi * np.outer(np.arange(257), n) / 512.0) @ frame
    expected = np.log(np.abs(spectrum) @ mel_bank() + 0.01)
    np.testing.assert_allclose(log_mel(samples, LogMelOptions())[7], expected, atol=1e-5)


def test_the_mel_bank_is_the_one_yamnet_was_trained_with(shared_data: Path) -> None:
    """The triangles equal the mel matrix stored in YAMNet's own file (kept there in single precision)."""
    safetensors = pytest.importorskip("safetensors.numpy")
    stored = safetensors.load_file(shared_data / "weights" / "yamnet.safetensors")["mel_64x257"]
    np.testing.assert_allclose(mel_bank().T, stored, atol=2e-3)


@pytest.mark.parametrize("count", [15_999, 16_001, 0])
def test_only_whole_segments_are_taken(count: int) -> None:
    """Any length except one segment is refused, and the error states the length."""
    with pytest.raises(ShapeError, match=str(count)):
        log_mel(np.zeros(count, np.float32), LogMelOptions())


def test_the_offset_must_be_positive() -> None:
    """An offset of zero is refused, because silence would give minus infinity."""
    with pytest.raises(ShapeError, match="offset"):
        LogMelOptions(offset=0.0)


@pytest.mark.parametrize("quieter_db", [0.0, 10.0, 30.0])
def test_a_quiet_segment_is_heard_as_a_loud_one(quieter_db: float) -> None:
    """A sound below the least level gives the patch that it gives at this level, as far as 30 dB below."""
    options = LogMelOptions(offset=0.001, least_dbfs=-25.0)
    sound = np.random.default_rng(0).normal(0.0, 10.0 ** (-25.0 / 20.0), 16_000).astype(np.float32)
    sound *= np.float32(10.0 ** (-25.0 / 20.0) / np.sqrt(np.mean(np.square(sound))))
    quiet = sound * np.float32(10.0 ** (-quieter_db / 20.0))
    np.testing.assert_allclose(log_mel(quiet, options), log_mel(sound, options), atol=1e-4)


@given(level_db=st.floats(-120.0, 0.0), least_dbfs=st.none() | st.floats(-60.0, -10.0))
def test_the_gain_is_bounded_and_never_attenuates(level_db: float, least_dbfs: float | None) -> None:
    """The gain is 1 for what is loud enough and without a least level, reaches the least level otherwise, and ends at 30 dB."""
    wave = np.full(16_000, 10.0 ** (level_db / 20.0), np.float32)
    gain_db = 20.0 * np.log10(gain_of(wave, least_dbfs))
    wanted = 0.0 if least_dbfs is None else min(max(least_dbfs - level_db, 0.0), MOST_GAIN_DB)
    assert gain_db == pytest.approx(wanted, abs=1e-3)


def test_silence_stays_silence() -> None:
    """Digital silence has no level, so it is not amplified, and its patch is the logarithm of the offset."""
    assert gain_of(np.zeros(16_000, np.float32), -25.0) == 1.0
    assert (log_mel(np.zeros(16_000, np.float32), LogMelOptions(offset=0.01, least_dbfs=-25.0)) == np.float32(np.log(0.01))).all()
