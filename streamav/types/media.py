"""Defines sound, pictures and segments, as capture and the segmenter make them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from streamav.errors import ShapeError
from streamav.types.shape import check_array

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "SAMPLES_PER_SEGMENT",
    "SAMPLE_RATE_HZ",
    "SEGMENT_NS",
    "WINDOW_SEGMENTS",
    "AudioBlock",
    "Box",
    "Quality",
    "Segment",
    "Signs",
    "VideoFrame",
    "looked_places",
]

SAMPLE_RATE_HZ = 16_000
"""Sample rate of every sound inside streamav (VGGish and YAMNet take 16 kHz)."""
SAMPLES_PER_SEGMENT = 16_000
"""N: samples of one segment."""
SEGMENT_NS = 1_000_000_000
"""Length of a segment, 1 s."""
WINDOW_SEGMENTS = 10
"""T: segments of a full window (AVE, VSCG section III-A)."""
Box = tuple[float, float, float, float]
"""Part of the picture: x0, y0, x1, y1, range 0 to 1 from the top left corner."""


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class AudioBlock:
    """A stretch of sound as capture delivers it."""

    start_ns: int
    """Time of the first sample."""
    samples: NDArray[np.float32]
    """Shape (n,), n >= 1: mono, 16 kHz, range [-1, 1]."""
    lone_channel: bool = False
    """True when it was mixed from two channels of which one is digitally silent and the other one is not."""

    def __post_init__(self) -> None:
        """Check the samples."""
        check_array("AudioBlock.samples", self.samples, (None,), np.float32)

    @property
    def end_ns(self) -> int:
        """Time after the last sample. The block is complete from then on; a live source cannot deliver it earlier."""
        return self.start_ns + self.samples.size * SEGMENT_NS // SAMPLE_RATE_HZ


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class VideoFrame:
    """One picture as capture delivers it, already scaled to the size that the model takes."""

    start_ns: int
    """Time from which the picture is on display."""
    pixels: NDArray[np.uint8]
    """Shape (H, W, 3): RGB."""

    def __post_init__(self) -> None:
        """Check the pixels."""
        check_array("VideoFrame.pixels", self.pixels, (None, None, 3), np.uint8)

    @property
    def end_ns(self) -> int:
        """Equal to `start_ns`. A picture stays until the next one, whose time is not known yet, and is complete when it is shown."""
        return self.start_ns


@dataclass(frozen=True, slots=True, kw_only=True)
class Signs:
    """Signs by which a dead camera or microphone is recognised; None where there was nothing to measure."""

    novelty: float | None = None
    """Share of the picture that was not shown before in the last ten seconds, 0 to 1: mean over the new pictures of the segment."""
    detail: float | None = None
    """Differences of brightness between parts of the newest picture, 0 to 255: the level that nine of ten of them do not reach."""
    brightness: float | None = None
    """Mean of the newest picture, 0 to 255."""
    swing: float | None = None
    """Standard deviation of the samples, 0 to 1: 0 in digital silence, also where all samples have another value than 0."""
    offset: float = 0.0
    """Mean of the samples, -1 to 1."""
    clipped: float = 0.0
    """Share of the samples at full scale, 0 to 1."""
    lone_channel: bool = False
    """True when one of two channels is digitally silent and the other one is not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """How much of a segment was filled in because it never arrived, and what the rest is like."""

    missing_samples: int = 0
    """Samples of the segment that never arrived and are zero, 0 to 16 000."""
    repeated_frames: int = 0
    """Frames of the segment that repeat an older picture because no newer one arrived, 0 to F."""
    picture_missing: bool = False
    """True when every picture that could be shown is more than 2 s away: the frames are black."""
    signs: Signs = field(default=Signs(), compare=False)
    """What the sound and the pictures that arrived are like."""

    @property
    def sound_missing(self) -> bool:
        """True when the segment has no sound at all."""
        return self.missing_samples >= SAMPLES_PER_SEGMENT

    @property
    def one_sided(self) -> bool:
        """True when the segment has no sound at all or no picture: nothing is heard and seen in it, so it is background."""
        return self.picture_missing or self.sound_missing


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Segment:
    """One second of sound and picture, exactly."""

    index: int
    """Number of the segment since the source opened, from 0, without gaps."""
    start_ns: int
    """index * 1 s on the media clock."""
    audio: NDArray[np.float32]
    """Shape (16000,): mono, 16 kHz, range [-1, 1]."""
    frames: NDArray[np.uint8]
    """Shape (F, h, w, 3): RGB, the pictures on display at index + i / F seconds."""
    quality: Quality = field(default_factory=Quality)

    def __post_init__(self) -> None:
        """Check both arrays."""
        check_array("Segment.audio", self.audio, (SAMPLES_PER_SEGMENT,), np.float32)
        check_array("Segment.frames", self.frames, (None, None, None, 3), np.uint8)

    def looked_at(self, frames: int | None) -> Segment:
        """Return the segment with at most *frames* of its frames, each from the middle of an equal part of it; None keeps all.

        Raises:
            ShapeError: when *frames* is below 1.
        """
        if frames is not None and frames < 1:
            msg = f"the frames of a segment to look at must be at least 1, got {frames}"
            raise ShapeError(msg)
        available = len(self.frames)
        if frames is None or frames >= available:
            return self
        return replace(self, frames=self.frames[looked_places(frames, available)])


def looked_places(frames: int, available: int) -> list[int]:
    """Return the numbers of *frames* out of *available* frames of a segment, each from the middle of an equal part of it."""
    return [(2 * place + 1) * available // (2 * frames) for place in range(frames)] if frames < available else list(range(available))
