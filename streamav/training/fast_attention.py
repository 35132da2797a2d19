"""Makes a training step of the audio-guided attention cheaper on a CPU, without another network.

Forward gives the same numbers; the gradient is exact, or estimated without bias from the grid cells that matter.

The attention's wide product over all B * T * G * G cells is most of a step. Here it is done in blocks that stay in the cache,
into buffers that are kept from step to step (fresh memory of 128 MB a tensor costs as much as the arithmetic), and backward
without the gradient of the features, which nobody needs. It knows no loss and no loop.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from streamav.networks.attention import AudioGuidedAttention

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import nn

__all__ = ["fast_attention"]

_BLOCK = 32
"""Segments of a block: 32 * 49 rows of 512 numbers are 3 MB, which stays in the last-level cache."""


@contextmanager
def fast_attention(network: nn.Module, gradient_share: float = 1.0, buffers: dict[str, Tensor] | None = None) -> Iterator[None]:
    """Run the attention layers of *network* the fast way, in training on a CPU, while the context lasts.

    Args:
        network: any module that holds `AudioGuidedAttention` layers; others are left as they are.
        gradient_share: share of the grid cells that the gradient of the wide layer is estimated from, above 0 to 1. Cells are drawn
            with probability in proportion to their part in the gradient and weighted by its inverse, so the estimate has no bias.
            1 for all of them: exact.
        buffers: where large intermediate results are kept from step to step; None for as long as the context lasts.

    Source: Drineas, Kannan and Mahoney, Fast Monte Carlo Algorithms for Matrices I, SIAM J. Comput. 36 (2006): sampling of an outer
    product by importance.
    """
    changed: list[AudioGuidedAttention] = []
    for module in network.modules():
        if isinstance(module, AudioGuidedAttention):
            module.forward = _Forward(module, gradient_share, {} if buffers is None else buffers)  # type: ignore[method-assign] # the layer keeps its weights and names
            changed.append(module)
    try:
        yield
    finally:
        for module in changed:
            del module.forward


class _Forward:
    """Stands in for `AudioGuidedAttention.forward`, with the same arguments and result."""

    def __init__(self, layer: AudioGuidedAttention, gradient_share: float, buffers: dict[str, Tensor]) -> None:
        self.layer = layer
        self.gradient_share = gradient_share
        self.buffers = buffers

    def __call__(self, audio: Tensor, visual: Tensor) -> tuple[Tensor, Tensor]:
        layer = self.layer
        if not torch.is_grad_enabled() or visual.requires_grad or visual.device.type != "cpu":
            return AudioGuidedAttention.forward(layer, audio, visual)
        cells = visual.flatten(1, 2)
        heard = layer.audio_rows(torch.relu(layer.audio_in(audio)))
        wide = layer.visual_in
        attended, weights = _Attend.apply(heard, wide.weight, wide.bias, layer.visual_rows.weight, layer.score.weight, cells, self)  # type: ignore[no-untyped-call]
        return attended, weights.view(visual.shape[:3])

    def buffer(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """Give memory that is kept from step to step, for at least the rows asked for."""
        kept = self.buffers.get(name)
        if kept is None or kept.shape[0] < shape[0] or kept.shape[1:] != shape[1:]:
            kept = torch.empty(shape)
            self.buffers[name] = kept
        return kept[: shape[0]]


class _Attend(torch.autograd.Function):
    """The attention from the audio's rows on: one operation with its own gradient."""

    @staticmethod
    def forward(  # noqa: PLR0913, PLR0917 - the operands of one formula
        ctx: Any,  # noqa: ANN401 - torch names no type for it
        heard: Tensor,
        wide: Tensor,
        bias: Tensor,
        narrow: Tensor,
        score: Tensor,
        cells: Tensor,
        owner: _Forward,
    ) -> tuple[Tensor, Tensor]:
        """Give the attended picture (N, V) and the attention (N, P) of N segments with P cells.

        Args:
            ctx: what backward finds again.
            heard: (N, P), one number a cell, from the sound.
            wide: (H, V); *bias*: (H,); *narrow*: (P, H); *score*: (1, P): the weights.
            bias: see *wide*.
            narrow: see *wide*.
            score: see *wide*.
            cells: (N, P, V), the picture.
            owner: holds the buffers.
        """
        segments, places, size = cells.shape
        keys = owner.buffer("keys", (segments * places, wide.shape[0]))
        rows = owner.buffer("rows", (segments * places, places))
        flat = cells.reshape(-1, size)
        across, down = wide.t(), narrow.t()
        for start in range(0, segments * places, _BLOCK * places):
            part = slice(start, start + _BLOCK * places)
            torch.addmm(bias, flat[part], across, out=keys[part])
            keys[part].relu_()
            torch.mm(keys[part], down, out=rows[part])
            rows[part].add_(heard.reshape(-1, 1)[part]).tanh_()
        weights = torch.softmax(torch.mv(rows, score[0]).view(segments, places), dim=1)
        attended = torch.bmm(weights.unsqueeze(1), cells).squeeze(1)
        ctx.save_for_backward(wide, narrow, score, cells, weights)
        ctx.owner = owner
        ctx.set_materialize_grads(False)
        return attended, weights

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:  # noqa: ANN401 - torch names no type for it
        """Give the gradients of the sound's rows and of the four weights."""
        _, narrow, score, cells, weights = ctx.saved_tensors
        segments, places, size = cells.shape
        keys, rows = ctx.owner.buffers["keys"][: segments * places], ctx.owner.buffers["rows"][: segments * places]
        of_attended, of_weights = gradients
        through = torch.zeros_like(weights) if of_weights is None else of_weights
        if of_attended is not None:
            through = through + torch.bmm(cells, of_attended.unsqueeze(2)).squeeze(2)
        of_logits = (weights * (through - (weights * through).sum(dim=1, keepdim=True))).reshape(-1)
        of_score = torch.mv(rows.t(), of_logits).unsqueeze(0)
        steep = torch.addcmul(torch.ones(()), rows, rows, value=-1.0)  # 1 - tanh squared
        of_rows = steep.mul_(score).mul_(of_logits.unsqueeze(1))
        of_heard = of_rows.sum(dim=1).view(segments, places)
        chosen, weight = _chosen(of_logits, ctx.owner.gradient_share)
        flat = cells.reshape(-1, size)
        if chosen is not None:
            of_rows = of_rows.index_select(0, chosen).mul_(weight.unsqueeze(1))
            keys, flat = keys.index_select(0, chosen), flat.index_select(0, chosen)
        of_wide, of_bias, of_narrow = _weights(of_rows, keys, flat, narrow)
        return of_heard, of_wide, of_bias, of_narrow, of_score, None, None


