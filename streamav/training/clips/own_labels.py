"""Learns labels from a user's clips on top of a model: a definition as the prior, a bounded correction, and an offset.

It reads no file and trains no network; the networks of the base model stay as they are, and so do the scores of its labels.

    definition   lists of classes, by the label's name or by what speaks for it in the clips (`definitions`); its evidence is the prior
    correction   logistic regression on the tones of class scores, with a ridge penalty, beside the prior as a fixed part
    offset       lowered until hardly any reference segment reaches the threshold

The negatives are the model's reference segments, the rest of the label's clips, and the clips of other labels and of none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from streamav.errors import ModelError
from streamav.evidence import OWN_ARRAY, LabelEvidence, Sensed, mean_of_neighbours, model_evidence, network_logits, tones
from streamav.labels import reference_offset
from streamav.training.clips.definitions import found_names, named_definition
from streamav.vocabulary import class_names, find_classes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from streamav.bundle import ClassEntry, EvidenceCard, ModelCard
    from streamav.training.clips.recorded import OwnRecording

__all__ = ["Learned", "final_scores", "learn", "with_own_labels"]

_LEAST_DEVIATION = 0.3
"""Floor of the deviation of a tone over the reference segments: classes that are never scored vary little there."""
_TOLD = 40
"""Classes of each sense that a correction weighs: those that lie farthest from the reference segments."""
_WEIGHT_DECAY, _OFFSET_DECAY = 300.0, 20.0
"""Ridge penalties on the weights and the offset. Of 30, 100 and 300 tried on 187 recordings, 300 had the most seconds right for 1, 3 and
all clips; with 30 three clips gave five times the false events."""
_CLIP_WEIGHT, _REST_WEIGHT = 4.0, 3.0
"""Weight of all segments of a clip that hold the label, and of all that do not, in reference segments: long clips say little more."""
_NEAR = 2.0
"""Of a clip with a label somewhere, the segments count whose prior lies at most this many logits below the clip's best."""
_PASSES = 2
_HEARD = 0.5
"""A reference segment may hold a label when one of its classes is heard with this score; it is not counted against the label."""
_STEPS = 30
"""Most steps of Newton's method (our choice)."""


@dataclass(frozen=True, eq=False, slots=True)
class Learned:
    """Labels learned from clips."""

    entries: tuple[ClassEntry, ...]
    """Q definitions with their offsets."""
    weights: NDArray[np.float32]
    """Shape (Q, H + K + 1): corrections, as `evidence.OWN_ARRAY` of a bundle."""
    found: tuple[tuple[str, ...], ...]
    """For each label the lists that came from the clips: "hear", "see", both or none; the others come from its name."""


class _Reference(NamedTuple):
    """Tones of the reference segments: (R, H + K), and their mean and deviation (H + K,)."""

    tones: NDArray[np.float64]
    mean: NDArray[np.float64]
    deviation: NDArray[np.float64]


def learn(recordings: Sequence[OwnRecording], slugs: Sequence[str], card: ModelCard, arrays: Mapping[str, NDArray[np.float32]]) -> Learned:
    """Learn labels from clips. The same clips give the same labels; there is no seed.

    Args:
        recordings: the clips; at least one holds each label that is learned.
        slugs: L labels, the columns of the recordings' truth; those that no recording holds are left out.
        card: the base model, with evidence.
        arrays: the arrays of its evidence.

    Raises:
        ModelError: when the base model has no evidence.
    """
    # Own labels that were learned before are left out: definitions are compared by the shared weights alone.
    bare = card.model_copy(update={"evidence": _evidence(card).model_copy(update={"own": (), "replaced": ()})})
    return _Learner(recordings, bare, arrays, [named_definition(slug, card) for slug in slugs]).learned()


