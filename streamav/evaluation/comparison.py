"""Compares two models on the same labelled clips: accuracy and event-F1, over all labels and for each, with a paired bootstrap.

It is pure. Clips of one group (one source) are drawn together, as they resemble each other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from streamav.errors import DataError
from streamav.evaluation.bootstrap import Difference, paired_ratios
from streamav.evaluation.events import Collar, count_events, spans_of_labels

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from streamav.evaluation.predictions import Predictions

__all__ = ["Comparison", "compare", "in_words"]

_COLLAR: Final = Collar(onset=1.0, offset=1.0)
"""Onset and offset may differ by this, s; the offset also by 20 % of the length (see `Collar`)."""
_CERTAIN: Final = 0.05
"""A difference counts as found when its p is below this: the usual level of significance."""
_FEW: Final = 20
"""With fewer groups a bootstrap interval is too narrow (our choice of the limit)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Two models on the same clips; every difference is the second minus the first."""

    first: str
    second: str
    clips: int
    groups: int
    segments: int
    accuracy: Difference
    """Share of segments with the right label, background included."""
    event_f1: Difference
    """Collar 1 s, offset max(1 s, 20 %)."""
    of_label: dict[str, tuple[Difference, Difference]]
    """For each label that is true or predicted: F1 of its segments, and event-F1."""
    draws: int
    seed: int


def compare(first: Predictions, second: Predictions, *, draws: int = 10_000, seed: int = 0) -> Comparison:
    """Compare two models.

    Args:
        first: predictions of one model.
        second: predictions of another one for the same clips.
        draws: number of bootstrap samples.
        seed: seed of the draws.

    Raises:
        DataError: when clips, lengths or truth differ: the test sets are not the same.
    """
    labels = tuple(dict.fromkeys([*first.labels, *second.labels]))
    _check_same(first, second, labels)
    one, two = (_Counts(predictions, labels) for predictions in (first, second))
    members = _members(first.groups)

    def between(a: NDArray[np.float64], b: NDArray[np.float64]) -> Difference:
        return paired_ratios(members @ a, members @ b, draws=draws, seed=seed)

    there = [number for number in range(len(labels)) if one.segments[:, number, 1].any() or two.segments[:, number, 1].any()]
    return Comparison(
        first=first.model,
        second=second.model,
        clips=len(first.clips),
        groups=len(members),
        segments=int(first.lengths.sum()),
        accuracy=between(one.right, two.right),
        event_f1=between(one.events.sum(axis=1), two.events.sum(axis=1)),
        of_label={
            labels[number]: (
                between(one.segments[:, number], two.segments[:, number]),
                between(one.events[:, number], two.events[:, number]),
            )
            for number in there
        },
        draws=draws,
        seed=seed,
    )


def in_words(found: Comparison) -> list[str]:
    """Return the result as sentences: accuracy, event-F1, and what limits them."""
    lines = [
        _sentence(found, found.accuracy, "Accuracy"),
        _sentence(found, found.event_f1, "Event-F1"),
    ]
    better = [name for name, (_, events) in found.of_label.items() if _clear(events) and events.difference > 0]
    worse = [name for name, (_, events) in found.of_label.items() if _clear(events) and events.difference < 0]
    if better or worse:
        parts = [
            f"{model} is clearly better at {', '.join(names)}" for model, names in ((found.second, better), (found.first, worse)) if names
        ]
        lines.append(f"By label: {'; '.join(parts)} (each label for itself: of twenty labels, one differs by chance).")
    if found.groups < _FEW:
        lines.append(f"There are only {found.groups} independent recordings: the intervals are too narrow. Add recordings.")
    return lines


def _clear(difference: Difference) -> bool:
    return difference.p is not None and difference.p < _CERTAIN


def _sentence(found: Comparison, one: Difference, name: str) -> str:
    points = 100.0 * one.difference
    if np.isnan(points):
        return f"Nothing was counted for {name}."
    better, worse = (found.second, found.first) if points >= 0 else (found.first, found.second)
    figures = f"{100 * one.first:.1f} % and {100 * one.second:.1f} %"
    if one.p is None or one.low is None or one.high is None:
        return f"{name}: {found.first} and {found.second} reach {figures}; with a single recording nothing can be said about chance."
    spread = f"95 % interval of the difference {100 * one.low:+.1f} to {100 * one.high:+.1f} points, p = {one.p:.3g}"
    if not _clear(one):
        return f"{name}: {found.first} and {found.second} reach {figures}; the difference may be chance ({spread})."
    return f"{name}: {better} is better than {worse} by {abs(points):.1f} points ({found.first} and {found.second}: {figures}; {spread})."


class _Counts:
    """What one model got right: numerators and denominators of each clip."""

    def __init__(self, predictions: Predictions, labels: Sequence[str]) -> None:
        background, clips = len(labels), len(predictions.clips)
        truth, decided = (_renamed(predictions, values, labels) for values in (predictions.truth, predictions.decided))
        self.right = np.zeros((clips, 2))
        """Right segments, all segments."""
        self.segments = np.zeros((clips, background, 2))
        """By label: twice the right segments, true and predicted ones."""
        self.events = np.zeros((clips, background, 2))
        """By label: twice the events found, true and predicted ones."""
        for number, (_, place) in enumerate(predictions.each()):
            true, said = truth[place], decided[place]
            if not len(true):
                continue
            self.right[number] = (true == said).sum(), len(true)
            for label in set(np.unique(np.concatenate([true, said])).tolist()) - {background}:
                self.segments[number, label] = 2 * ((true == label) & (said == label)).sum(), (true == label).sum() + (said == label).sum()
                alone = np.where(true == label, label, background)
                spans = [span for span in spans_of_labels(said, background) if span.label == label]
                counts = count_events(alone, spans, background, _COLLAR)
                self.events[number, label] = 2 * counts.hits, counts.true + counts.said


def _renamed(predictions: Predictions, values: NDArray[np.int64], labels: Sequence[str]) -> NDArray[np.int64]:
    """Return labels of one model as numbers of the labels of both."""
    places = np.array([*(labels.index(name) for name in predictions.labels), len(labels)], dtype=np.int64)
    renamed: NDArray[np.int64] = places[values]
    return renamed


def _check_same(first: Predictions, second: Predictions, labels: Sequence[str]) -> None:
    problem = None
    if set(first.clips) != set(second.clips):
        only = sorted(set(first.clips) ^ set(second.clips))
        problem = f"{len(only)} clips are in one of them only, such as {only[0]}"
    elif first.clips != second.clips:
        problem = "the clips are in another order"
    elif first.lengths.tolist() != second.lengths.tolist():
        number = int(np.flatnonzero(first.lengths != second.lengths)[0])
        problem = f"{first.clips[number]} has {first.lengths[number]} and {second.lengths[number]} segments"
    else:
        differs = _renamed(first, first.truth, labels) != _renamed(second, second.truth, labels)
        clip = next((name for name, place in first.each() if differs[place].any()), None)
        problem = None if clip is None else f"the truth of {clip} differs"
    if problem is not None:
        msg = f"two models can be compared on the same test set only, and those of {first.model} and {second.model} differ: {problem}"
        raise DataError(msg)


def _members(groups: Sequence[str]) -> NDArray[np.float64]:
    """Return which clips belong to each group, shape (groups, clips)."""
    names = list(dict.fromkeys(groups))
    members = np.zeros((len(names), len(groups)))
    members[[names.index(group) for group in groups], np.arange(len(groups))] = 1.0
    return members