def _weights(of_rows: Tensor, keys: Tensor, flat: Tensor, narrow: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Give the gradients of wide (H, V), bias (H,) and narrow (P, H) from some cells: of_rows (R, P), keys (R, H), flat (R, V)."""
    of_wide = torch.zeros(keys.shape[1], flat.shape[1])
    of_bias = torch.zeros(keys.shape[1])
    of_narrow = torch.zeros_like(narrow)
    step = _BLOCK * narrow.shape[0]
    for start in range(0, len(keys), step):
        part = slice(start, start + step)
        of_narrow.addmm_(of_rows[part].t(), keys[part])
        of_keys = torch.ops.aten.threshold_backward(torch.mm(of_rows[part], narrow), keys[part], 0)
        of_bias.add_(of_keys.sum(dim=0))
        of_wide.addmm_(of_keys.t(), flat[part])
    return of_wide, of_bias, of_narrow


def _chosen(importance: Tensor, share: float) -> tuple[Tensor | None, Tensor]:
    """Draw cells in proportion to the size of their gradient, giving their places and weights; None for all."""
    size = importance.abs()
    total = size.sum()
    if share >= 1.0 or not total > 0:
        return None, importance
    # Half by importance and half evenly: no cell's weight exceeds 2 / share, so that the estimate stays calm.
    chance = (share * (0.5 + 0.5 * size * (len(size) / total))).clamp_(max=1.0)
    taken = torch.rand(len(size)) < chance
    chosen = taken.nonzero().squeeze(1)
    return chosen, chance[chosen].reciprocal()
