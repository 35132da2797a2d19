"""VSCG: scores for every segment of a window whether it holds an audio-visual event, and of which class.

One implementation covers every setting of `VSCGOptions`. It has two parts: `encode_segment` takes one segment alone and runs once for
each segment; `localize_window` takes the vectors of a window and runs again for each new segment. Streams and losses are elsewhere.

Source: Jiang et al., "Leveraging the Video-level Semantic Consistency of Event for Audio-visual Event Localization",
IEEE TMM 2023, arXiv 2210.05242. Sections and equations named below are those of this paper.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from streamav.errors import ShapeError
from streamav.networks.attention import AudioGuidedAttention
from streamav.networks.escm import EventSemanticConsistency
from streamav.networks.heads import FullyHeads, LocalizerOutput, WeaklyHeads, agreement
from streamav.networks.psp import PositiveSamplePropagation
from streamav.networks.recurrent import BiLSTMPair

if TYPE_CHECKING:
    from streamav.networks.options import VSCGOptions

__all__ = ["VSCG", "VSCGOutput"]

VSCGOutput = LocalizerOutput


class VSCG(nn.Module):
    """The whole network. In every argument and output, audio is sound and visual is picture, with `swap_av` too."""

    def __init__(self, options: VSCGOptions) -> None:
        """Build the layers that *options* need, and no others."""
        super().__init__()
        self.options = options
        size = options.segment_size
        self.audio_front: nn.Module = nn.Identity()
        self.visual_front: nn.Module = nn.Linear(options.visual_size, size)
        if options.front == "fa_fv":  # two linear maps without bias or non-linearity between them, from PSP-Net
            self.audio_front = _two_maps(options.audio_size, options.front_size, size)
            self.visual_front = _two_maps(options.visual_size, options.front_size, size)
        self.attention = AudioGuidedAttention(size, options.visual_size, options.attention_size, options.grid)
        self.lstm = BiLSTMPair(size, size, options.hidden)
        self.psp = PositiveSamplePropagation(
            options.stream_size,
            threshold=options.psp_threshold,
            renorm=options.psp_renorm,
            dropout=options.psp_dropout,
            project_dropout=options.project1_dropout,
        )
        self.escm: EventSemanticConsistency | None = None
        if options.escm:
            self.escm = EventSemanticConsistency(
                options.hidden, prior=options.prior, pool=options.pool, post_gru=options.post_gru, dropout=options.post_gru_dropout
            )
        self.heads = _heads(options)

    def forward(self, audio: Tensor, visual: Tensor) -> VSCGOutput:
        """Score every segment of B windows.

        Args:
            audio: (B, T, A) float32, the audio features.
            visual: (B, T, G, G, V) float32, the visual feature grids.

        Raises:
            ShapeError: when audio or visual does not have the shape that the options define.
        """
        batch, segments = self._check(audio, visual)
        heard, seen, attention = self.encode_segment(audio.flatten(0, 1), visual.flatten(0, 1))
        heard, seen = (_disturbed(stream, self.options.feature_noise) if self.training else stream for stream in (heard, seen))
        heard = heard.view(batch, segments, -1)
        seen = seen.view(batch, segments, -1)
        return self.localize_window(heard, seen)._replace(attention=attention.view(batch, segments, *attention.shape[1:]))

    def encode_segment(self, audio: Tensor, visual: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Encode B single segments: return a sound and a picture vector, (B, segment_size) each, and the attention (B, G, G).

        Args:
            audio: (B, A) float32.
            visual: (B, G, G, V) float32.
        """
        heard = self.audio_front(audio)
        attended, attention = self.attention(heard, visual)
        return heard, self.visual_front(attended), attention

    def localize_window(self, audio: Tensor, visual: Tensor) -> VSCGOutput:
        """Score B windows of encoded segments, audio and visual (B, T, segment_size); the attention in the output is None."""
        if self.options.swap_av:
            audio, visual = visual, audio  # bug B4: the authors pass (video, audio) to two branches named (audio, video)
        heard, seen = self.psp(*self.lstm(audio, visual))
        if self.escm is None:
            fused = (seen + heard) * 0.5
        else:
            heard, seen, fused = self.escm(heard, seen)
        output: VSCGOutput = self.heads(fused, agreement(heard, seen))
        return output

    def _check(self, audio: Tensor, visual: Tensor) -> tuple[int, int]:
        """Return B and T; raise ShapeError for wrong shapes."""
        options = self.options
        cell = (options.grid, options.grid, options.visual_size)
        windows = tuple(audio.shape[:2])
        if audio.ndim != 3 or audio.shape[2] != options.audio_size or tuple(visual.shape) != (*windows, *cell):  # noqa: PLR2004 - B, T, A
            msg = (
                f"audio must be (B, T, {options.audio_size}) and visual (B, T, {', '.join(map(str, cell))}), "
                f"got {tuple(audio.shape)} and {tuple(visual.shape)}"
            )
            raise ShapeError(msg)
        return windows[0], windows[1]


def _disturbed(stream: Tensor, noise: float) -> Tensor:
    """Return the stream (B, D) with added noise; its standard deviation is *noise* times that of the stream."""
    return stream + noise * stream.detach().std() * torch.randn_like(stream) if noise > 0 else stream


def _two_maps(size: int, inner: int, out: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(size, inner, bias=False), nn.Linear(inner, out, bias=False))


def _heads(options: VSCGOptions) -> nn.Module:
    if options.supervision == "fully":
        return FullyHeads(options.stream_size, options.head_size, options.classes, contrast=options.background_contrast)
    return WeaklyHeads(options.stream_size, options.head_size, options.classes, gate_relu=options.weak_gate_relu)
