"""Computes the input of the audio encoder from the sound of segments, and the level of the sound. Pure numpy."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from streamav.features.logmel import log_mel

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from streamav.features.logmel import LogMelOptions
    from streamav.types import Segment

__all__ = ["level_dbfs", "patches"]


def patches(segments: Sequence[Segment], options: LogMelOptions) -> NDArray[np.float32]:
    """Return the log-mel patches of B segments, shape (B, 96, 64), float32.

    Args:
        segments: at least one.
        options: of the front end, from the model card.
    """
    return np.stack([log_mel(segment.audio, options) for segment in segments])


def level_dbfs(samples: NDArray[np.float32]) -> float | None:
    """Return the RMS level in dB relative to full scale (a square wave of amplitude 1), at most 0; None in digital silence.

    Args:
        samples: shape (n,), range [-1, 1].

    Source: dBFS as in AES17, but relative to a full-scale square wave, so that no sound exceeds 0.
    """
    power = float(np.mean(np.square(samples, dtype=np.float64)))
    return None if power <= 0.0 else min(0.0, 10.0 * math.log10(power))
