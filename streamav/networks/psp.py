"""Positive sample propagation: adds to each segment of one modality the features of the segments of the other modality that agree with it.

It works on whole windows of any length. Heads and losses are elsewhere.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from streamav.networks.options import LAYER_NORM_EPS

__all__ = ["THRESHOLD_SHARE", "PositiveSamplePropagation", "pruned_shares"]

THRESHOLD_SHARE = 0.99
"""Default threshold times T: the threshold is 0.099 at ten segments, where a row of equal shares has 0.1 in each cell.

Source: Bravo5542/VSCG vscgfully_model.py:295 (0.099 at T = 10), scaled with T because equal shares are 1 / T.
"""
_EPS = 1e-8


def pruned_shares(similarity: Tensor, threshold: float, *, renorm: bool) -> Tensor:
    """Return the shares of each row, with shares not above the threshold set to 0.

    Args:
        similarity: (B, T, T) float, not negative.
        threshold: share, 0 to 1, that a pair must exceed to be kept.
        renorm: divide the remaining shares by their sum, so that rows sum to 1 again.

    Source: Zhou et al., "Positive Sample Propagation along the Audio-Visual Event Line", CVPR 2021, section 3.2.
    """
    shares = similarity / (similarity.sum(dim=-1, keepdim=True) + _EPS)
    shares = (shares > threshold).to(shares.dtype) * shares
    if renorm:
        shares = shares / (shares.sum(dim=-1, keepdim=True) + _EPS)
    return shares


class PositiveSamplePropagation(nn.Module):
    """PSP with the projection and normalisation that follow it.

    Source: VSCG section III-C, after Zhou et al., CVPR 2021. With *project* False it is the module of the weakly supervised PSP-Net,
    which normalises without a projection (jasongief/PSP_CVPR_2021 weakly_model.py:71-117).
    """

    def __init__(
        self, size: int, *, threshold: float | None, renorm: bool, dropout: float, project_dropout: float, project: bool = True
    ) -> None:
        """Build the layers for streams of *size*; *threshold* None stands for 0.99 / T."""
        super().__init__()
        self.threshold = threshold
        self.renorm = renorm
        self.visual_first = nn.Linear(size, size, bias=False)
        self.visual_second = nn.Linear(size, size, bias=False)
        self.audio_first = nn.Linear(size, size, bias=False)
        self.audio_second = nn.Linear(size, size, bias=False)
        layers = [self.visual_first, self.visual_second, self.audio_first, self.audio_second]
        self.visual_project: nn.Linear | None = None
        self.audio_project: nn.Linear | None = None
        if project:
            self.visual_project = nn.Linear(size, size, bias=False)
            self.audio_project = nn.Linear(size, size, bias=False)
            layers += [self.visual_project, self.audio_project]
        self.dropout = nn.Dropout(dropout)
        self.project_dropout = nn.Dropout(project_dropout)
        self.norm = nn.LayerNorm(size, eps=LAYER_NORM_EPS)  # one for both modalities
        for layer in layers:
            nn.init.xavier_uniform_(layer.weight)

    def forward(self, audio: Tensor, visual: Tensor) -> tuple[Tensor, Tensor]:
        """Return both streams, (B, T, D) each, after propagation, projection and normalisation."""
        audio, visual = self.propagate(audio, visual)
        return self._finish(audio, self.audio_project), self._finish(visual, self.visual_project)

    def propagate(self, audio: Tensor, visual: Tensor) -> tuple[Tensor, Tensor]:
        """Add to each stream the features of the agreeing segments of the other stream; streams are (B, T, D)."""
        visual_first, visual_second = self._branch(self.visual_first, visual), self._branch(self.visual_second, visual)
        audio_first, audio_second = self._branch(self.audio_first, audio), self._branch(self.audio_second, audio)
        threshold = THRESHOLD_SHARE / audio.shape[1] if self.threshold is None else self.threshold
        # Rows are segments of the picture, columns are segments of the sound.
        similarity = torch.relu(torch.bmm(visual_second, audio_first.transpose(1, 2)) / math.sqrt(audio.shape[2]))
        to_visual = pruned_shares(similarity, threshold, renorm=self.renorm)
        to_audio = pruned_shares(similarity.transpose(1, 2), threshold, renorm=self.renorm)
        return audio + torch.bmm(to_audio, visual_first), visual + torch.bmm(to_visual, audio_second)

    def _branch(self, layer: nn.Linear, stream: Tensor) -> Tensor:
        branch: Tensor = self.dropout(torch.relu(layer(stream)))
        return branch

    def _finish(self, stream: Tensor, project: nn.Linear | None) -> Tensor:
        if project is not None:
            stream = self.project_dropout(torch.relu(project(stream)))
        normed: Tensor = self.norm(stream)
        return normed