def with_own_labels(
    card: ModelCard, arrays: Mapping[str, NDArray[np.float32]], learned: Learned
) -> tuple[ModelCard, dict[str, NDArray[np.float32]]]:
    """Return a model's card and the arrays of its evidence with own labels added; a label of the same slug is replaced.

    The card's thresholds are those of the base model, without those of replaced labels.
    """
    evidence = _evidence(card)
    mine = {entry.slug: entry for entry in learned.entries}
    kept = [slug for slug in evidence.own if slug not in mine]
    replaced = [entry for entry in card.classes if entry.slug in mine and entry.slug not in evidence.own]
    classes = [mine.get(entry.slug, entry) for entry in card.classes]
    classes += [entry for entry in learned.entries if entry.slug not in card.slugs]
    rows = [arrays[OWN_ARRAY][evidence.own.index(slug)] for slug in kept] + list(learned.weights)
    detection = card.detection.model_copy(
        update={"classes": {slug: value for slug, value in card.detection.classes.items() if slug not in mine}}
    )
    changed = evidence.model_copy(update={"own": (*kept, *mine), "replaced": (*evidence.replaced, *replaced)})
    whole = card.model_copy(update={"classes": tuple(classes), "evidence": changed, "detection": detection})
    return whole, {**arrays, OWN_ARRAY: np.stack(rows)}


def final_scores(
    recordings: Sequence[OwnRecording], card: ModelCard, arrays: Mapping[str, NDArray[np.float32]]
) -> list[NDArray[np.float32]]:
    """Return the probabilities of a model's classes in each clip, shape (S, classes + 1), background last."""
    evidence = model_evidence(card.classes, _evidence(card), arrays)
    return [evidence.together([_sensed(evidence, one)], one.network[None])[0] for one in recordings]


class _Learner:
    """Learns the labels that at least one clip holds."""

    def __init__(
        self, recordings: Sequence[OwnRecording], card: ModelCard, arrays: Mapping[str, NDArray[np.float32]], named: Sequence[ClassEntry]
    ) -> None:
        self._recordings, self._card, self._arrays = recordings, card, arrays
        self._columns = [number for number in range(len(named)) if any(one.truth[:, number].any() for one in recordings)]
        self._named = [named[number] for number in self._columns]
        self._reference = _reference(arrays)
        self._tones = [tones(one.heard, one.seen) for one in recordings]

    def learned(self) -> Learned:
        masks = [[one.truth[:, number] for one in self._recordings] for number in self._columns]
        entries = self._completed(masks)
        for _ in range(_PASSES if any(one.somewhere.any() for one in self._recordings) else 0):
            masks = self._narrowed(self._priors(entries))
            entries = self._completed(masks)
        priors, quiet = self._priors(entries), self._quiet(entries)
        rows = [mean_of_neighbours(one) for one in self._tones]
        ready, weights = [], []
        for place, entry in enumerate(entries):
            known = [prior[:, place] for prior in priors]
            correction, offset = _fit(rows, self._truths(place, masks[place]), known, self._reference, quiet[:, place])
            offset += self._lowered(entry, quiet[:, place] + offset + self._reference.tones @ correction[:-1] + correction[-1])
            ready.append(entry.model_copy(update={"offset": round(offset, 4)}))
            weights.append(correction)
        return Learned(tuple(ready), np.stack(weights).astype(np.float32), tuple(map(_lists_found, self._named, ready)))

    def _completed(self, masks: Sequence[Sequence[NDArray[np.bool_]]]) -> list[ClassEntry]:
        """Return the definitions with the lists filled that their names left empty."""
        return [_completed(entry, self._tones, mask, self._reference) for entry, mask in zip(self._named, masks, strict=True)]

    def _narrowed(self, priors: Sequence[NDArray[np.float32]]) -> list[list[NDArray[np.bool_]]]:
        """Return the segments that hold each label; of a clip with it somewhere, those where its prior is near the best."""
        return [
            [
                _nearest(prior[:, place], one.truth[:, number]) if one.somewhere[number] else one.truth[:, number]
                for one, prior in zip(self._recordings, priors, strict=True)
            ]
            for place, number in enumerate(self._columns)
        ]

    def _priors(self, entries: Sequence[ClassEntry]) -> list[NDArray[np.float32]]:
        """Return the logits of definitions in each clip, shape (S, Q), with the network's share for labels that it knows."""
        shared, slugs = _evidence(self._card), self._card.slugs
        evidence = LabelEvidence(shared, entries, self._arrays)
        found = []
        for one in self._recordings:
            logits, known = evidence.logits(_sensed(evidence, one)), network_logits(one.network)
            for place, entry in enumerate(entries):
                if entry.kind != "sound" and entry.slug in slugs[: known.shape[1]]:
                    logits[:, place] += np.float32(shared.network) * known[:, slugs.index(entry.slug)]
            found.append(logits)
        return found

    def _quiet(self, entries: Sequence[ClassEntry]) -> NDArray[np.float32]:
        """Return the logits of definitions in the reference segments, shape (R, Q)."""
        evidence = LabelEvidence(_evidence(self._card), entries, self._arrays)
        return np.concatenate([evidence.logits([one]) for one in evidence.reference()])

    def _truths(self, place: int, masks: Sequence[NDArray[np.bool_]]) -> list[NDArray[np.float64]]:
        """Return 1 for segments that hold a label, 0 for others, and NaN where it is not known."""
        number = self._columns[place]
        found = []
        for one, mask in zip(self._recordings, masks, strict=True):
            truth = mask.astype(np.float64)
            truth[one.truth[:, number] & ~mask] = np.nan
            found.append(truth)
        return found

    def _lowered(self, entry: ClassEntry, quiet: NDArray[np.float64]) -> float:
        """Return what lowers a label until hardly any reference segment, in which its sounds are not heard, reaches the threshold."""
        heard = self._arrays["reference.heard"][:, list(find_classes("hear", entry.hear))]
        free = (heard < _HEARD).all(axis=1)
        return reference_offset(quiet[free].astype(np.float32), self._card.detection.on) if free.any() else 0.0


