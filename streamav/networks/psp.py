"""Positive sample propagation: segments of one modality take over from those of the other that agree with them.

It works on whole windows of any length and knows no heads and no losses.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from streamav.networks.options import LAYER_NORM_EPS

__all__ = ["THRESHOLD_SHARE", "PositiveSamplePropagation", "pruned_shares"]

THRESHOLD_SHARE = 0.99
"""Default threshold times T: 0.099 at ten segments, where an even row is 0.1.

Source: Bravo5542/VSCG vscgfully_model.py:295 (0.099 at T = 10), scaled with T because an even row is 1 / T.
"""
_EPS = 1e-8


def pruned_shares(similarity: Tensor, threshold: float, *, renorm: bool) -> Tensor:
    """Give each row's shares, those not above the threshold set to 0.

    Args:
        similarity: (B, T, T) float, not negative.
        threshold: share, 0 to 1, that a pair must exceed to stay.
        renorm: divide what is left by its sum, so that rows sum to 1 again.

    Source: Zhou et al., "Positive Sample Propagation along the Audio-Visual Event Line", CVPR 2021, section 3.2.
    """
    shares = similarity / (similarity.sum(dim=-1, keepdim=True) + _EPS)
    shares = (shares > threshold).to(shares.dtype) * shares
    if renorm:
        shares = shares / (shares.sum(dim=-1, keepdim=True) + _EPS)
    return shares


class PositiveSamplePropagation(nn.Module):
    """PSP with the projection and normalisation that follow it.

    Source: VSCG section III-C, after Zhou et al., CVPR 2021; *project* false gives the weakly supervised PSP-Net's,
    which normalises without projecting (jasongief/PSP_CVPR_2021 weakly_model.py:71-117).
    """

    def __init__(
        self, size: int, *, threshold: float | None, renorm: bool, dropout: float, project_dropout: float, project: bool = True
    ) -> None:
        """Make the layers for streams of *size*; *threshold* None stands for 0.99 / T."""
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
        """Give both streams, (B, T, D) each, after propagation, projection and normalisation."""
        audio, visual = self.propagate(audio, visual)
        return self._finish(audio, self.audio_project), self._finish(visual, self.visual_project)

    def propagate(self, audio: Tensor, visual: Tensor) -> tuple[Tensor, Tensor]:
        """Add to each stream what its agreeing segments of the other carry; (B, T, D) each."""
        visual_first, visual_second = self._branch(self.visual_first, visual), self._branch(self.visual_second, visual)
        audio_first, audio_second = self._branch(self.audio_first, audio), self._branch(self.audio_second, audio)
        threshold = THRESHOLD_SHARE / audio.shape[1] if self.threshold is None else self.threshold
        # Rows are pictures, columns are sounds.
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
