"""How classes become events: the thresholds of each label, and whose events they are.

It knows no score.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from streamav.errors import ShapeError

if TYPE_CHECKING:
    from streamav.thresholds import Thresholds

__all__ = ["LabelOptions", "TrackerOptions"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelOptions:
    """How one class becomes events."""

    label: str
    """Slug."""
    label_name: str
    class_id: int
    """Column of class_probabilities."""
    thresholds: Thresholds
    """Only final segments count for `min_segments`."""

    def __post_init__(self) -> None:
        """Check the column.

        Raises:
            ShapeError: when it is negative.
        """
        if self.class_id < 0:
            msg = f"a label needs a class_id of at least 0, got {self.class_id}"
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
