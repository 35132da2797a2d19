"""Computes how strongly each label is heard and seen from the encoders' own classes, and turns both into logits.

The encoders were trained on far more recordings than any label here, so their class scores are the prior that a trained network
corrects. A label is defined by names of classes, so a label needs no training. Pure numpy: no engine, no source.

    heard   largest logit of the AudioSet classes of the label
    seen    log of the summed ImageNet probabilities of the label, in standard deviations from its mean over the reference pictures
    logit   bias + heard * weight + (largest heard of three segments) * weight + (mean seen of three segments) * weight
            + (mean motion of three segments) * weight + (heard and seen at once) * weight

The probability of a label is its share among its rivals and background. A label that is only heard has no rivals: speech may be heard
beside anything. A label that was learned from own clips has a linear correction of its logit, and takes nothing from other labels.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from streamav.errors import ModelError
from streamav.evidence.definitions import Column, resolved
from streamav.evidence.scores import (
    LEAST_ANSWER,
    LEAST_HEARD,
    Sensed,
    combined,
    heard_and_seen,
    mean_of_neighbours,
    motion_around,
    neighbourhood,
    network_logits,
    probe_logits,
    tones,
    views_of,
)
from streamav.vocabulary import class_names

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from streamav.bundle.card import ClassEntry, EvidenceCard
    from streamav.evidence.scores import View
    from streamav.types import SegmentFeatures

__all__ = ["ARRAYS", "CAUTION", "LARGEST_LOGIT", "MOST_CORRECTED", "OWN_ARRAY", "EvidenceParts", "LabelEvidence"]

ARRAYS = ("probes.weight", "probes.bias", "drawn.weight", "drawn.bias", "reference.heard", "reference.seen", "reference.probed")
"""Names of the arrays in a bundle, after `evidence.`."""
OWN_ARRAY = "own.weight"
"""Weights of the corrections of Q own labels and their constants, shape (Q, H + K + 1); only in a bundle with own labels."""
MOST_CORRECTED = 2.0
"""Bound of a correction, logits: what was learned from a few clips corrects a definition and never overrules it."""
CAUTION = 1.25
"""The logits of the network's classes are lowered by this where it decides alone."""
LARGEST_LOGIT = 40.0
"""Bound of a logit before the exponential; e^40 is certain in float32, and sums of many stay finite."""


class EvidenceParts(NamedTuple):
    """The parts of the formula, for L + M labels and competitors."""

    card: EvidenceCard
    arrays: Mapping[str, NDArray[np.float32]]
    heard: list[tuple[int, ...]]
    """AudioSet classes of each label."""
    seen: list[tuple[int, ...]]
    probed: list[tuple[int, ...]]
    views: list[tuple[View | None, View | None]]
    """Mean and deviation of the two views of each label."""
    offsets: NDArray[np.float32]
    sound: NDArray[np.bool_]
    columns: list[int]
    """Label of each column of the probabilities."""
    shares: NDArray[np.float64]
    """Shape (L + M, columns): which labels share the probability of a column."""
    own: dict[int, int]
    """Own label -> its row of `OWN_ARRAY`."""
    twins: list[tuple[int, int]]
    """Places of a base label that an own label replaced, and of that own label, whose network answer it takes."""


