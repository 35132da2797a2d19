"""AVEL: attention, two BiLSTMs, concatenation, and one score per class for every segment.

Losses are elsewhere. Facts were read in YapengTian/AVE-ECCV18 models.py and models_weakly.py at 93f843f.

Source: Tian et al., "Audio-Visual Event Localization in Unconstrained Videos", ECCV 2018.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from streamav.networks.attention import AudioGuidedAttention
from streamav.networks.baselines.plugin import StreamPlugin
from streamav.networks.heads import LocalizerOutput, SegmentHead, agreement
from streamav.networks.recurrent import BiLSTMPair

if TYPE_CHECKING:
    from streamav.networks.baselines.options import BaselineOptions

__all__ = ["AVEL"]

ATTENTION_SIZE = 512
HEAD_SIZE = 64
"""Hidden sizes of the attention and of the head. Source: YapengTian/AVE-ECCV18 models.py."""


class AVEL(nn.Module):
    """The network of the A+V-att rows, fully and weakly supervised, with an optional plug-in after its BiLSTMs."""

    def __init__(self, options: BaselineOptions) -> None:
        """Build the layers."""
        super().__init__()
        self.options = options
        self.attention = AudioGuidedAttention(options.audio_size, options.visual_size, ATTENTION_SIZE, options.grid)
        self.lstm = BiLSTMPair(options.audio_size, options.visual_size, options.hidden)
        self.plugin = StreamPlugin(options)
        self.segment = SegmentHead(4 * options.hidden, HEAD_SIZE, options.classes + 1, bias=True)
        self.relevance = nn.Linear(4 * options.hidden, 1) if options.npf_heads else None
        self.window_class = nn.Linear(4 * options.hidden, options.classes) if options.npf_heads else None

    def forward(self, audio: Tensor, visual: Tensor) -> LocalizerOutput:
        """Score every segment of (B, T, A) sound and (B, T, G, G, V) picture features."""
        batch, segments = audio.shape[:2]
        attended, attention = self.attention(audio.flatten(0, 1), visual.flatten(0, 1))
        heard, seen, _ = self.plugin(*self.lstm(audio, attended.view(batch, segments, -1)))
        joined = torch.relu(torch.cat([heard, seen], dim=-1))
        scores = self.segment(joined)
        answer = LocalizerOutput(
            segment_logits=scores,
            similarity=agreement(heard, seen),
            attention=attention.view(batch, segments, *attention.shape[1:]),
        )
        if self.relevance is not None and self.window_class is not None:
            return answer._replace(relevance_logits=self.relevance(joined).squeeze(-1), class_logits=self.window_class(joined.amax(dim=1)))
        if self.options.supervision == "weakly":
            return answer._replace(video_probabilities=torch.softmax(scores.amax(dim=1), dim=-1), segment_scores=scores)
        return answer
