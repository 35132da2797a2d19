"""The event semantic consistency module (ESCM) of VSCG: a summary of the whole window guides every segment of it.

It has two parts. CERE summarises the window in each modality (the prior). ISCE runs one GRU over each stream; the prior is its
initial state. The module takes two streams and returns two streams of the same shape, so it can follow any other network (Table IV).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from streamav.networks.options import LAYER_NORM_EPS, Pool, PostGru, Prior

__all__ = ["EventSemanticConsistency", "Streams", "WindowSummary"]

KERNEL = 5
"""Width of both convolutions in segments. Source: Bravo5542/VSCG vscgfully_model.py:86-94 (the digits are missing in the paper's text)."""
DIRECTIONS = 2
"""Directions of a GRU; the summary has one step per direction."""

Streams = tuple[Tensor, Tensor, Tensor]
"""The audio stream, the visual stream and their mean, (B, T, D) each."""


class WindowSummary(nn.Module):
    """CERE: two convolutions along time, each with ReLU and max-pooling, reduce the window to two steps (section III-D1, Eq. 7-8).

    The first step becomes the initial state of a forward GRU, the second step that of a backward GRU.
    """

    def __init__(self, size: int, hidden: int, pool: Pool) -> None:
        """Build both convolutions: *size* to *hidden* to *hidden* channels."""
        super().__init__()
        self.pool = pool
        self.first = nn.Conv1d(size, hidden, KERNEL, padding=KERNEL // 2)
        self.second = nn.Conv1d(hidden, hidden, KERNEL, padding=KERNEL // 2)

    def forward(self, stream: Tensor) -> Tensor:
        """Return the summary (2, B, hidden) of a stream (B, T, size); T may be any length with adaptive pooling, 8 to 11 with floor."""
        adaptive = self.pool == "adaptive"
        steps = torch.relu(self.first(stream.transpose(1, 2)))
        steps = functional.max_pool1d(steps, 2, 2, ceil_mode=adaptive)
        steps = torch.relu(self.second(steps))
        pooled = _halves(steps) if adaptive else functional.max_pool1d(steps, 2, 2)
        return pooled.permute(2, 0, 1).contiguous()


def _halves(steps: Tensor) -> Tensor:
    """Return the maxima (B, H, 2) of both halves of (B, H, L); with an odd L the middle step belongs to both halves.

    This is adaptive max-pooling to two steps. It is written out because some exporters do not support that operator.
    """
    length = steps.shape[2]
    return torch.stack([steps[:, :, : (length + 1) // 2].amax(dim=2), steps[:, :, length // 2 :].amax(dim=2)], dim=2)


class EventSemanticConsistency(nn.Module):
    """ESCM: the prior of the window, one bidirectional GRU per modality, and the layers after them (section III-D, Eq. 7-13)."""

    def __init__(
        self, hidden: int, *, prior: Prior = "mean", pool: Pool = "adaptive", post_gru: PostGru = "project_norm", dropout: float = 0.1
    ) -> None:
        """Build the layers for streams of size 2 *hidden*."""
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
        """Build only the layers that the chosen prior needs."""
        if self.prior in {"mean", "cross_linear", "unshared"}:
            self.summary = WindowSummary(size, hidden, pool)
        if self.prior == "unshared":
            self.visual_summary = WindowSummary(size, hidden, pool)
        if self.prior == "cross_linear":
            self.audio_cross = _xavier(nn.Linear(hidden, hidden, bias=False))
            self.visual_cross = _xavier(nn.Linear(hidden, hidden, bias=False))

    def forward(self, audio: Tensor, visual: Tensor) -> Streams:
        """Return both processed streams (B, T, D) and their mean (Eq. 13) from two streams (B, T, D)."""
        audio_start, visual_start = self._initial_states(audio, visual)
        heard = self._finish(self.audio_gru(audio, audio_start)[0], self.audio_project)
        seen = self._finish(self.visual_gru(visual, visual_start)[0], self.visual_project)
        return heard, seen, (seen + heard) * 0.5

    def _initial_states(self, audio: Tensor, visual: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """Return the initial states (2, B, hidden) of the audio and the visual GRU; None stands for zeros."""
        if self.summary is None:
            return self._pooled_states(audio, visual)
        heard = self.summary(audio)
        seen = (self.summary if self.visual_summary is None else self.visual_summary)(visual)
        if self.audio_cross is not None and self.visual_cross is not None:
            return self.visual_cross(seen), self.audio_cross(heard)  # each GRU starts from the other modality's summary
        shared = (heard + seen) * 0.5  # Eq. 9
        return shared, shared

    def _pooled_states(self, audio: Tensor, visual: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """Return the initial states of Table III's simple priors.

        The pooled vector has size D = 2 hidden. Its first half is the state of one direction, its second half that of the other.
        The paper does not define this; this choice adds no parameters.
        """
        if self.prior == "zero":
            return None, None
        heard, seen = (audio.mean(dim=1), visual.mean(dim=1)) if self.prior == "avg" else (audio.amax(dim=1), visual.amax(dim=1))
        shared = torch.stack(((heard + seen) * 0.5).chunk(DIRECTIONS, dim=1))
        return shared, shared

    def _finish(self, stream: Tensor, project: nn.Linear | None) -> Tensor:
        """Apply the projection (Eq. 12) if there is one, then dropout and normalisation; with `post_gru` dropout_norm there is none."""
        if project is not None:
            stream = torch.relu(project(stream))
        finished: Tensor = self.norm(self.dropout(stream))
        return finished


def _xavier(layer: nn.Linear) -> nn.Linear:
    nn.init.xavier_uniform_(layer.weight)
    return layer
