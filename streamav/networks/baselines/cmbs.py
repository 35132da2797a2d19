"""CMBS: transformers over both streams; each stream is suppressed where the other modality shows no event.

Losses are elsewhere. Facts were read in marmot-xy/CMBS model/main_model.py, model/models.py and configs at 48e1ffc. Layers that
the authors' code holds and never uses are left out.

Source: Xia and Zhao, "Cross-modal Background Suppression for Audio-Visual Event Localization", CVPR 2022.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from streamav.networks.baselines.plugin import StreamPlugin
from streamav.networks.heads import LocalizerOutput, agreement

if TYPE_CHECKING:
    from streamav.networks.baselines.options import BaselineOptions

__all__ = ["FullyCMBS", "SpatialChannelAttention", "WeaklyCMBS"]

TOP_SEGMENTS = 4
"""A modality's window score is the mean over this many of its best segments."""
ENCODER_LAYERS = 2
HEADS = 4


class SpatialChannelAttention(nn.Module):
    """Self-attention over the grid, then weights for channels and cells from the sound (CMRAN's attention, extended by CMBS)."""

    def __init__(self, audio_size: int, visual_size: int, inner: int, beta: float) -> None:
        """Build the layers; *beta* is the share of the picture's own attention."""
        super().__init__()
        self.beta = beta
        narrow = max(visual_size // 4, 1)
        self.query = nn.Linear(visual_size, narrow)
        self.key = nn.Linear(visual_size, narrow)
        self.value = nn.Linear(visual_size, visual_size)
        self.dropout = nn.Dropout(0.2)
        self.norm = nn.LayerNorm(visual_size)
        self.own_mean = nn.Linear(visual_size, inner)
        self.own_cells = nn.Linear(visual_size, inner)
        self.own_score = nn.Linear(inner, 1)
        self.channel_visual = nn.Linear(visual_size, visual_size)
        self.channel_audio = nn.Linear(audio_size, visual_size)
        self.channel_narrow = nn.Linear(visual_size, inner)
        self.channel_score = nn.Linear(inner, visual_size)
        self.cell_visual = nn.Linear(visual_size, inner)
        self.cell_audio = nn.Linear(audio_size, inner)
        self.cell_score = nn.Linear(inner, 1)

    def forward(self, audio: Tensor, cells: Tensor) -> tuple[Tensor, Tensor]:
        """Return the attended picture (B, V) and the attention (B, cells) from audio (B, A) and cells (B, cells, V)."""
        energy = torch.softmax(torch.bmm(self.query(cells), self.key(cells).transpose(1, 2)), dim=-1)
        related = self.norm(cells + self.dropout(torch.bmm(energy, self.value(cells))))
        own = self._pool(related, torch.relu(self.own_cells(related)), torch.relu(self.own_mean(related.mean(dim=1))), self.own_score)[0]
        matched = (torch.relu(self.channel_audio(audio)).unsqueeze(1) * torch.relu(self.channel_visual(related))).mean(dim=1)
        channels = torch.sigmoid(self.channel_score(torch.relu(self.channel_narrow(matched)))).unsqueeze(1)
        weighted = cells * (channels + 1.0)
        attended, weights = self._pool(
            weighted, torch.relu(self.cell_visual(weighted)), torch.relu(self.cell_audio(audio)), self.cell_score
        )
        return attended + self.beta * torch.sigmoid(own) * attended, weights

    def _pool(self, cells: Tensor, keys: Tensor, query: Tensor, score: nn.Linear) -> tuple[Tensor, Tensor]:
        """Return the weighted mean (B, V) of cells (B, cells, V), and the weights: the match of keys (B, cells, inner) with the query."""
        weights = torch.softmax(torch.tanh(score(keys * query.unsqueeze(1))).squeeze(-1), dim=-1)
        return torch.bmm(weights.unsqueeze(1), cells).squeeze(1), weights


class _Encoder(nn.Module):
    """A linear layer and two transformer layers over one stream."""

    def __init__(self, size: int, out: int, feedforward: int) -> None:
        super().__init__()
        self.enter = nn.Linear(size, out)
        layers = [nn.TransformerEncoderLayer(out, HEADS, feedforward, 0.1, batch_first=True) for _ in range(ENCODER_LAYERS)]
        self.layers = nn.Sequential(*layers)

    def forward(self, stream: Tensor) -> Tensor:
        encoded: Tensor = self.layers(self.enter(stream))
        return encoded


class _CrossDecoder(nn.Module):
    """Attention from one modality over the other's memory and over itself, then a feed-forward layer."""

    def __init__(self, size: int, out: int, feedforward: int) -> None:
        super().__init__()
        self.enter = nn.Linear(size, out)
        self.attention = nn.MultiheadAttention(out, HEADS, dropout=0.1, batch_first=True)
        self.widen = nn.Linear(out, feedforward)
        self.narrow = nn.Linear(feedforward, out)
        self.first_norm = nn.LayerNorm(out)
        self.second_norm = nn.LayerNorm(out)
        self.dropout = nn.Dropout(0.1)

    def forward(self, stream: Tensor, memory: Tensor) -> Tensor:
        query = self.enter(stream)
        memory = torch.cat([memory, query], dim=1)
        query = self.first_norm(query + self.dropout(self.attention(query, memory, memory, need_weights=False)[0]))
        decoded: Tensor = self.second_norm(query + self.dropout(self.narrow(self.dropout(torch.relu(self.widen(query))))))
        return decoded


class _Interaction(nn.Module):
    """Attention over both streams; the query is the product of both modalities in each segment."""

    def __init__(self, size: int, heads: int) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(size, heads, dropout=0.2, batch_first=True)
        self.norm = nn.LayerNorm(size)
        self.dropout = nn.Dropout(0.1)

    def forward(self, own: Tensor, other: Tensor) -> Tensor:
        shared = own * other
        memory = torch.cat([other, own], dim=1)
        mixed: Tensor = self.norm(shared + self.dropout(self.attention(shared, memory, memory, need_weights=False)[0]))
        return mixed


class _CMBS(nn.Module):
    """The layers that both settings have."""

    def __init__(self, options: BaselineOptions, *, beta: float, dropout: float, heads: int) -> None:
        super().__init__()
        self.options = options
        size = 2 * options.hidden
        self.enter_visual = nn.Linear(options.visual_size, options.visual_size)
        self.enter_dropout = nn.Dropout(dropout)
        self.attention = SpatialChannelAttention(options.audio_size, options.visual_size, size, beta)
        self.audio_gate = nn.Linear(size, 1)
        self.visual_gate = nn.Linear(size, 1)
        self.mix_visual = _Interaction(size, heads)
        self.mix_audio = _Interaction(size, heads)
        self.plugin = StreamPlugin(options)

    def _attend(self, audio: Tensor, visual: Tensor) -> tuple[Tensor, Tensor]:
        """Return the attended pictures (B, T, V) and the attention (B, T, G, G)."""
        batch, segments = audio.shape[:2]
        cells = self.enter_dropout(torch.relu(self.enter_visual(visual))).flatten(0, 1).flatten(1, 2)
        attended, weights = self.attention(audio.flatten(0, 1), cells)
        return attended.view(batch, segments, -1), weights.view(visual.shape[:4])

    def _mix(self, heard: Tensor, seen: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Run both interactions one after the other, then the plug-in; return both streams and their mean."""
        seen = self.mix_visual(seen, heard)
        heard = self.mix_audio(heard, seen)
        streams: tuple[Tensor, Tensor, Tensor] = self.plugin(heard, seen)
        return streams


class FullyCMBS(_CMBS):
    """The fully supervised network; the gain of its gates is 0.1, the share of single-modality scores is 0.3."""

    ALPHA, BETA, GAMMA = 0.1, 0.4, 0.3

    def __init__(self, options: BaselineOptions) -> None:
        """Build the layers."""
        super().__init__(options, beta=self.BETA, dropout=0.2, heads=4)
        size = 2 * options.hidden
        wide = 2 * size
        self.audio_lstm = nn.LSTM(options.audio_size, size // 2, batch_first=True, bidirectional=True)
        self.visual_lstm = nn.LSTM(options.visual_size, size, batch_first=True, bidirectional=True)
        self.visual_encoder = _Encoder(wide, size, 1024)
        self.visual_decoder = _CrossDecoder(wide, size, 1024)
        self.audio_encoder = _Encoder(size, size, 1024)
        self.audio_decoder = _CrossDecoder(size, size, 1024)
        self.audio_class = nn.Linear(size, options.classes)
        self.visual_class = nn.Linear(size, options.classes)
        self.relevance = nn.Linear(size, 1)
        self.window_class = nn.Linear(size, options.classes)

    def forward(self, audio: Tensor, visual: Tensor) -> LocalizerOutput:
        """Score every segment of (B, T, A) sound and (B, T, G, G, V) picture features."""
        attended, attention = self._attend(audio, visual)
        heard, seen = self.audio_lstm(audio)[0], self.visual_lstm(attended)[0]
        visual_memory, audio_memory = self.visual_encoder(seen), self.audio_encoder(heard)
        heard, seen = self.audio_decoder(heard, visual_memory), self.visual_decoder(seen, audio_memory)
        audio_gate, visual_gate = torch.sigmoid(self.audio_gate(audio_memory)), torch.sigmoid(self.visual_gate(visual_memory))
        seen = seen + audio_gate * seen * self.ALPHA
        heard = heard + visual_gate * heard * self.ALPHA
        single = (_best_mean(self.visual_class(seen)) + _best_mean(self.audio_class(heard))) * 0.5
        heard, seen, fused = self._mix(heard, seen)
        return LocalizerOutput(
            relevance_logits=self.relevance(fused).squeeze(-1),
            class_logits=self.window_class(fused.amax(dim=1)) + self.GAMMA * single,
            similarity=agreement(heard, seen),
            attention=attention,
            gate=(audio_gate * visual_gate).squeeze(-1),
            modality_logits=single,
        )


class WeaklyCMBS(_CMBS):
    """The weakly supervised network: one set of class scores for the window, multiplied by the gate of each segment."""

    ALPHA, BETA, GAMMA = 0.2, 0.5, 0.5

    def __init__(self, options: BaselineOptions) -> None:
        """Build the layers."""
        super().__init__(options, beta=self.BETA, dropout=0.1, heads=2)
        size = 2 * options.hidden
        self.visual_encoder = _Encoder(options.visual_size, size, 2048)
        self.visual_decoder = _CrossDecoder(options.visual_size, size, 1024)
        self.audio_encoder = _Encoder(options.audio_size, size, 2048)
        self.audio_decoder = _CrossDecoder(options.audio_size, size, 1024)
        self.audio_class = nn.Linear(size, options.classes + 1)
        self.visual_class = nn.Linear(size, options.classes + 1)
        self.segment_class = nn.Linear(size, options.classes + 1, bias=False)

    def forward(self, audio: Tensor, visual: Tensor) -> LocalizerOutput:
        """Score every segment of (B, T, A) sound and (B, T, G, G, V) picture features."""
        seen, attention = self._attend(audio, visual)
        visual_memory, audio_memory = self.visual_encoder(seen), self.audio_encoder(audio)
        heard, seen = self.audio_decoder(audio, visual_memory), self.visual_decoder(seen, audio_memory)
        # In the authors' code the audio gate has the picture as input and the visual gate the sound. Here each gate has its input's name.
        visual_gate, audio_gate = torch.sigmoid(self.visual_gate(visual_memory)), torch.sigmoid(self.audio_gate(audio_memory))
        seen = (1.0 - self.ALPHA) * seen + visual_gate * seen * self.ALPHA
        heard = (1.0 - self.ALPHA) * heard + audio_gate * heard * self.ALPHA
        support = torch.sigmoid(self.visual_class(seen)) + torch.sigmoid(self.audio_class(heard))
        heard, seen, fused = self._mix(heard, seen)
        window = _best_mean(self.GAMMA * support * self.segment_class(fused))
        gate = (audio_gate + visual_gate) * 0.5
        scores = gate * window.unsqueeze(1)
        return LocalizerOutput(
            segment_logits=scores,
            similarity=agreement(heard, seen),
            attention=attention,
            video_probabilities=torch.softmax(scores.amax(dim=1), dim=-1),
            segment_scores=scores,
            gate=gate.squeeze(-1),
        )


def _best_mean(scores: Tensor) -> Tensor:
    """Return the mean (B, K) over the four best segments of (B, T, K), for each class."""
    return scores.topk(min(TOP_SEGMENTS, scores.shape[1]), dim=1).values.mean(dim=1)
