"""PSP-Net: VSCG without its last module, with a head that scores every class for every segment.

Losses are elsewhere. Facts were read in jasongief/PSP_CVPR_2021 fully_model.py and weakly_model.py at ddd20f3.

Source: Zhou et al., "Positive Sample Propagation along the Audio-Visual Event Line", CVPR 2021.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

from streamav.networks.attention import AudioGuidedAttention
from streamav.networks.baselines.plugin import PSP_DROPOUT, StreamPlugin
from streamav.networks.heads import FullyHeads, LocalizerOutput, SegmentHead, WeaklyHeads, agreement
from streamav.networks.psp import PositiveSamplePropagation
from streamav.networks.recurrent import BiLSTMPair

if TYPE_CHECKING:
    from streamav.networks.baselines.options import BaselineOptions

__all__ = ["PSPNet"]

ATTENTION_SIZE = 512
FRONT_SIZE = 256
HEAD_SIZE = 64
"""Hidden sizes of attention, projections and heads. Source: jasongief/PSP_CVPR_2021."""


class PSPNet(nn.Module):
    """The network, fully and weakly supervised, with an optional plug-in after its normalised streams."""

    def __init__(self, options: BaselineOptions) -> None:
        """Build the layers; the weakly supervised network has a simpler front and no projection after PSP."""
        super().__init__()
        self.options = options
        fully = options.supervision == "fully"
        size = options.hidden if fully else options.audio_size
        self.audio_front: nn.Module = _two_maps(options.audio_size, size) if fully else nn.Identity()
        self.visual_front: nn.Module = _two_maps(options.visual_size, size) if fully else nn.Linear(options.visual_size, size)
        self.attention = AudioGuidedAttention(size, options.visual_size, ATTENTION_SIZE, options.grid)
        self.lstm = BiLSTMPair(size, size, options.hidden)
        self.psp = PositiveSamplePropagation(
            2 * options.hidden,
            threshold=options.psp_threshold,
            renorm=fully,
            dropout=PSP_DROPOUT,
            project_dropout=PSP_DROPOUT,
            project=fully,
        )
        self.plugin = StreamPlugin(options)
        self.heads = _heads(options)

    def forward(self, audio: Tensor, visual: Tensor) -> LocalizerOutput:
        """Score every segment of (B, T, A) sound and (B, T, G, G, V) picture features."""
        batch, segments = audio.shape[:2]
        front = self.audio_front(audio)
        attended, attention = self.attention(front.flatten(0, 1), visual.flatten(0, 1))
        pictures = self.visual_front(attended.view(batch, segments, -1))
        heard, seen, fused = self.plugin(*self.psp(*self.lstm(front, pictures)))
        similarity = agreement(heard, seen)
        if isinstance(self.heads, SegmentHead):
            answer = LocalizerOutput(segment_logits=self.heads(fused), similarity=similarity)
        else:
            answer = self.heads(fused, similarity)
        return answer._replace(attention=attention.view(batch, segments, *attention.shape[1:]))


def _two_maps(size: int, out: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(size, FRONT_SIZE, bias=False), nn.Linear(FRONT_SIZE, out, bias=False))


def _heads(options: BaselineOptions) -> nn.Module:
    size = 2 * options.hidden
    if options.supervision == "weakly":
        return WeaklyHeads(size, HEAD_SIZE, options.classes)
    if options.npf_heads:
        return FullyHeads(size, HEAD_SIZE, options.classes)
    return SegmentHead(size, HEAD_SIZE, options.classes + 1)
