"""How classes become events: thresholds and lengths of each label, and whose events they are.

It knows no score.
"""

from __future__ import annotations

from dataclasses import dataclass

from streamav.errors import ShapeError

__all__ = ["LabelOptions", "TrackerOptions"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelOptions:
    """How one class becomes events."""

    label: str
    """Slug."""
    label_name: str
    class_id: int
    """Column of class_probabilities."""
    on: float
    """A run begins at this probability, 0 to 1."""
    off: float
    """A run goes on at this probability, 0 to `on`."""
    min_segments: int = 1
    """Final seconds of at least `on` that confirm an event, at least 1."""
    gap_segments: int = 1
    """Longest pause below `off` inside an event, seconds, at least 0."""

    def __post_init__(self) -> None:
        """Check all ranges."""
        if not (0.0 <= self.off <= self.on <= 1.0 and self.min_segments >= 1 and self.gap_segments >= 0 and self.class_id >= 0):
            msg = f"a label needs 0 <= off <= on <= 1, min_segments >= 1, gap_segments >= 0 and class_id >= 0, got {self}"
            raise ShapeError(msg)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackerOptions:
    """What is the same for all events of one source."""

    source: str
    session: str
    """Goes into event ids: content hash of a file, random word of a live source."""
    labels: tuple[LabelOptions, ...]
    epoch_ns: int = 0
    """UTC, ns since 1970, of the media clock's zero, until `Tracker.follow` says otherwise."""
    media_ids: bool = False
    """True: ids carry media time instead of UTC, so that a replay gives the same ids whenever it runs."""
