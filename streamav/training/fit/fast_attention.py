"""Makes a training step of the audio-guided attention faster on a CPU; the network stays the same.

In float32, forward computes the same numbers as the plain layer, and the gradient is exact or an unbiased estimate from the grid cells
that matter most. In bfloat16, the factors of the large products are rounded to 8 bits of mantissa and their sums stay float32. This is
faster only on processors with an instruction that multiplies bfloat16 (`precision` chooses the type).

The attention's wide product over all B * T * G * G cells is most of the work of a step. This module computes it in blocks that stay in
the cache, and writes into buffers that are kept from step to step (new memory of 128 MB for each tensor costs as much time as the
arithmetic). Backward omits the gradient of the features, which is not used. The loss and the training loop are not handled here.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional

from streamav.networks.attention import AudioGuidedAttention

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import nn

__all__ = ["fast_attention"]

_BLOCK = 32
"""Number of segments in a block: 32 * 49 rows of 512 numbers are 3 MB, which fits in the last-level cache."""


@contextmanager
def fast_attention(
    network: nn.Module, gradient_share: float = 1.0, buffers: dict[str, Tensor] | None = None, dtype: torch.dtype = torch.float32
) -> Iterator[None]:
    """Use the fast form of the attention layers of *network* in training on a CPU, while the context is open.

    Args:
        network: any module that holds `AudioGuidedAttention` layers; other layers stay unchanged.
        gradient_share: share of the grid cells from which the gradient of the wide layer is estimated, above 0 to 1. Cells are drawn
            with a probability that grows with their part in the gradient (half of it is the same for every cell), and are weighted
            by the inverse of this probability, so the estimate has no bias. With 1, all cells are used and the gradient is exact.
        buffers: dictionary that keeps large intermediate results from step to step; None for buffers that live as long as the context.
        dtype: type of the factors of the large products, float32 or bfloat16. Weights, softmax, the attended picture, sums over cells
            and every gradient that leaves the layer are float32 with both.

    Source: Drineas, Kannan and Mahoney, Fast Monte Carlo Algorithms for Matrices I, SIAM J. Comput. 36 (2006): sampling of an outer
    product by importance.
    """
    changed: list[AudioGuidedAttention] = []
    for module in network.modules():
        if isinstance(module, AudioGuidedAttention):
            module.forward = _Forward(module, gradient_share, {} if buffers is None else buffers, dtype)  # type: ignore[method-assign] # the layer keeps its weights and names
            changed.append(module)
    try:
        yield
    finally:
        for module in changed:
            del module.forward


class _Forward:
    """Replaces `AudioGuidedAttention.forward`; arguments and result are the same."""

    def __init__(self, layer: AudioGuidedAttention, gradient_share: float, buffers: dict[str, Tensor], dtype: torch.dtype) -> None:
        self.layer = layer
        self.gradient_share = gradient_share
        self.buffers = buffers
        self.dtype = dtype

    def __call__(self, audio: Tensor, visual: Tensor) -> tuple[Tensor, Tensor]:
        layer = self.layer
        if not torch.is_grad_enabled() or visual.requires_grad or visual.device.type != "cpu":
            return AudioGuidedAttention.forward(layer, audio, visual)
        cells = visual.flatten(1, 2)
        heard = layer.audio_rows(torch.relu(layer.audio_in(audio)))
        wide = layer.visual_in
        attended, weights = _Attend.apply(heard, wide.weight, wide.bias, layer.visual_rows.weight, layer.score.weight, cells, self)  # type: ignore[no-untyped-call]
        return attended, weights.view(visual.shape[:3])

    def buffer(self, name: str, shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> Tensor:
        """Return a tensor of the given shape in memory that is kept from step to step; allocate it if it is missing or too small."""
        kept = self.buffers.get(name)
        if kept is None or kept.shape[0] < shape[0] or kept.shape[1:] != shape[1:] or kept.dtype != dtype:
            kept = torch.empty(shape, dtype=dtype)
            self.buffers[name] = kept
        return kept[: shape[0]]


class _Attend(torch.autograd.Function):
    """The attention after the projection of the audio: one operation with its own gradient."""

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
        """Return the attended picture (N, V) and the attention (N, P) of N segments with P cells.

        Args:
            ctx: holds the values that backward needs.
            heard: (N, P), one number for each cell, computed from the sound.
            wide: (H, V), weights of the wide layer.
            bias: (H,), bias of the wide layer.
            narrow: (P, H), weights of the narrow layer.
            score: (1, P), weights of the score layer.
            cells: (N, P, V), the picture's features.
            owner: holds the buffers.
        """
        segments, places, size = cells.shape
        keys = owner.buffer("keys", (segments * places, wide.shape[0]), owner.dtype)
        rows = owner.buffer("rows", (segments * places, places))
        flat = cells.reshape(-1, size)
        factors = flat if owner.dtype == flat.dtype else owner.buffer("cells", (segments * places, size), owner.dtype)
        step = _BLOCK * places
        parts = [slice(start, start + step) for start in range(0, segments * places, step)]
        if factors is flat:
            for part in parts:
                torch.addmm(bias, flat[part], wide.t(), out=keys[part])
                torch.mm(keys[part].relu_(), narrow.t(), out=rows[part])
                rows[part].add_(heard.reshape(-1, 1)[part]).tanh_()
        else:
            first, second, shift = (value.to(owner.dtype) for value in (wide, narrow, bias))
            finite = bool(torch.isfinite(wide).all() & torch.isfinite(bias).all())
            for part in parts:
                product = functional.linear(factors[part].copy_(flat[part]), first, shift)
                torch.clamp_min(_bits(product, finite=finite), 0, out=_bits(keys[part], finite=finite))
                rows[part].copy_(torch.mm(keys[part], second.t())).add_(heard.reshape(-1, 1)[part]).tanh_()
        weights = torch.softmax(torch.mv(rows, score[0]).view(segments, places), dim=1)
        attended = torch.bmm(weights.unsqueeze(1), cells).squeeze(1)
        ctx.save_for_backward(narrow, score, cells, weights)
        ctx.factors = factors
        ctx.owner = owner
        ctx.set_materialize_grads(False)
        return attended, weights

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:  # noqa: ANN401 - torch names no type for it
        """Return the gradients of *heard* and of the four weights."""
        narrow, score, cells, weights = ctx.saved_tensors
        segments, places, _ = cells.shape
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
        factors = ctx.factors
        if chosen is not None:
            of_rows = of_rows.index_select(0, chosen).mul_(weight.unsqueeze(1))
            keys, factors = keys.index_select(0, chosen), factors.index_select(0, chosen)
        of_wide, of_bias, of_narrow = _weights(of_rows.to(keys.dtype), keys, factors, narrow.to(keys.dtype))
        return of_heard, of_wide, of_bias, of_narrow, of_score, None, None


def _weights(of_rows: Tensor, keys: Tensor, factors: Tensor, narrow: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the float32 gradients of wide (H, V), bias (H,) and narrow (P, H), computed from R cells.

    All four arguments have the type in which the products are computed.

    Args:
        of_rows: (R, P), gradient of the rows.
        keys: (R, H), output of the wide layer after ReLU.
        factors: (R, V), features of the cells.
        narrow: (P, H), weights of the narrow layer.
    """
    of_wide = torch.zeros(keys.shape[1], factors.shape[1])
    of_bias = torch.zeros(keys.shape[1])
    of_narrow = torch.zeros(narrow.shape)
    step = _BLOCK * narrow.shape[0]
    room = torch.empty((min(step, len(keys)), keys.shape[1]), dtype=keys.dtype)
    for start in range(0, len(keys), step):
        part = slice(start, start + step)
        of_keys = torch.mm(of_rows[part], narrow, out=room[: len(keys[part])])
        torch.ops.aten.threshold_backward.grad_input(_bits(of_keys), _bits(keys[part]), 0, grad_input=_bits(of_keys))
        of_bias.add_(of_keys.sum(dim=0))
        _add_product(of_narrow, of_rows[part].t(), keys[part])
        _add_product(of_wide, of_keys.t(), factors[part])
    return of_wide, of_bias, of_narrow


