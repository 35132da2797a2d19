"""The event semantic consistency module of VSCG: what the whole window is about guides every segment of it.

Two parts: CERE sums the window up in each modality (the prior), ISCE runs a GRU over each stream that starts from it.
It takes two streams and gives two streams of the same shape, so that it fits behind any other network (Table IV).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from streamav.networks.options import LAYER_NORM_EPS, Pool, PostGru, Prior

__all__ = ["EventSemanticConsistency", "Streams", "WindowSummary"]

KERNEL = 5
"""Width of both convolutions in segments. Source: Bravo5542/VSCG vscgfully_model.py:86-94 (digits lost in the paper's text)."""
DIRECTIONS = 2
"""Directions of a GRU; the summary has one step for each."""

Streams = tuple[Tensor, Tensor, Tensor]
"""The audio stream, the visual stream and their mean, (B, T, D) each."""


class WindowSummary(nn.Module):
    """CERE: two convolutions along time, each with ReLU and max-pooling, down to two steps (section III-D1, Eq. 7-8).

    The first step becomes the initial state of a forward GRU, the second that of a backward one.
    """

    def __init__(self, size: int, hidden: int, pool: Pool) -> None:
        """Make both convolutions, *size* to *hidden* to *hidden* channels."""
        super().__init__()
        self.pool = pool
        self.first = nn.Conv1d(size, hidden, KERNEL, padding=KERNEL // 2)
        self.second = nn.Conv1d(hidden, hidden, KERNEL, padding=KERNEL // 2)

    def forward(self, stream: Tensor) -> Tensor:
        """Give (2, B, hidden) from a stream (B, T, size): any T with adaptive pooling, 8 to 11 with floor."""
        adaptive = self.pool == "adaptive"
        steps = torch.relu(self.first(stream.transpose(1, 2)))
        steps = functional.max_pool1d(steps, 2, 2, ceil_mode=adaptive)
        steps = torch.relu(self.second(steps))
        pooled = _halves(steps) if adaptive else functional.max_pool1d(steps, 2, 2)
        return pooled.permute(2, 0, 1).contiguous()


def _halves(steps: Tensor) -> Tensor:
    """Give the maxima (B, H, 2) of both halves of (B, H, L); an odd middle belongs to both.

    This is adaptive max-pooling to two steps, spelled out because exporters do not all know that operator.
    """
    length = steps.shape[2]
    return torch.stack([steps[:, :, : (length + 1) // 2].amax(dim=2), steps[:, :, length // 2 :].amax(dim=2)], dim=2)


class EventSemanticConsistency(nn.Module):
    """ESCM: prior of the window, one bidirectional GRU a modality, and what follows (section III-D, Eq. 7-13)."""

    def __init__(
        self, hidden: int, *, prior: Prior = "mean", pool: Pool = "adaptive", post_gru: PostGru = "project_norm", dropout: float = 0.1
    ) -> None:
        """Make the layers for streams of size 2 *hidden*."""
        super().__init__()
        size = DIRECTIONS * hidden
        self.prior = prior
        self.summary: WindowSummary | None = None
        self.visual_summary: WindowSummary | None = None
        self.audio_cross: nn.Linear | None = None
        self.visual_cross: nn.Linear | None = None
        self._make_prior(size, hidden, pool)
        self.audio_gru = nn.GRU(size, hidden, batch_first=True, bidirectional=True)
        self.visual_gru = nn.GRU(size, hidden, batch_first=True, bidirectional=True)
        self.audio_project: nn.Linear | None = None
        self.visual_project: nn.Linear | None = None
        if post_gru == "project_norm":
            self.audio_project = _xavier(nn.Linear(size, size, bias=False))
            self.visual_project = _xavier(nn.Linear(size, size, bias=False))
        self.dropout = nn.Dropout(dropout)
        self.norm = nn.LayerNorm(size, eps=LAYER_NORM_EPS)  # one for both modalities

    def _make_prior(self, size: int, hidden: int, pool: Pool) -> None:
        """Make only the layers that the chosen prior has."""
        if self.prior in {"mean", "cross_linear", "unshared"}:
            self.summary = WindowSummary(size, hidden, pool)
        if self.prior == "unshared":
            self.visual_summary = WindowSummary(size, hidden, pool)
        if self.prior == "cross_linear":
            self.audio_cross = _xavier(nn.Linear(hidden, hidden, bias=False))
            self.visual_cross = _xavier(nn.Linear(hidden, hidden, bias=False))

    def forward(self, audio: Tensor, visual: Tensor) -> Streams:
        """Give both streams (B, T, D) and their mean (Eq. 13), from two streams (B, T, D)."""
        audio_start, visual_start = self._initial_states(audio, visual)
        heard = self._finish(self.audio_gru(audio, audio_start)[0], self.audio_project)
        seen = self._finish(self.visual_gru(visual, visual_start)[0], self.visual_project)
        return heard, seen, (seen + heard) * 0.5

    def _initial_states(self, audio: Tensor, visual: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """Give the states (2, B, hidden) that the audio and the visual GRU start from; None stands for zeros."""
        if self.summary is None:
            return self._pooled_states(audio, visual)
        heard = self.summary(audio)
        seen = (self.summary if self.visual_summary is None else self.visual_summary)(visual)
        if self.audio_cross is not None and self.visual_cross is not None:
            return self.visual_cross(seen), self.audio_cross(heard)  # each starts from the other's summary
        shared = (heard + seen) * 0.5  # Eq. 9
        return shared, shared

    def _pooled_states(self, audio: Tensor, visual: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """Give the states of Table III's simple priors.

        The pooled vector has size D = 2 hidden; its halves start the two directions. The paper does not say how; this adds
        no parameters.
        """
        if self.prior == "zero":
            return None, None
        heard, seen = (audio.mean(dim=1), visual.mean(dim=1)) if self.prior == "avg" else (audio.amax(dim=1), visual.amax(dim=1))
        shared = torch.stack(((heard + seen) * 0.5).chunk(DIRECTIONS, dim=1))
        return shared, shared

    def _finish(self, stream: Tensor, project: nn.Linear | None) -> Tensor:
        """Project (Eq. 12) unless `post_gru` is dropout_norm, then drop out and normalise."""
        if project is not None:
            stream = torch.relu(project(stream))
        finished: Tensor = self.norm(self.dropout(stream))
        return finished


def _xavier(layer: nn.Linear) -> nn.Linear:
    nn.init.xavier_uniform_(layer.weight)
    return layer
