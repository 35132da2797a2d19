"""Turns class scores into numbers that can be added: logits of what is heard, standard deviations of what is seen, means of neighbours."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from streamav.evidence.definitions import LabelClasses

__all__ = [
    "FAINT_HEARD",
    "FAINT_SEEN",
    "HEARD_FROM",
    "HEARD_STEP",
    "LEAST_ANSWER",
    "LEAST_HEARD",
    "LEAST_SEEN",
    "MOST_ANSWER",
    "MOST_SENSED",
    "TWO_VIEWS",
    "Sensed",
    "View",
    "combined",
    "heard_and_seen",
    "mean_of_neighbours",
    "motion_around",
    "neighbourhood",
    "network_logits",
    "probe_logits",
    "tones",
    "views_of",
]

FAINT_HEARD, FAINT_SEEN = 0.01, 0.001
"""Added to class scores before the logarithm in `tones`: below these, how little is scored says nothing."""
LEAST_HEARD, LEAST_SEEN = 1e-6, 1e-7
"""Floors of probabilities before the logarithm; both are below the scores of a class that is absent."""
LEAST_ANSWER, MOST_ANSWER = np.float32(1e-6), 8.0
"""Floor of a probability before the logarithm, and bound of a logit of the network."""
HEARD_FROM, HEARD_STEP, MOST_SENSED = -6.0, 3.0, 3.0
"""Used by `heard_and_seen`. A label counts as heard from the first logit on. The second is the number of logits in one step. More steps or
deviations than the third count as the third (our choice; other bounds named one or two clips less)."""
_LEAST_DEVIATION = 0.7
"""Floor of the deviation of `seen`, natural logarithm: rare classes vary little over few reference pictures."""
TWO_VIEWS = 1.5
"""Divisor of the sum of two views of one thing (ImageNet's classes and a probe); between 1 (independent) and 2 (equal)."""


class Sensed(NamedTuple):
    """Evidence for the labels and the competitors in one segment, shape (L + M,) each."""

    heard: NDArray[np.float32]
    """Logits."""
    seen: NDArray[np.float32]
    """Standard deviations; 0 for a label that is only heard."""
    drawn: float = 0.0
    """Probability that the picture is a drawing, which public encoders do not know: there the localizer's network alone decides."""
    motion: float = 0.0
    """Motion inside the segment, above or below the usual; the same for all labels."""
    corrections: NDArray[np.float32] | None = None
    """What own labels learned from clips, logits; None when no label is an own one."""


class View(NamedTuple):
    """Mean and deviation of one view of a label over the reference segments."""

    mean: float
    deviation: float

    @classmethod
    def over(cls, values: NDArray[np.floating]) -> View:
        """Return the view of values of the R reference segments, shape (R,)."""
        return cls(float(values.mean()), max(float(values.std()), _LEAST_DEVIATION))

    def standard(self, value: float) -> float:
        """Return a value in deviations from the mean."""
        return (value - self.mean) / self.deviation


def views_of(label: LabelClasses, seen: NDArray[np.float32], probed: NDArray[np.float32]) -> tuple[View | None, View | None]:
    """Return the views of a label, by ImageNet's classes and by probes, over reference scores seen (R, K) and probed (R, P)."""
    classes = View.over(np.log(seen[:, list(label.seen)].sum(axis=1) + LEAST_SEEN)) if label.seen else None
    probes = View.over(probed[:, list(label.probed)].max(axis=1)) if label.probed else None
    return classes, probes


def combined(
    label: LabelClasses, views: tuple[View | None, View | None], probabilities: NDArray[np.float32], probed: NDArray[np.float32]
) -> float:
    """Return the standard score of a label: of its classes, its probes, or both.

    Args:
        label: its classes and probes.
        views: its views over the reference segments, as `views_of` returns them.
        probabilities: probabilities of ImageNet's classes, shape (K,).
        probed: logits of the probes, shape (P,).
    """
    found = []
    if views[0] is not None:
        found.append(views[0].standard(float(np.log(probabilities[list(label.seen)].sum() + LEAST_SEEN))))
    if views[1] is not None:
        found.append(views[1].standard(float(probed[list(label.probed)].max())))
    return sum(found) / (TWO_VIEWS if len(found) > 1 else 1.0)


def tones(heard: NDArray[np.float32], seen: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return logarithms of class scores heard (..., H) and seen (..., K), with floors, shape (..., H + K): what corrections weigh."""
    return np.asarray(np.concatenate([np.log(heard + FAINT_HEARD), np.log(seen + FAINT_SEEN)], axis=-1), dtype=np.float32)


def probe_logits(grid: NDArray[np.float32], weight: NDArray[np.float32], bias: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the logits (P,) of picture classes, the largest over the cells of a grid (G, G, V), from weight (P, V) and bias (P,)."""
    cells = grid.reshape(-1, grid.shape[-1])
    return np.asarray((cells @ weight.T + bias).max(axis=0), dtype=np.float32)


def network_logits(probabilities: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the logits of a localizer's C classes against background, within plus and minus 8, from probabilities (..., C + 1).

    Beyond 8 the network is sure, and how sure says little.
    """
    logs = np.log(np.maximum(probabilities, LEAST_ANSWER))
    return np.asarray(np.clip(logs[..., :-1] - logs[..., -1:], -MOST_ANSWER, MOST_ANSWER), dtype=np.float32)


def neighbourhood(window: Sequence[Sensed]) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Return what is heard in each segment, the largest heard in it and its neighbours, and the mean seen in them, shape (T, L) each."""
    heard = np.stack([one.heard for one in window])
    seen = np.stack([one.seen for one in window])
    return heard, np.stack(_neighbours(heard)).max(axis=0), mean_of_neighbours(seen)


def heard_and_seen(heard: NDArray[np.float32], seen: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return how strongly labels are heard and seen at once, 0 to 9, from logits and deviations of the same shape.

    It is the product of both, so that either alone adds nothing. Logits from -6 to 3 count 0 to 3, deviations from 0 to 3 as they are.
    """
    strength = np.clip((heard - HEARD_FROM) / HEARD_STEP, 0.0, MOST_SENSED)
    return np.asarray(strength * np.clip(seen, 0.0, MOST_SENSED), dtype=np.float32)


def motion_around(window: Sequence[Sensed]) -> NDArray[np.float32]:
    """Return the mean motion in each segment and its neighbours, above or below the usual, shape (T, 1)."""
    return mean_of_neighbours(np.array([[one.motion] for one in window], np.float32))


def _neighbours(rows: NDArray[np.float32]) -> tuple[NDArray[np.float32], ...]:
    """Return the rows before, the rows, and the rows after; the ends repeat themselves."""
    return np.concatenate([rows[:1], rows[:-1]]), rows, np.concatenate([rows[1:], rows[-1:]])


def mean_of_neighbours(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the mean over each of n rows and its neighbours, shape (n, d); a row at an end has one neighbour."""
    padded = np.pad(rows.astype(np.float64), ((1, 1), (0, 0)))
    counts = np.full(len(rows), 3.0)
    counts[0] -= 1.0
    counts[-1] -= 1.0
    return np.asarray((padded[:-2] + padded[1:-1] + padded[2:]) / counts[:, None], dtype=np.float32)
