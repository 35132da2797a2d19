"""The heads of the localizers, their common output, and the rules that decide labels from it.

Encoders and losses are elsewhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from streamav.errors import ShapeError

if TYPE_CHECKING:
    from streamav.networks.options import Decision

__all__ = [
    "BackgroundContrast",
    "FullyHeads",
    "LocalizerOutput",
    "SegmentHead",
    "WeaklyHeads",
    "agreement",
    "decide",
    "segment_probabilities",
]


class LocalizerOutput(NamedTuple):
    """The output for a batch of windows; a head that the network does not have is None."""

    relevance_logits: Tensor | None = None
    """(B, T): relevance, whether a segment holds an audio-visual event; before the sigmoid (VSCG Eq. 14)."""
    class_logits: Tensor | None = None
    """(B, C): class of the window's event; before the softmax (VSCG Eq. 15)."""
    segment_logits: Tensor | None = None
    """(B, T, C + 1): class of each segment, background last; before the softmax. In weakly supervised networks the same as
    segment_scores."""
    similarity: Tensor | None = None
    """(B, T): agreement, the cosine of both final streams, -1 to 1 (VSCG Eq. 16)."""
    attention: Tensor | None = None
    """(B, T, G, G): attention over the picture; each grid sums to 1. None from `localize_window`."""
    video_probabilities: Tensor | None = None
    """(B, C + 1): class probabilities of the window; rows sum to 1 (weakly supervised)."""
    segment_scores: Tensor | None = None
    """(B, T, C + 1): gated scores of each segment, before the softmax (weakly supervised)."""
    gate: Tensor | None = None
    """(B, T): CMBS's audio-visual gate, 0 to 1; None elsewhere."""
    modality_logits: Tensor | None = None
    """(B, C): class scores of the window from CMBS's single modalities; None elsewhere."""
    contrast: Tensor | None = None
    """(2, B, T, D): unit vectors of the segments, without and with noise, for the background-event contrast; in training only."""


class SegmentHead(nn.Module):
    """Linear, ReLU, linear: one score per class and one for background, for every segment."""

    def __init__(self, size: int, inner: int, outputs: int, *, bias: bool = False) -> None:
        """Build both layers: *size* to *inner* to *outputs*."""
        super().__init__()
        self.inner = nn.Linear(size, inner, bias=bias)
        self.outer = nn.Linear(inner, outputs, bias=bias)
        for layer in (self.inner, self.outer):
            nn.init.xavier_uniform_(layer.weight)

    def forward(self, streams: Tensor) -> Tensor:
        """Return scores (B, T, outputs) from streams (B, T, size)."""
        scores: Tensor = self.outer(torch.relu(self.inner(streams)))
        return scores


class FullyHeads(nn.Module):
    """The fully supervised heads: relevance of each segment, class of the window, class of each segment (VSCG section III-E, Eq. 14-15)."""

    def __init__(self, size: int, inner: int, classes: int, *, contrast: bool = False) -> None:
        """Build the heads for a fused stream of *size*; *contrast* adds the layer of `BackgroundContrast`."""
        super().__init__()
        self.relevance = nn.Linear(size, 1)
        self.window_class = nn.Linear(size, classes)
        self.segment = SegmentHead(size, inner, classes + 1)
        self.contrast = BackgroundContrast(size) if contrast else None
        for layer in (self.relevance, self.window_class):
            nn.init.xavier_uniform_(layer.weight)

    def forward(self, fused: Tensor, similarity: Tensor | None = None) -> LocalizerOutput:
        """Return the output for a fused stream (B, T, size)."""
        judged, pairs = (fused, None) if self.contrast is None else self.contrast(fused)
        return LocalizerOutput(
            relevance_logits=self.relevance(judged).squeeze(
                -1
            ),  # squeezes the last axis only, so that a batch of one keeps its shape (bug B7)
            class_logits=self.window_class(fused.amax(dim=1)),
            segment_logits=self.segment(fused),
            similarity=similarity,
            contrast=pairs,
        )