class LabelEvidence:
    """The evidence for a list of labels, by the classes of one bundle's encoders."""

    def __init__(
        self,
        card: EvidenceCard,
        labels: Sequence[ClassEntry],
        arrays: Mapping[str, NDArray[np.float32]],
        competitors: Sequence[ClassEntry] = (),
        columns: Sequence[Column] | None = None,
    ) -> None:
        """Resolve the labels' classes and compute their mean and deviation over the reference segments.

        Args:
            card: weights of the evidence and names of the bundle's own picture classes (probes).
            labels: the L labels, those that the network was trained for first.
            arrays: those named in `ARRAYS`: probes.weight (P, V) and probes.bias (P,); drawn.weight (1, V) and drawn.bias (1,); class
                scores of R reference segments: heard (R, H) and seen (R, K), 0 to 1, probed (R, P), logits.
            competitors: M things that are no labels but may be what is heard and seen. A label with the same slug takes its place; an
                own label does not.
            columns: the columns of the probabilities; None for one column for each label, with all others and the competitors as rivals.

        Raises:
            SettingsError: when a label names a class that does not exist.
            ModelError: when an array is missing or has a wrong shape.
        """
        self._card = card
        self._arrays = _checked(arrays, card)
        slugs = {label.slug for label in labels} - set(card.own)
        entries = [*labels, *(one for one in competitors if one.slug not in slugs)]
        self.count = len(labels)
        """L: the first columns of the logits; the others are the competitors'."""
        slugs_in_order = [entry.slug for entry in entries]
        self._own = {slugs_in_order.index(slug): row for row, slug in enumerate(card.own) if slug in slugs_in_order}
        """Rows of the corrections of own labels, by the label's place."""
        self._twins = [(place, slugs_in_order.index(entry.slug)) for place, entry in enumerate(entries) if entry in card.replaced]
        """Labels of the base model that an own label took the place of, and the places of those."""
        self._labels = [resolved(label, card.probes) for label in entries]
        self._offsets = np.array([label.offset for label in entries], np.float32)
        self._sound = np.array([label.sound for label in self._labels], dtype=np.bool_)
        reference = self._arrays["reference.seen"], self._arrays["reference.probed"]
        self._views = [views_of(label, *reference) for label in self._labels]
        every = frozenset(range(len(entries)))
        self._columns = [Column(number, every) for number in range(len(labels))] if columns is None else list(columns)
        self._shares = _shares(self._columns, self._sound)

    def sensed(self, features: SegmentFeatures) -> Sensed:
        """Return the evidence in one segment.

        Raises:
            ModelError: when the features hold no class scores.
        """
        if features.heard is None or features.seen is None:
            msg = "the encoders of this model must score their own classes, got features only; use a model whose encoders do, such as edge"
            raise ModelError(msg)
        return self.sensed_in(features.heard, features.seen, features.visual, features.motion)

    def sensed_in(self, heard: NDArray[np.float32], seen: NDArray[np.float32], grid: NDArray[np.float32], motion: float = 0.0) -> Sensed:
        """Return the evidence of class scores heard (H,) and seen (K,), 0 to 1, of a grid (G, G, V) and of a motion."""
        return self.sensed_of(heard, seen, self.probed(grid), motion)._replace(drawn=self._drawn(grid))

    def probed(self, grid: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the logits (P,) of the bundle's own picture classes: the largest of the cells of a grid (G, G, V)."""
        return probe_logits(grid, self._arrays["probes.weight"], self._arrays["probes.bias"])

    def sensed_of(self, heard: NDArray[np.float32], seen: NDArray[np.float32], probed: NDArray[np.float32], motion: float = 0.0) -> Sensed:
        """Return the evidence of class scores, heard (H,) and seen (K,) from 0 to 1, probed (P,) logits, and of a motion."""
        return Sensed(self._heard(heard), self._seen(seen, probed), motion=motion, corrections=self._corrections(heard, seen))

    def logits(self, window: Sequence[Sensed]) -> NDArray[np.float32]:
        """Return the logits of L labels and M competitors in T consecutive segments, shape (T, L + M); 0 is the logit of background."""
        heard, peak, mean = neighbourhood(window)
        card = self._card
        sound = card.heard * heard + card.heard_peak * peak
        picture = card.seen * mean + card.motion * motion_around(window)
        both = card.bias + sound + picture + card.heard_and_seen * heard_and_seen(heard, mean)
        alone = card.sound_bias + card.sound_scale * sound
        logits = np.where(self._sound, alone, both) + self._offsets
        corrections = [one.corrections for one in window if one.corrections is not None]
        if corrections:
            logits = logits + np.clip(mean_of_neighbours(np.stack(corrections)), -MOST_CORRECTED, MOST_CORRECTED)
        return np.asarray(logits, dtype=np.float32)

    def reference(self) -> list[Sensed]:
        """Return the evidence in each of the bundle's R reference segments; they are not neighbours of each other."""
        rows = (self._arrays[f"reference.{name}"] for name in ("heard", "seen", "probed"))
        return [self.sensed_of(*row) for row in zip(*rows, strict=True)]

    def together(self, windows: Sequence[Sequence[Sensed]], network: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the probabilities of the evidence with the network's answer added.

        Args:
            windows: B windows of T segments.
            network: the network's own probabilities of its C classes and background, shape (B, T, C + 1).

        Returns:
            Shape (B, T, columns + 1), as `probabilities`.
        """
        logits = np.stack([self.logits(window) for window in windows])
        classes = network.shape[-1] - 1
        answers = np.float32(self._card.network) * network_logits(network)
        for place, label in self._twins:
            if label < classes and not self._sound[place]:
                logits[..., place] += answers[..., label]
        logits[..., :classes] += np.where(self._sound[:classes], np.float32(0.0), answers)
        drawn = np.array([[one.drawn for one in window] for window in windows], np.float32)
        return self.probabilities(logits, network, drawn)

    def probabilities(self, logits: NDArray[np.float32], network: NDArray[np.float32], drawn: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the probabilities of the columns and of background, which is the last.

        Args:
            logits: logits of labels and competitors, shape (..., L + M).
            network: the network's own probabilities of its C classes and background, shape (..., C + 1).
            drawn: probability of a drawn picture, shape (...,); there the network alone decides for labels that are heard and seen.

        Returns:
            Shape (..., columns + 1), 0 to 1: exp(own) / (1 + exp(own) + sum of exp(rivals)), and what no label that is heard and seen has.
        """
        odds = np.exp(np.clip(logits.astype(np.float64), -LARGEST_LOGIT, LARGEST_LOGIT))
        labels = [column.label for column in self._columns]
        shares = odds[..., labels] / (1.0 + odds @ self._shares)
        # The network decides on drawings for what it was trained for; an own label was learned from pictures as they are.
        untaught = np.array([label in self._own and label >= network.shape[-1] - 1 for label in labels])
        part = np.where(self.sounds | untaught, 0.0, drawn[..., None])
        network = _cautious(network)
        answer = np.concatenate([network[..., :-1], np.zeros((*network.shape[:-1], len(self._labels)))], axis=-1)
        taught = np.array([label if label < network.shape[-1] - 1 else -1 for label in labels])
        shares = (1.0 - part) * shares + part * answer[..., taught]
        seen = sorted({label for label in labels if not self._sound[label]})
        relevance = odds[..., seen].sum(axis=-1) / (1.0 + odds[..., ~self._sound].sum(axis=-1))
        relevance = (1.0 - drawn) * relevance + drawn * (1.0 - network[..., -1])
        background = np.maximum(1.0 - relevance, 0.0)[..., None]
        return np.asarray(np.minimum(np.concatenate([shares, background], axis=-1), 1.0), dtype=np.float32)

    @property
    def sounds(self) -> NDArray[np.bool_]:
        """Which columns are of labels that are only heard, shape (columns,)."""
        return self._sound[[column.label for column in self._columns]]

    @property
    def parts(self) -> EvidenceParts:
        """Everything that the answer is computed from, as plain arrays: for a copy of the formula in another language (ONNX)."""
        return EvidenceParts(
            card=self._card,
            arrays=self._arrays,
            heard=[one.heard for one in self._labels],
            seen=[one.seen for one in self._labels],
            probed=[one.probed for one in self._labels],
            views=self._views,
            offsets=self._offsets,
            sound=self._sound,
            columns=[one.label for one in self._columns],
            shares=self._shares,
            own=self._own,
            twins=self._twins,
        )

    def _corrections(self, heard: NDArray[np.float32], seen: NDArray[np.float32]) -> NDArray[np.float32] | None:
        if not self._own:
            return None
        found = np.zeros(len(self._labels), np.float32)
        weights = self._arrays[OWN_ARRAY][list(self._own.values())]
        found[list(self._own)] = weights[:, :-1] @ tones(heard, seen) + weights[:, -1]
        return found

    def _drawn(self, grid: NDArray[np.float32]) -> float:
        logit = float(grid.mean(axis=(0, 1)) @ self._arrays["drawn.weight"][0] + self._arrays["drawn.bias"][0])
        return 0.5 * (1.0 + math.tanh(0.5 * logit))

    def _heard(self, probabilities: NDArray[np.float32]) -> NDArray[np.float32]:
        clipped = np.clip(probabilities, LEAST_HEARD, 1.0 - LEAST_HEARD)
        logits = np.log(clipped) - np.log1p(-clipped)
        return np.array([logits[list(label.heard)].max() for label in self._labels], np.float32)

    def _seen(self, probabilities: NDArray[np.float32], probed: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.array(
            [combined(label, views, probabilities, probed) for label, views in zip(self._labels, self._views, strict=True)], np.float32
        )


def _shares(columns: Sequence[Column], sound: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return which labels share the probability of each column, shape (L + M, columns): itself and its rivals 1, the others 0."""
    shares = np.zeros((len(sound), len(columns)))
    for place, column in enumerate(columns):
        if not sound[column.label]:
            shares[sorted(column.rivals), place] = 1.0
    shares[sound] = 0.0
    shares[[column.label for column in columns], range(len(columns))] = 1.0
    return shares


def _cautious(network: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the probabilities (..., C + 1) with the logits of classes lowered by CAUTION: the network alone is surer than it is right."""
    classes = network[..., :-1] * np.float32(np.exp(-CAUTION))
    total = classes.sum(axis=-1, keepdims=True) + network[..., -1:]
    return np.asarray(np.concatenate([classes, network[..., -1:]], axis=-1) / np.maximum(total, LEAST_ANSWER), dtype=np.float32)


def _checked(arrays: Mapping[str, NDArray[np.float32]], card: EvidenceCard) -> dict[str, NDArray[np.float32]]:
    heard, seen, probes = len(class_names("hear")), len(class_names("see")), len(card.probes)
    own = arrays.get(OWN_ARRAY)
    if card.own and (own is None or own.shape != (len(card.own), heard + seen + 1)):
        shape = "nothing" if own is None else str(own.shape)
        msg = f"evidence.{OWN_ARRAY} of the bundle must have the shape ({len(card.own)}, {heard + seen + 1}), got {shape}; train it again"
        raise ModelError(msg)
    for name, last in zip(ARRAYS, (None, probes, None, 1, heard, seen, probes), strict=True):
        array = arrays.get(name)
        if array is None or array.shape[-1] != (last or array.shape[-1]) or (name == "probes.weight" and len(array) != probes):
            shape = "nothing" if array is None else str(array.shape)
            msg = f"evidence.{name} of the bundle must end in {last or 'V'} numbers for {probes} probes, got {shape}; get the model again"
            raise ModelError(msg)
    return dict(arrays)
