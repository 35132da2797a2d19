"""Finds events by the encoders' own classes alone, untrained: what any trained model must beat.

    sound alone         the largest score of the label's AudioSet classes
    untrained recipe    sqrt(sound * (floor + (1 - floor) * picture)); picture: the sum of its ImageNet probabilities

Scores are means over three segments, so they look one second ahead whatever the latency. A label without a picture class gets a fixed
picture. There is one threshold for all labels. Nothing was fitted. Pure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from streamav.thresholds import Thresholds
from streamav.vocabulary import class_names, find_classes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["RECIPE", "SOUND", "LabelClasses", "recipe_scores", "sound_scores"]

_FLOOR = 0.02
"""Least weight of what is heard when nothing is seen (our choice)."""
_NO_PICTURE = 0.3
"""Picture score of a label that no ImageNet class shows."""
SOUND = Thresholds(on=0.35, off=0.24)
"""Of sound alone. This and the values of the recipe gave the most seconds right on the 14 recordings of docs/results.md."""
RECIPE = Thresholds(on=0.2, off=0.14)
"""Of the untrained recipe."""


class LabelClasses:
    """The classes of the encoders that belong to each of L labels."""

    def __init__(self, names: Sequence[tuple[Sequence[str], Sequence[str]]], probes: Sequence[str] = ()) -> None:
        """Resolve the names.

        Args:
            names: for each label the names of its AudioSet classes (at least one) and of its ImageNet classes.
            probes: names among the latter that the model's own picture classes have; they are left out.

        Raises:
            SettingsError: when a name fits no class.
        """
        count = len(class_names("see"))
        self._hear = [list(find_classes("hear", hear)) for hear, _ in names]
        self._see = [[index for index in find_classes("see", see, probes) if index < count] for _, see in names]

    def heard(self, scores: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the sound score of each label (L,) from AudioSet scores (H,)."""
        return np.array([scores[classes].max() for classes in self._hear], np.float32)

    def seen(self, scores: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the picture score of each label (L,) from ImageNet probabilities (K,)."""
        return np.array([scores[classes].sum() if classes else _NO_PICTURE for classes in self._see], np.float32)


def sound_scores(heard: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the scores of sound alone, shape (S, L), from sound scores (S, L)."""
    return _smooth(heard)


def recipe_scores(heard: NDArray[np.float32], seen: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the scores of the untrained recipe, shape (S, L), from sound and picture scores (S, L)."""
    return _smooth(np.sqrt(heard * (_FLOOR + (1.0 - _FLOOR) * seen)))


def _smooth(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the mean over each segment and its neighbours; the ends repeat themselves."""
    if not len(rows):
        return rows
    padded = np.pad(rows, ((1, 1), (0, 0)), mode="edge")
    return np.asarray((padded[:-2] + padded[1:-1] + padded[2:]) / 3.0, np.float32)
