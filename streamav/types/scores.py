"""Defines what the networks compute: features of segments, windows, and the scores of windows and segments."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from streamav.errors import ShapeError
from streamav.types.media import WINDOW_SEGMENTS, Quality
from streamav.types.shape import check_array

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from streamav.types.media import Box

__all__ = ["FinalScores", "LookedAt", "SegmentFeatures", "SegmentScores", "Window", "WindowScores"]

_MOST_PROBABLE = 1.0 + 1e-4
"""Largest accepted probability: sums of float32 shares may be rounded up."""


@dataclass(frozen=True, slots=True, eq=False)
class LookedAt:
    """One picture and what the encoder gave for it."""

    pixels: NDArray[np.uint8]
    """Shape (h, w, 3)."""
    outputs: tuple[NDArray[np.float32], ...]
    """Grid (G, G, V), and the scores of the encoder's own classes where it has any."""


@dataclass(frozen=True, eq=False, slots=True, weakref_slot=True, kw_only=True)
class SegmentFeatures:
    """Features that the encoders computed for one segment; compared by identity, and may be referred to weakly."""

    index: int
    start_ns: int
    audio: NDArray[np.float32]
    """Shape (A,)."""
    visual: NDArray[np.float32]
    """Shape (G, G, V): rows from the top, columns from the left, mean over the segment's frames."""
    level_dbfs: float | None
    """RMS level of the sound, dBFS, at most 0; None in digital silence."""
    quality: Quality = field(default_factory=Quality)
    heard: NDArray[np.float32] | None = None
    """Shape (H,), range 0 to 1: scores of the audio encoder's own classes (AudioSet, H = 521); None when it has none."""
    seen: NDArray[np.float32] | None = None
    """Shape (K,), range 0 to 1: probabilities of the visual encoder's own classes (ImageNet, K = 1000), mean over the segment's frames;
    None when it has none."""
    motion: float = 0.0
    """Motion inside the segment (`streamav.features.motion`), above or below the usual; 0 when it was not measured."""
    inside: Box | None = None
    """Box of the picture that the visual feature covers, where bars at its edges were cut off; None for the whole picture."""

    def __post_init__(self) -> None:
        """Check the arrays."""
        check_array("SegmentFeatures.audio", self.audio, (None,), np.float32)
        check_array("SegmentFeatures.visual", self.visual, (None, None, None), np.float32)
        for name, scores in (("heard", self.heard), ("seen", self.seen)):
            if scores is not None:
                check_array(f"SegmentFeatures.{name}", scores, (None,), np.float32)


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Window:
    """Consecutive segments, oldest first: ten, or fewer only for a source shorter than ten segments."""

    segments: tuple[SegmentFeatures, ...]

    def __post_init__(self) -> None:
        """Check that there is a segment and that indices have no gap."""
        indices = [segment.index for segment in self.segments]
        if not indices or len(indices) > WINDOW_SEGMENTS or indices != list(range(indices[0], indices[0] + len(indices))):
            msg = f"a window must hold 1 to {WINDOW_SEGMENTS} consecutive segments, got indices {indices}"
            raise ShapeError(msg)

    @property
    def first_index(self) -> int:
        """Index of the oldest segment."""
        return self.segments[0].index


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class WindowScores:
    """Scores that the localizer gives to every segment of one window."""

    first_index: int
    relevance: NDArray[np.float32]
    """Shape (T,), range 0 to 1: confidence that the segment holds an audio-visual event (VSCG Eq. 14, sigmoid)."""
    class_probabilities: NDArray[np.float32]
    """Shape (T, columns + 1), range 0 to 1: the C classes of the network, then further labels; the last column is background. Rows sum to 1
    when all labels compete, as in a model without labels by definition. A label competes with its rivals only, and one that is only heard
    with none, so with such labels the sum may be above 1."""
    agreement: NDArray[np.float32]
    """Shape (T,), range -1 to 1: cosine similarity of sound and picture (VSCG Eq. 16)."""
    attention: NDArray[np.float32]
    """Shape (T, G, G), each grid sums to 1: where in the picture the sound comes from."""
    levels_dbfs: tuple[float | None, ...]
    """T levels, as in SegmentFeatures.level_dbfs."""

    def __post_init__(self) -> None:
        """Check shapes against each other."""
        length = len(self.levels_dbfs)
        check_array("WindowScores.relevance", self.relevance, (length,), np.float32)
        check_array("WindowScores.class_probabilities", self.class_probabilities, (length, None), np.float32)
        if not (self.class_probabilities >= 0.0).all() or not (self.class_probabilities <= _MOST_PROBABLE).all():
            msg = "WindowScores.class_probabilities must be 0 to 1, got others or NaN"
            raise ShapeError(msg)
        check_array("WindowScores.agreement", self.agreement, (length,), np.float32)
        check_array("WindowScores.attention", self.attention, (length, None, None), np.float32)


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class SegmentScores:
    """Scores of one segment, combined over all windows that have held it so far."""

    index: int
    age: int
    """Index of the newest segment minus this one, 0 to 9: at most age + 1 windows have scored the segment."""
    final: bool
    """True once the age has reached latency - 1, or the source has ended; the scores do not change afterwards."""
    relevance: float
    class_probabilities: NDArray[np.float32]
    """Shape (columns + 1,), as in WindowScores; the last entry is background."""
    agreement: float
    attention: NDArray[np.float32]
    """Shape (G, G), sums to 1."""
    level_dbfs: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class FinalScores:
    """Final scores of one segment, by label; the events of the segment are decided on them."""

    start_ns: int
    """Start of the segment, media clock."""
    epoch_ns: int
    """UTC, ns since 1970, of the media clock's zero."""
    labels: Mapping[str, float]
    """Probability of each enabled label, 0 to 1."""
    background: float
    """Probability that the segment holds none of the model's classes, 0 to 1."""
    relevance: float
    agreement: float
    level_dbfs: float | None
    place: tuple[float, float] | None = None
    """x, y of the strongest attention in the segment, 0 to 1; None when the attention is flat."""
