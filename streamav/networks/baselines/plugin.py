"""The plug-in at the end of a baseline network (the host) in Table IV: nothing, PSP, or VSCG's ESCM."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

from streamav.networks.escm import EventSemanticConsistency, Streams
from streamav.networks.psp import PositiveSamplePropagation

if TYPE_CHECKING:
    from streamav.networks.baselines.options import BaselineOptions

__all__ = ["StreamPlugin"]

PSP_DROPOUT = 0.1
"""Source: jasongief/PSP_CVPR_2021 fully_model.py:121."""


class StreamPlugin(nn.Module):
    """Takes two streams and returns two streams of the same shape and their mean."""

    def __init__(self, options: BaselineOptions) -> None:
        """Build the module that `options.plugin` names, for streams of size 2 hidden."""
        super().__init__()
        self.module: nn.Module | None = None
        if options.plugin == "psp":
            self.module = PositiveSamplePropagation(
                2 * options.hidden, threshold=options.psp_threshold, renorm=True, dropout=PSP_DROPOUT, project_dropout=PSP_DROPOUT
            )
        elif options.plugin == "escm":
            self.module = EventSemanticConsistency(options.hidden)

    def forward(self, audio: Tensor, visual: Tensor) -> Streams:
        """Return both processed streams (B, T, D) and their mean from two streams (B, T, D)."""
        if self.module is not None:
            audio, visual = self.module(audio, visual)[:2]
        return audio, visual, (visual + audio) * 0.5
