"""The two recurrent encoders, one for sound and one for picture, that let a segment know its neighbours.

They know nothing of how the two modalities meet.
"""

from __future__ import annotations

from torch import Tensor, nn

__all__ = ["BiLSTMPair"]


class BiLSTMPair(nn.Module):
    """One single-layer bidirectional LSTM for each modality (VSCG section III-C)."""

    def __init__(self, audio_size: int, visual_size: int, hidden: int) -> None:
        """Make both LSTMs with *hidden* units a direction."""
        super().__init__()
        self.audio = nn.LSTM(audio_size, hidden, batch_first=True, bidirectional=True)
        self.visual = nn.LSTM(visual_size, hidden, batch_first=True, bidirectional=True)

    def forward(self, audio: Tensor, visual: Tensor) -> tuple[Tensor, Tensor]:
        """Give both streams as (B, T, 2 hidden), from (B, T, audio_size) and (B, T, visual_size)."""
        heard: Tensor = self.audio(audio)[0]
        seen: Tensor = self.visual(visual)[0]
        return heard, seen
