"""Turns segments into features with the two encoders of an engine; all segments that are ready run as one batch.

It uses the role Engine and the model card: no torch, no device, no source.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from streamav.errors import ShapeError
from streamav.features.ahead import encode_rest
from streamav.features.audio import patches
from streamav.features.bars import inside_bars, scene_of, without_bars
from streamav.features.contrast import with_contrast
from streamav.features.level import level_dbfs
from streamav.features.logmel import log_mel_options
from streamav.features.motion import motion_of
from streamav.features.visual import mean_over_frames, pictures
from streamav.types import LookedAt, SegmentFeatures

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from streamav.bundle import ModelCard
    from streamav.protocols import Engine
    from streamav.types import Box, Segment

__all__ = ["SegmentExtractor"]


class SegmentExtractor:
    """Implements the role Extractor."""

    def __init__(self, engine: Engine, card: ModelCard) -> None:
        """Take both encoders from *engine*.

        Args:
            engine: has the networks "visual" and "audio".
            card: sizes of pictures and features, options of the log-mel front end.

        Raises:
            EngineError: when the engine lacks one of them.
        """
        self._visual = engine.network("visual")
        self._audio = engine.network("audio")
        self._card = card
        self._front_end = log_mel_options(card.audio)
        # Evidence without a weight for motion needs no measurement; a model without evidence is measured, because evidence is fitted on it.
        self._measures_motion = card.evidence is None or card.evidence.motion != 0.0

    def look(self, pixels: NDArray[np.uint8]) -> list[LookedAt]:
        """Encode pictures of segments that are not complete yet, shape (n, h, w, 3), as one batch."""
        outputs = self._encode(pixels)
        return [LookedAt(pixels[place], tuple(array[place] for array in outputs)) for place in range(len(pixels))]

    def extract(self, segments: Sequence[Segment], ahead: Sequence[Sequence[LookedAt]] | None = None) -> list[SegmentFeatures]:
        """Return the features of one or more segments, possibly of several sources, as one batch.

        Args:
            segments: the segments.
            ahead: for each segment, the pictures that look() has encoded; they are not encoded again. None for none.

        Raises:
            ShapeError: when pictures do not have the size of the model, or an encoder returns another shape than its card states.
            EngineError: when a network fails.
        """
        if not segments:
            return []
        self._check(segments)
        seen = pictures(segments)
        grids, *seen_scores = self._encode(seen.pixels) if ahead is None else encode_rest(self._encode, seen.pixels, seen.counts, ahead)
        audio, *heard_scores = self._audio(patches(segments, self._front_end))
        card = self._card
        wanted = ((len(segments), card.audio.size), (len(seen.pixels), card.visual.grid, card.visual.grid, card.visual.size))
        if (audio.shape, grids.shape) != wanted:
            msg = f"the encoders of model {card.name} must return shapes {wanted[0]} and {wanted[1]}, got {audio.shape} and {grids.shape}"
            raise ShapeError(msg)
        visual = mean_over_frames(grids, seen.counts, seen.shown)
        # An encoder that scores its own classes returns them as a second array.
        looks = [mean_over_frames(scores, seen.counts, seen.shown) for scores in seen_scores]
        return [
            SegmentFeatures(
                index=segment.index,
                start_ns=segment.start_ns,
                audio=audio[place],
                visual=visual[place],
                level_dbfs=level_dbfs(segment.audio),
                quality=segment.quality,
                heard=heard_scores[0][place] if heard_scores else None,
                seen=looks[0][place] if looks else None,
                motion=motion_of(scene_of(segment.frames, box)) if looks and self._measures_motion else 0.0,
                inside=box,
            )
            for place, (segment, box) in enumerate(zip(segments, map(self._inside, segments), strict=True))
        ]

    def _encode(self, pixels: NDArray[np.uint8]) -> tuple[NDArray[np.float32], ...]:
        card = self._card.visual
        shown = without_bars(pixels) if card.cuts_bars else pixels
        return self._visual(shown if card.least_contrast is None else with_contrast(shown, card.least_contrast))

    def _inside(self, segment: Segment) -> Box | None:
        """Return the box of the scene in the middle one of the segment's pictures; None without bars, and where they are not cut off."""
        return inside_bars(segment.frames[len(segment.frames) // 2]) if self._card.visual.cuts_bars else None

    def _check(self, segments: Sequence[Segment]) -> None:
        picture = tuple(self._card.visual.picture)
        for segment in segments:
            if segment.frames.shape[1:3] != picture:
                msg = f"the pictures of a segment must be {picture} (height, width), got {segment.frames.shape[1:3]}"
                raise ShapeError(msg)
