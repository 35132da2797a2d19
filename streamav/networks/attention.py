"""Computes audio-guided visual attention: the place in the picture that belongs to the sound.

Each segment is processed alone, without its neighbours.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["AudioGuidedAttention"]


class AudioGuidedAttention(nn.Module):
    """Weights the cells of a picture's feature grid by how well they match the sound.

    Source: Tian et al., "Audio-Visual Event Localization in Unconstrained Videos", ECCV 2018, Eq. 1-3 (AVGA);
    used unchanged by VSCG section III-C.
    """

    def __init__(self, audio_size: int, visual_size: int, hidden: int, grid: int) -> None:
        """Build the five layers; only audio_in and visual_in have a bias."""
        super().__init__()
        cells = grid * grid
        self.audio_in = nn.Linear(audio_size, hidden)
        self.visual_in = nn.Linear(visual_size, hidden)
        self.visual_rows = nn.Linear(hidden, cells, bias=False)
        self.audio_rows = nn.Linear(hidden, cells, bias=False)
        self.score = nn.Linear(cells, 1, bias=False)
        for layer in (self.audio_in, self.visual_in, self.visual_rows, self.audio_rows, self.score):
            nn.init.xavier_uniform_(layer.weight)

    def forward(self, audio: Tensor, visual: Tensor) -> tuple[Tensor, Tensor]:
        """Return the attended picture (B, V) and the attention (B, G, G), which sums to 1 over the grid.

        Args:
            audio: (B, A) float, the sound features of B segments.
            visual: (B, G, G, V) float, their feature grids.
        """
        cells = visual.flatten(1, 2)  # (B, G*G, V)
        keys = torch.relu(self.visual_in(cells))
        query = torch.relu(self.audio_in(audio))
        # Row i belongs to cell i. The sound adds one number per row, the same in every column.
        rows = self.visual_rows(keys) + self.audio_rows(query).unsqueeze(2)  # (B, G*G, G*G)
        weights = torch.softmax(self.score(torch.tanh(rows)).squeeze(2), dim=-1)  # (B, G*G)
        attended = torch.bmm(weights.unsqueeze(1), cells).squeeze(1)  # the mean of the raw cells, not of the keys
        return attended, weights.view(visual.shape[:3])
