"""Options of the tracker: the thresholds and rules of each label, and the source of the events.

It uses no scores.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from streamav.errors import ShapeError
from streamav.rules import NO_RULES

if TYPE_CHECKING:
    from streamav.rules import Rules
    from streamav.thresholds import Thresholds
    from streamav.types import Modality

__all__ = ["LabelOptions", "TrackerOptions"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelOptions:
    """How the scores of one class become events."""

    label: str
    """Slug of the class, as in topics."""
    label_name: str
    class_id: int
    """Number of the class in the model, as in events."""
    column: int | None = None
    """Column of class_probabilities; None where it is `class_id`."""
    thresholds: Thresholds
    """Only final segments count for `min_segments`."""
    modalities: tuple[Modality, ...] = ("sound", "picture")
    """In what its events are found; a label that is only heard has no place in the picture."""
    trained: bool = True
    """False for a label by definition: its column is none of the model's classes."""
    rules: Rules = NO_RULES
    """What must hold besides the thresholds."""

    @property
    def place(self) -> int:
        """Column of class_probabilities."""
        return self.class_id if self.column is None else self.column

    def __post_init__(self) -> None:
        """Check `class_id`.

        Raises:
            ShapeError: when it is negative.
        """
        if self.class_id < 0:
            msg = f"a label needs a class_id of at least 0, got {self.class_id}"
            raise ShapeError(msg)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackerOptions:
    """Options that are the same for all events of one source."""

    source: str
    session: str
    """Part of event ids: the content hash of a file, a random word for a live source."""
    labels: tuple[LabelOptions, ...]
    media_ids: bool = False
    """True: ids hold media time instead of UTC, so that a replay gives the same ids at any time."""
    timed: bool = True
    """False: media time has nothing to do with the time of day, as in a replay as fast as possible, so every schedule holds."""
