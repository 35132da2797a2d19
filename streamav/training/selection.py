"""Scores a network on labelled clips: what selects weights on the validation set, and what is reported once at the end.

It knows no optimiser and chooses nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from streamav.networks.heads import decide, segment_probabilities

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray
    from torch import nn

    from streamav.networks.options import Decision
    from streamav.training.feature_set import Batch

__all__ = ["Answers", "Scores", "answers", "score"]


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Answers:
    """What a network says of clips, and what is true; m clips of T segments."""

    truth: NDArray[np.int64]
    """Shape (m, T), 0 to C; C is background."""
    decided: NDArray[np.int64]
    """Shape (m, T), 0 to C."""
    probabilities: NDArray[np.float32]
    """Shape (m, T, C + 1), rows sum to 1; of the per-segment scores where the network has them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """Segment scores of one set of clips, each 0 to 1."""

    accuracy: float
    """Share of segments with the right one of C + 1 labels. Source: VSCG section IV-A."""
    macro_f1: float
    """Mean F1 of the foreground classes that occur in truth or answer."""
    background_recall: float
    """Share of background segments called background; NaN when there is none."""

    def to_dict(self) -> dict[str, float]:
        """Give the scores by name."""
        return {"accuracy": self.accuracy, "macro_f1": self.macro_f1, "background_recall": self.background_recall}


def answers(
    network: nn.Module, batches: Iterable[Batch], decision: Decision, threshold: float, device: torch.device | str = "cpu"
) -> Answers:
    """Ask *network*, in eval mode and without gradients, about every clip; its mode is put back."""
    truth, decided, probabilities = [], [], []
    device = next(iter(network.parameters())).device
    was_training = network.training
    network.eval()
    try:
        with torch.inference_mode():
            for batch in batches:
                there = batch.to(device)
                output = network(there.audio, there.visual)
                soft: Decision = "two_stage" if output.segment_logits is None else "argmax29"
                truth.append(batch.labels.numpy())
                decided.append(decide(output, decision, threshold).cpu().numpy())
                probabilities.append(segment_probabilities(output, soft).cpu().numpy())
    finally:
        network.train(was_training)
    return Answers(truth=np.concatenate(truth), decided=np.concatenate(decided), probabilities=np.concatenate(probabilities))


def score(truth: NDArray[np.int64], decided: NDArray[np.int64], background: int) -> Scores:
    """Compare labels segment by segment.

    Args:
        truth: any shape, 0 to *background*.
        decided: the same shape.
        background: C.
    """
    right = truth == decided
    quiet = truth == background
    f1 = []
    for label in range(background):
        true, said = truth == label, decided == label
        if true.any() or said.any():
            f1.append(2.0 * float((true & said).sum()) / float(true.sum() + said.sum()))
    return Scores(
        accuracy=float(right.mean()),
        macro_f1=float(np.mean(f1)) if f1 else float("nan"),
        background_recall=float(right[quiet].mean()) if quiet.any() else float("nan"),
    )