def _completed(
    entry: ClassEntry, rows: Sequence[NDArray[np.float32]], masks: Sequence[NDArray[np.bool_]], reference: _Reference
) -> ClassEntry:
    count = len(class_names("hear"))
    means = [row[mask].mean(axis=0) for row, mask in zip(rows, masks, strict=True) if mask.any()]
    distances = [(mean - reference.mean) / reference.deviation for mean in means]
    hear = entry.hear or found_names("hear", [one[:count] for one in distances])
    see = entry.see if entry.see or entry.kind == "sound" else found_names("see", [one[count:] for one in distances])
    return entry.model_copy(update={"hear": hear, "see": see, "offset": 0.0})


def _lists_found(named: ClassEntry, ready: ClassEntry) -> tuple[str, ...]:
    return tuple(sense for sense, was, now in (("hear", named.hear, ready.hear), ("see", named.see, ready.see)) if now and not was)


def _sensed(evidence: LabelEvidence, one: OwnRecording) -> list[Sensed]:
    drawn = 0.5 * (1.0 + np.tanh(0.5 * one.drawn))
    rows = zip(one.heard, one.seen, one.probed, one.motion, strict=True)
    return [evidence.sensed_of(*row)._replace(drawn=float(part)) for row, part in zip(rows, drawn, strict=True)]


def _reference(arrays: Mapping[str, NDArray[np.float32]]) -> _Reference:
    rows = tones(arrays["reference.heard"], arrays["reference.seen"]).astype(np.float64)
    return _Reference(rows, rows.mean(axis=0), rows.std(axis=0) + _LEAST_DEVIATION)


def _evidence(card: ModelCard) -> EvidenceCard:
    """Return the card's evidence.

    Raises:
        ModelError: when it has none.
    """
    if card.evidence is None:
        msg = (
            f"the base model must have evidence, got {card.name} without; use a model whose encoders score classes, such as starter or edge"
        )
        raise ModelError(msg)
    return card.evidence


