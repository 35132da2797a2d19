"""Computes the input of the audio encoder from the sound of segments. Pure numpy."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from streamav.features.logmel import log_mel

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from streamav.features.logmel import LogMelOptions
    from streamav.types import Segment

__all__ = ["patches"]


def patches(segments: Sequence[Segment], options: LogMelOptions) -> NDArray[np.float32]:
    """Return the log-mel patches of B segments, shape (B, 96, 64), float32.

    Args:
        segments: at least one.
        options: of the front end, from the model card.
    """
    return np.stack([log_mel(segment.audio, options) for segment in segments])
