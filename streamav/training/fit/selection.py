"""Runs a network over labelled clips: on the validation set for selection, and once at the end on the test set.

It computes no scores (`streamav.evaluation` does) and selects nothing.
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
    from streamav.training.data.feature_set import Batch

__all__ = ["Answers", "answers"]


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Answers:
    """The answers of a network for m clips of T segments, and the true classes."""

    truth: NDArray[np.int64]
    """True class of each segment, shape (m, T), 0 to C; C is background."""
    decided: NDArray[np.int64]
    """Decided class of each segment, shape (m, T), 0 to C."""
    probabilities: NDArray[np.float32]
    """Shape (m, T, C + 1), rows sum to 1; from the per-segment head if the network has one, else from the two-stage decision."""


def answers(network: nn.Module, batches: Iterable[Batch], decision: Decision, threshold: float) -> Answers:
    """Run *network* over every clip on its own device, in eval mode and without gradients; then restore its mode."""
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