def _nearest(prior: NDArray[np.float32], mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    return np.asarray(mask & (prior >= prior[mask].max() - _NEAR)) if mask.any() else mask


def _fit(
    rows: Sequence[NDArray[np.float32]],
    truths: Sequence[NDArray[np.float64]],
    known: Sequence[NDArray[np.float32]],
    reference: _Reference,
    quiet: NDArray[np.float32],
) -> tuple[NDArray[np.float64], float]:
    """Return the correction (H + K + 1,) of one label, with its constant last, and the offset.

    Args:
        rows: tones of each clip, means over neighbours, shape (S, H + K).
        truths: 1 for segments of each clip that hold the label, 0 for others, NaN for those that do not count, shape (S,).
        known: prior logits, shape (S,).
        reference: tones of the reference segments.
        quiet: prior logits of the reference segments, shape (R,).
    """
    mean = np.mean([row[truth == 1.0].mean(axis=0) for row, truth in zip(rows, truths, strict=True) if (truth == 1.0).any()], axis=0)
    told = _farthest(np.abs((mean - reference.mean) / reference.deviation))
    inputs, truth, counts, prior = [_standard(reference.tones, reference, told)], [np.zeros(len(quiet))], [np.ones(len(quiet))], [quiet]
    for row, held, one in zip(rows, truths, known, strict=True):
        mask, rest = held == 1.0, held == 0.0
        inputs.append(_standard(row, reference, told))
        truth.append(mask.astype(np.float64))
        counts.append(mask * _CLIP_WEIGHT / max(1, mask.sum()) + rest * _REST_WEIGHT / max(1, rest.sum()))
        prior.append(one)
    slopes = _regression(np.concatenate(inputs), np.concatenate(truth), np.concatenate(counts), np.concatenate(prior))
    correction = np.zeros(rows[0].shape[1] + 1)
    correction[told] = slopes[:-1] / reference.deviation[told]
    correction[-1] = -float(correction[:-1] @ reference.mean)
    return correction, float(slopes[-1])


def _farthest(distances: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the places of the `_TOLD` largest of each sense."""
    count = len(class_names("hear"))
    parts = (np.argsort(-distances[:count], kind="stable"), count + np.argsort(-distances[count:], kind="stable"))
    return np.concatenate([part[:_TOLD] for part in parts])


def _standard(rows: NDArray[np.floating], reference: _Reference, told: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.asarray((rows[:, told] - reference.mean[told]) / reference.deviation[told], dtype=np.float64)


def _regression(
    inputs: NDArray[np.float64], truth: NDArray[np.float64], counts: NDArray[np.float64], known: NDArray[np.floating]
) -> NDArray[np.float64]:
    """Return slopes and offset (D + 1,) of a logistic regression with ridge penalties, by Newton's method; the loss is convex.

    Args:
        inputs: shape (N, D).
        truth: shape (N,), 0 or 1.
        counts: shape (N,): weight of each row.
        known: shape (N,): logits that are part of the sum as they are.
    """
    rows = np.concatenate([inputs, np.ones((len(inputs), 1))], axis=1)
    decay = np.append(np.full(inputs.shape[1], _WEIGHT_DECAY), _OFFSET_DECAY)
    slopes = np.zeros(rows.shape[1])
    for _ in range(_STEPS):
        certain = 0.5 * (1.0 + np.tanh(0.5 * (known + rows @ slopes)))
        gradient = rows.T @ (counts * (certain - truth)) + decay * slopes
        curvature = (rows * (counts * certain * (1.0 - certain))[:, None]).T @ rows + np.diag(decay)
        step = np.linalg.solve(curvature, gradient)
        slopes -= step
        if np.abs(step).max() < 1e-8:  # noqa: PLR2004 - far below the four digits that a card keeps
            break
    return slopes
