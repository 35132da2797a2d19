"""Fits a model's evidence on labelled real recordings, and cross-validates it by group.

A logistic regression on five numbers of each label and segment gives the weights of `streamav.bundle.EvidenceCard`. The five weights are
shared by all labels, so that they hold for a label that has no recording. This module trains no network and reads no file.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional

from streamav.bundle.card import EvidenceCard
from streamav.evidence import LabelEvidence, Sensed, heard_and_seen, motion_around, neighbourhood, network_logits

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from streamav.bundle.card import ClassEntry
    from streamav.evaluation.recordings import Span

__all__ = ["ClassScores", "LabelledRecording", "fit_evidence", "reference_arrays", "sensed_in"]

REFERENCE_SEGMENTS = 320
"""Number of reference segments in a bundle (our choice)."""
WEIGHT_DECAY, OFFSET_DECAY = 1e-3, 0.03
"""Ridge penalties on the weights and on the labels' own offsets; with less on the offsets a rare label learns from two recordings."""
UNTRAINED = EvidenceCard(bias=0.0, heard=0.0, heard_peak=0.0, seen=0.0, sound_bias=0.0)


@dataclass(frozen=True, eq=False, slots=True)
class ClassScores:
    """Class scores of the S segments of one recording."""

    heard: NDArray[np.float32]
    """Shape (S, H), 0 to 1."""
    seen: NDArray[np.float32]
    """Shape (S, K), 0 to 1."""
    probed: NDArray[np.float32]
    """Shape (S, P), logits of the bundle's own picture classes."""
    network: NDArray[np.float32]
    """Shape (S, C + 1), 0 to 1: the localizer's final answer, background last."""
    motion: NDArray[np.float32]
    """Shape (S,): motion inside the segment, above or below the usual."""


@dataclass(frozen=True, eq=False, slots=True)
class LabelledRecording:
    """One recording with the truth of its segments."""

    name: str
    group: str
    """Recordings of one group stay on one side of every split."""
    scores: ClassScores
    truth: NDArray[np.bool_]
    """Shape (S, L): the label is heard and seen in the segment."""
    spans: tuple[Span, ...] = ()
    """The true events of the labels, in seconds."""


def reference_arrays(recordings: Sequence[LabelledRecording], seed: int = 0) -> dict[str, NDArray[np.float32]]:
    """Return class scores of segments drawn from all groups alike, as `evidence.reference.*` of a bundle; labels are not looked at."""
    rng = np.random.default_rng(seed)
    groups: dict[str, list[tuple[int, int]]] = {}
    for place, one in enumerate(recordings):
        groups.setdefault(one.group, []).extend((place, segment) for segment in range(len(one.scores.heard)))
    drawn: list[tuple[int, int]] = []
    orders = [[rows[index] for index in rng.permutation(len(rows))] for _, rows in sorted(groups.items())]
    while len(drawn) < REFERENCE_SEGMENTS and any(orders):
        drawn += [rows.pop() for rows in orders if rows]
    rows = drawn[:REFERENCE_SEGMENTS]
    return {
        f"reference.{name}": np.stack([getattr(recordings[place].scores, name)[segment] for place, segment in rows])
        for name in ("heard", "seen", "probed")
    }


def sensed_in(evidence: LabelEvidence, scores: ClassScores) -> list[Sensed]:
    """Return the evidence in each segment of a recording."""
    return [evidence.sensed_of(*row) for row in zip(scores.heard, scores.seen, scores.probed, scores.motion, strict=True)]


def fit_evidence(
    recordings: Sequence[LabelledRecording],
    labels: Sequence[ClassEntry],
    arrays: Mapping[str, NDArray[np.float32]],
    probes: Sequence[str],
    network: float = 0.0,
) -> tuple[EvidenceCard, tuple[ClassEntry, ...]]:
    """Fit the shared weights and the labels' offsets.

    Args:
        recordings: with the truth of each label.
        labels: the audio-visual labels, in the order of the truth's columns.
        arrays: the bundle's evidence arrays.
        probes: names of the bundle's own picture classes.
        network: weight of the localizer's answer; the others are fitted beside it.

    Returns:
        The card, and the labels with their offsets.
    """
    plain = [label.model_copy(update={"offset": 0.0}) for label in labels]
    evidence = LabelEvidence(UNTRAINED.model_copy(update={"probes": tuple(probes)}), plain, arrays)
    inputs = np.concatenate([_inputs(sensed_in(evidence, one.scores)) for one in recordings])
    truth = np.concatenate([one.truth for one in recordings])
    answers = np.concatenate([network_logits(one.scores.network) for one in recordings])
    known = np.float32(network) * answers
    weights, bias, offsets = _regression(inputs, truth, known)
    # A label that is only heard has no picture, so what is heard weighs for it as it does without the product.
    apart = sum(_regression(inputs[..., :-1], truth, known)[0][:2])
    card = EvidenceCard(
        bias=round(bias, 4),
        heard=round(weights[0], 4),
        heard_peak=round(weights[1], 4),
        seen=round(weights[2], 4),
        motion=round(weights[3], 4),
        heard_and_seen=round(weights[4], 4),
        sound_bias=round(SOUND_LOGIT * apart, 4),
        sound_scale=round(apart / (weights[0] + weights[1]), 4),
        network=network,
        probes=tuple(probes),
    )
    return card, tuple(label.model_copy(update={"offset": round(float(offset), 4)}) for label, offset in zip(labels, offsets, strict=True))


SOUND_LOGIT = 0.4
"""A label that is only heard has probability one half where the encoder's score of its class is 0.4 (logit -0.4)."""


def _inputs(window: Sequence[Sensed]) -> NDArray[np.float32]:
    """Return the five inputs of each label and segment, shape (S, L, 5)."""
    heard, peak, mean = neighbourhood(window)
    motion = np.broadcast_to(motion_around(window), heard.shape)
    return np.stack([heard, peak, mean, motion, heard_and_seen(heard, mean)], axis=-1)


def _regression(
    inputs: NDArray[np.float32], truth: NDArray[np.bool_], known: NDArray[np.float32]
) -> tuple[list[float], float, NDArray[np.float64]]:
    """Return weights, bias and offsets of the logistic regression with ridge penalties, in the units of the inputs.

    Args:
        inputs: shape (S, L, 5).
        truth: shape (S, L).
        known: shape (S, L): logits that are part of the sum as they are.
    """
    mean, deviation = inputs.mean(axis=(0, 1)), inputs.std(axis=(0, 1)) + 1e-3
    rows = torch.tensor((inputs - mean) / deviation, dtype=torch.float64)
    wanted, given = torch.tensor(truth, dtype=torch.float64), torch.tensor(known, dtype=torch.float64)
    weights = torch.zeros(inputs.shape[-1], dtype=torch.float64, requires_grad=True)
    bias = torch.tensor(-4.0, dtype=torch.float64, requires_grad=True)
    offsets = torch.zeros(inputs.shape[1], dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([weights, bias, offsets], max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        fit = functional.binary_cross_entropy_with_logits(rows @ weights + bias + offsets + given, wanted, reduction="sum") / len(rows)
        total = fit + WEIGHT_DECAY * (weights**2).sum() + OFFSET_DECAY * (offsets**2).sum()
        total.backward()  # type: ignore[no-untyped-call]
        return total

    optimizer.step(loss)  # type: ignore[no-untyped-call]
    slopes = weights.detach().numpy() / deviation
    return [float(slope) for slope in slopes], float(bias.detach()) - float(slopes @ mean), offsets.detach().numpy()
