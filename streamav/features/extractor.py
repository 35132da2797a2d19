"""Runs both encoders over segments: one vector of sound and one grid of the picture a second.

Segments of several sources run as one batch. It knows no window, no class and no device.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from streamav.features.logmel import LogMelOptions, log_mel
from streamav.types import SegmentFeatures

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from streamav.bundle import ModelCard
    from streamav.protocols import Engine
    from streamav.types import Segment

__all__ = ["SegmentExtractor", "level_dbfs"]


class SegmentExtractor:
    """Fills the role Extractor with the networks "audio" and "visual" of an engine."""

    def __init__(self, engine: Engine, card: ModelCard) -> None:
        """Take both networks from *engine*, and the front end of the sound from *card*.

        Raises:
            EngineError: when the engine lacks one of them.
        """
        self._audio = engine.network("audio")
        self._visual = engine.network("visual")
        self._log_mel = LogMelOptions(offset=card.audio.log_mel_offset)

    def extract(self, segments: Sequence[Segment]) -> list[SegmentFeatures]:
        """Give the features of segments, which may differ in their number of frames; the grid is the mean over a segment's frames.

        Source: AVE's features are the mean over the frames of a second (YapengTian/AVE-ECCV18, visual feature script).
        """
        if not segments:
            return []
        (audio,) = self._audio(np.stack([log_mel(segment.audio, self._log_mel) for segment in segments]))
        (grids,) = self._visual(np.concatenate([segment.frames for segment in segments]))
        ends = np.cumsum([len(segment.frames) for segment in segments])
        visual = [part.mean(axis=0, dtype=np.float32) for part in np.split(grids, ends[:-1])]
        return [
            SegmentFeatures(
                index=segment.index,
                start_ns=segment.start_ns,
                audio=np.asarray(audio[number], np.float32),
                visual=visual[number],
                level_dbfs=level_dbfs(segment.audio),
                quality=segment.quality,
            )
            for number, segment in enumerate(segments)
        ]


def level_dbfs(samples: NDArray[np.float32]) -> float | None:
    """Give the RMS level, dBFS (0 for a full-scale square wave), of samples (n,) in [-1, 1]; None in digital silence."""
    power = float(np.mean(np.square(samples, dtype=np.float64)))
    return min(0.0, 10.0 * math.log10(power)) if power > 0.0 else None