class BackgroundContrast(nn.Module):
    """One layer whose training draws the event segments of a window together and away from its background segments.

    Source: CACE-Net (ACM MM 2024), Brain-Cog-Lab/CACE-Net CACE/model/main_model.py:124-195: 0.6 times the layer's
    output is added to the input of the relevance head; noise of standard deviation 0.1 makes the second view. In CACE-Net both start
    after an eighth of the epochs; here they start at once.
    """

    SHARE = 0.6
    NOISE = 0.1

    def __init__(self, size: int) -> None:
        """Build the layer for a fused stream of *size*."""
        super().__init__()
        self.encoder = nn.Linear(size, size)

    def forward(self, fused: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the stream (B, T, D) for the relevance head and, in training, both views (2, B, T, D) of the segments."""
        plain = torch.relu(self.encoder(fused))
        judged = fused + self.SHARE * plain
        if not self.training:
            return judged, None
        disturbed = torch.relu(self.encoder(fused + self.NOISE * torch.randn_like(fused)))
        return judged, nn.functional.normalize(torch.stack([plain, disturbed]), dim=-1)


class WeaklyHeads(nn.Module):
    """The weakly supervised heads: gated class scores of each segment, averaged over the window.

    Source: VSCG section III-E, PSP-Net's weighting branch.
    """

    def __init__(self, size: int, inner: int, classes: int, *, gate_relu: bool = True) -> None:
        """Build the heads for a fused stream of *size*."""
        super().__init__()
        self.gate_relu = gate_relu
        self.segment = SegmentHead(size, inner, classes + 1)
        self.gate = nn.Linear(classes + 1, 1, bias=False)

    def forward(self, fused: Tensor, similarity: Tensor | None = None) -> LocalizerOutput:
        """Return the output for a fused stream (B, T, size)."""
        raw = self.segment(fused)
        gate = self.gate(raw)
        if self.gate_relu:
            gate = torch.relu(gate)
        scores = raw * torch.sigmoid(gate)
        return LocalizerOutput(
            segment_logits=scores,
            similarity=similarity,
            video_probabilities=torch.softmax(scores.mean(dim=1), dim=-1),
            segment_scores=scores,
        )


def agreement(audio: Tensor, visual: Tensor) -> Tensor:
    """Return the agreement (B, T) of two streams (B, T, D): their cosine in each segment, -1 to 1 (VSCG Eq. 16)."""
    return (nn.functional.normalize(visual, dim=-1) * nn.functional.normalize(audio, dim=-1)).sum(dim=-1)


def segment_probabilities(output: LocalizerOutput, decision: Decision) -> Tensor:
    """Return the probability (B, T, C + 1) of each class and, last, of background in every segment; rows sum to 1.

    `two_stage` returns [r * softmax(class), 1 - r], where r is the relevance. `argmax29` returns the softmax of the segment's own scores.

    Raises:
        ShapeError: when the network does not have the heads that the decision needs.
    """
    if decision == "argmax29":
        return torch.softmax(_need(output.segment_logits, "segment_logits", decision), dim=-1)
    relevance = torch.sigmoid(_need(output.relevance_logits, "relevance_logits", decision)).unsqueeze(-1)
    classes = torch.softmax(_need(output.class_logits, "class_logits", decision), dim=-1).unsqueeze(1)
    return torch.cat([relevance * classes, 1.0 - relevance], dim=-1)


def decide(output: LocalizerOutput, decision: Decision, threshold: float = 0.7) -> Tensor:
    """Return the label (B, T) of every segment, int64, 0 to C; C is background.

    `two_stage`: the window's best class where the relevance is above *threshold* (VSCG section III-E), background elsewhere.
    `argmax29`: the highest of the segment's C + 1 scores, without a threshold.

    Raises:
        ShapeError: when the network does not have the heads that the decision needs.
    """
    if decision == "argmax29":
        return _need(output.segment_logits, "segment_logits", decision).argmax(dim=-1)
    relevance = torch.sigmoid(_need(output.relevance_logits, "relevance_logits", decision))
    classes = _need(output.class_logits, "class_logits", decision)
    best = classes.argmax(dim=-1, keepdim=True).expand_as(relevance)
    return torch.where(relevance > threshold, best, torch.full_like(best, classes.shape[-1]))


def _need(value: Tensor | None, name: str, decision: str) -> Tensor:
    if value is None:
        msg = f"decision {decision} needs {name}, which this network does not have; choose the other decision"
        raise ShapeError(msg)
    return value
