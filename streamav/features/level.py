"""Measures how loud a segment is, and how much a quiet one is amplified before the encoders. Pure numpy."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["LEAST_DBFS", "MOST_GAIN_DB", "gain_of", "level_dbfs"]

LEAST_DBFS = -25.0
"""Least level of our models. Half of the seconds of 187 real recordings have -22 dBFS or more, three quarters -30 or more. With -20 and -30
fewer clips were named (docs/results.md)."""
MOST_GAIN_DB = 30.0
"""Most amplification of a quiet segment (our choice). 40 dB named no clip more, and made two false
events more an hour where sound was 30 dB quieter (docs/results.md)."""


def level_dbfs(samples: NDArray[np.float32]) -> float | None:
    """Return the RMS level in dB relative to full scale (a square wave of amplitude 1), at most 0; None in digital silence.

    Args:
        samples: shape (n,), range [-1, 1].

    Source: dBFS as in AES17, but relative to a full-scale square wave, so that no sound exceeds 0.
    """
    power = float(np.mean(np.square(samples, dtype=np.float64)))
    return None if power <= 0.0 else min(0.0, 10.0 * math.log10(power))


def gain_of(samples: NDArray[np.float32], least_dbfs: float | None) -> float:
    """Return the factor that brings a segment to its least level, 1 to 31.6; 1 without such a level, and in digital silence.

    Args:
        samples: shape (n,), range [-1, 1].
        least_dbfs: RMS level relative to a full-scale square wave, as `level_dbfs`; None for no least level.
    """
    level = None if least_dbfs is None else level_dbfs(samples)
    if least_dbfs is None or level is None:
        return 1.0
    return float(10.0 ** (min(max(least_dbfs - level, 0.0), MOST_GAIN_DB) / 20.0))