def _bits(values: Tensor, *, finite: bool = True) -> Tensor:
    """Return a view of finite bfloat16 numbers as int16; return other tensors unchanged.

    The sign bit is the same in both types, so ReLU and its gradient have the same result, and torch computes them ten times as fast on
    whole numbers. NaN may have a sign bit and would become 0, so numbers that may not be finite keep their type.
    """
    return values.view(torch.int16) if finite and values.dtype == torch.bfloat16 else values


def _add_product(total: Tensor, left: Tensor, right: Tensor) -> None:
    """Add *left* times *right* to a float32 *total*; the product of one block may be rounded, the sum of the blocks is not."""
    if left.dtype == total.dtype:
        total.addmm_(left, right)
    else:
        total.add_(torch.mm(left, right))


def _chosen(importance: Tensor, share: float) -> tuple[Tensor | None, Tensor]:
    """Draw cells with a chance that grows with the size of their gradient; return their indices and weights, or None for all cells."""
    size = importance.abs()
    total = size.sum()
    if share >= 1.0 or not total > 0:
        return None, importance
    # Half of the chance is in proportion to the gradient and half is equal for all cells: no weight exceeds 2 / share, which limits
    # the variance of the estimate.
    chance = (share * (0.5 + 0.5 * size * (len(size) / total))).clamp_(max=1.0)
    taken = torch.rand(len(size)) < chance
    chosen = taken.nonzero().squeeze(1)
    return chosen, chance[chosen].reciprocal()
