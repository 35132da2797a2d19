"""The two recurrent encoders, one for sound and one for picture, that add context from the neighbouring segments.

The two modalities are not combined here.
"""

from __future__ import annotations

from torch import Tensor, nn

__all__ = ["BiLSTMPair"]


class BiLSTMPair(nn.Module):
    """One single-layer bidirectional LSTM for each modality (VSCG section III-C)."""

    def __init__(self, audio_size: int, visual_size: int, hidden: int) -> None:
        """Build both LSTMs with *hidden* units per direction."""
        super().__init__()
        self.audio = nn.LSTM(audio_size, hidden, batch_first=True, bidirectional=True)
        self.visual = nn.LSTM(visual_size, hidden, batch_first=True, bidirectional=True)

    def forward(self, audio: Tensor, visual: Tensor) -> tuple[Tensor, Tensor]:
        """Return both streams (B, T, 2 hidden) from inputs (B, T, audio_size) and (B, T, visual_size)."""
        heard: Tensor = self.audio(audio)[0]
        seen: Tensor = self.visual(visual)[0]
        return heard, seen
