"""Turns the sound of one segment into the log-mel patch that the audio encoders take.

Pure numpy: it uses no network, device or file. VGGish takes offset 0.01, YAMNet and the compact encoder take 0.001.

The offset makes a patch depend on the level: of a quiet sound little is left beside it. Public encoders learned from recordings whose level
people had set; a camera far away is often 30 dB below. So quiet segments can be amplified first.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from threadpoolctl import ThreadpoolController

from streamav.errors import ShapeError
from streamav.features.level import gain_of
from streamav.types import SAMPLE_RATE_HZ, SAMPLES_PER_SEGMENT

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from streamav.bundle import AudioCard

__all__ = [
    "FFT_SAMPLES",
    "FRAME_SAMPLES",
    "HOP_SAMPLES",
    "PATCH_BANDS",
    "PATCH_FRAMES",
    "LogMelOptions",
    "band_hz",
    "hann",
    "log_mel",
    "log_mel_options",
    "mel_bank",
]

PATCH_FRAMES = 96
"""Frames of a patch; they cover the first 15 600 of the segment's 16 000 samples. Source: VGGish, YAMNet."""
PATCH_BANDS = 64
"""Mel bands of a patch. Source: VGGish, YAMNet."""
FRAME_SAMPLES = 400  # 25 ms
HOP_SAMPLES = 160  # 10 ms
FFT_SAMPLES = 512
"""Frame, hop and FFT of 25 ms, 10 ms and 32 ms at 16 kHz. Source: VGGish, mel_features.py and vggish_params.py."""
_LOW_HZ, _HIGH_HZ = 125.0, 7500.0
"""Edges of the lowest and the highest mel band. Source: VGGish, vggish_params.py, MEL_MIN_HZ and MEL_MAX_HZ."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogMelOptions:
    """Options that differ between the log-mel front ends."""

    offset: float = 0.01
    """Added to every mel magnitude before the logarithm, above 0. A smaller offset lets quieter sounds show."""
    least_dbfs: float | None = None
    """A segment below this RMS level, dBFS, is amplified to it, by at most `level.MOST_GAIN_DB`; None amplifies nothing."""

    def __post_init__(self) -> None:
        """Check the offset."""
        if not self.offset > 0.0:
            msg = f"LogMelOptions.offset must be above 0, got {self.offset}"
            raise ShapeError(msg)


def log_mel_options(audio: AudioCard) -> LogMelOptions:
    """Return the options of the front end of a model's audio encoder."""
    return LogMelOptions(offset=audio.log_mel_offset, least_dbfs=audio.least_dbfs)


def _mel(hz: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the HTK mel of frequencies in Hz. Source: The HTK Book, section 5.4 (2595 log10 is 1127 ln)."""
    return np.asarray(1127.0 * np.log1p(hz / 700.0), dtype=np.float64)


def _band_edges() -> NDArray[np.float64]:
    """Return where the bands begin, peak and end, HTK mel, shape (66,): band b begins at b, peaks at b + 1 and ends at b + 2."""
    low, high = _mel(np.array([_LOW_HZ, _HIGH_HZ])).tolist()
    return np.linspace(low, high, PATCH_BANDS + 2)


def band_hz() -> NDArray[np.float64]:
    """Return the frequency at the peak of each mel band, Hz, shape (64,), rising."""
    return np.asarray(700.0 * np.expm1(_band_edges()[1:-1] / 1127.0), dtype=np.float64)


@cache
def mel_bank() -> NDArray[np.float64]:
    """Return the weights from magnitude bins to mel bands, shape (257, 64), range 0 to 1, read-only.

    The triangles are straight lines on the mel axis, not in Hz as in librosa; the constant part has weight zero.

    Source: tensorflow/models:research/audioset/vggish/mel_features.py, spectrogram_to_mel_matrix.
    """
    centre = _mel(np.linspace(0.0, SAMPLE_RATE_HZ / 2, FFT_SAMPLES // 2 + 1))[:, None]
    edge = _band_edges()
    rise = (centre - edge[:-2]) / (edge[1:-1] - edge[:-2])
    fall = (edge[2:] - centre) / (edge[2:] - edge[1:-1])
    weights = np.maximum(0.0, np.minimum(rise, fall))
    weights[0] = 0.0
    bank: NDArray[np.float64] = np.asarray(weights, dtype=np.float64)
    bank.flags.writeable = False
    return bank


@cache
def hann() -> NDArray[np.float64]:
    """Return the periodic Hann window, shape (400,)."""
    window = 0.5 - 0.5 * np.cos(2.0 * np.pi * np.arange(FRAME_SAMPLES) / FRAME_SAMPLES)
    return np.asarray(window, dtype=np.float64)


@cache
def _blas() -> ThreadpoolController:
    """Return the controller that sets the threads of numpy's linear algebra."""
    return ThreadpoolController()


def log_mel(samples: NDArray[np.float32], options: LogMelOptions) -> NDArray[np.float32]:
    """Return the log-mel patch of one segment.

    Args:
        samples: shape (16000,), mono, 16 kHz, range [-1, 1].
        options: offset of the front end, and the level to which quiet segments are amplified.

    Returns:
        Shape (96, 64), float32: time by mel band, natural logarithm of magnitude (not power) plus offset.

    Raises:
        ShapeError: when *samples* is not one segment long.

    Source: VGGish and YAMNet front ends (tensorflow/models:research/audioset/vggish/mel_features.py).
    """
    if samples.shape != (SAMPLES_PER_SEGMENT,):
        msg = f"log_mel takes one segment of shape ({SAMPLES_PER_SEGMENT},), got {samples.shape}"
        raise ShapeError(msg)
    frames = np.lib.stride_tricks.sliding_window_view(samples, FRAME_SAMPLES)[::HOP_SAMPLES][:PATCH_FRAMES]
    magnitude = np.abs(np.fft.rfft(frames * hann(), FFT_SAMPLES))
    # For this small product OpenBLAS would wake a second thread, which then spins for about 60 ms: longer than the networks take.
    with _blas().limit(limits=1, user_api="blas"):
        mel = magnitude @ mel_bank()
    return np.log(mel * gain_of(samples, options.least_dbfs) + options.offset).astype(np.float32)
