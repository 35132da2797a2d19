"""Computes one loss over several processes (`streamav.training.workers`); each process takes its share of every batch.

The result equals that of one process, up to rounding: each term of the loss is averaged over the clips of the whole batch that count
for it, not over the processes, and dropout is drawn for the whole batch. Data and files are not handled here.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from streamav.training.fit.losses import LossTerms, loss_terms, mean_over, term_counts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from streamav.networks.heads import LocalizerOutput
    from streamav.training.data.feature_set import Batch
    from streamav.training.fit.losses import LossOptions
    from streamav.training.fit.targets import Targets
    from streamav.training.workers import Workers

    Forward = Callable[[nn.Module, Tensor, Tensor], LocalizerOutput]

__all__ = ["SharedLoss", "shares"]

_COUNTS = 3


def shares(batches: Iterable[Batch], workers: Workers) -> Iterable[Batch]:
    """Return this process's share of each batch: every n-th clip for n processes; batches that are already a share stay unchanged."""
    if workers.size == 1:
        return batches
    return (batch if batch.whole else _share(batch, workers) for batch in batches)


def _share(batch: Batch, workers: Workers) -> Batch:
    """Return this process's share of a batch; if the share is empty, one clip, whose weight in the loss is 0."""
    mine = slice(workers.rank, None, workers.size) if workers.rank < len(batch) else slice(0, 1)
    return replace(
        batch, audio=batch.audio[mine], visual=batch.visual[mine], labels=batch.labels[mine], tags=batch.tags[mine], whole=len(batch)
    )


class SharedLoss:
    """The network and its loss over shares of a batch; DistributedDataParallel averages the gradients."""

    def __init__(self, network: nn.Module, options: LossOptions, workers: Workers, forward: Forward | None = None) -> None:
        """Copy the weights of the first process to all; *forward* replaces the plain call of the network with audio and visual."""
        self._workers = workers
        self._terms = _Terms(network, options, forward)
        # The graph is the same in each step. Parameters that no term of the loss uses are found in the first step.
        self._shared = DistributedDataParallel(self._terms, static_graph=True)
        self._masks = [_WholeDropout(module, workers) for module in network.modules() if isinstance(module, nn.Dropout)]

    def __call__(self, batch: Batch, targets: Targets) -> LossTerms:
        """Return the loss of the whole batch; backward through its total computes this process's part of the gradient."""
        for mask in self._masks:
            mask.whole = batch.whole
        terms: Tensor = self._shared(batch.audio, batch.visual, targets).float()
        idle = self._workers.rank >= batch.whole
        own = term_counts(targets).to(terms.device) * (0.0 if idle else 1.0)
        over = torch.tensor(self._terms.over, device=terms.device)
        sums = torch.cat([own, terms.detach() * own[over]])
        distributed.all_reduce(sums)
        counts = sums[:_COUNTS].clamp(min=1.0)[over]
        parts = sums[_COUNTS:] / counts
        # DistributedDataParallel averages over the processes, so each process's part is multiplied by their number.
        local = (terms * own[over] / counts).sum() * self._workers.size
        total = parts.sum() + (local - local.detach())
        return LossTerms(total, dict(zip(self._terms.names, parts.unbind(), strict=True)))


class _Terms(nn.Module):
    """Network and loss as one module: DistributedDataParallel requires that backward starts from the module's output."""

    def __init__(self, network: nn.Module, options: LossOptions, call: Forward | None) -> None:
        super().__init__()
        self.network = network
        self.options = options
        self.call: Forward = (lambda module, audio, visual: module(audio, visual)) if call is None else call
        self.names: tuple[str, ...] = ()
        self.over: tuple[int, ...] = ()

    def forward(self, audio: Tensor, visual: Tensor, targets: Targets) -> Tensor:
        """Return the weighted terms, (K,), each a mean over those clips of this share that count for it."""
        terms = loss_terms(self.call(self.network, audio, visual), targets, self.options)
        self.names = tuple(terms)
        self.over = tuple(mean_over(name) for name in terms)
        return torch.stack(list(terms.values()))


class _WholeDropout:
    """Dropout that is drawn for the whole batch in every process, so that all processes use the same random numbers.

    Each process applies its own share of the mask.
    """

    def __init__(self, layer: nn.Dropout, workers: Workers) -> None:
        self.whole = 0
        self._layer = layer
        self._workers = workers
        self._plain = layer.forward
        layer.forward = self  # type: ignore[assignment] # the layer itself stays in the network, with its training mode

    def __call__(self, stream: Tensor) -> Tensor:
        """Apply dropout to *stream* (B, ...) in training."""
        rank, size, rate = self._workers.rank, self._workers.size, self._layer.p
        share = max(1, len(range(rank, self.whole, size)))
        if not self._layer.training or rate == 0.0 or stream.shape[0] != share:
            return self._plain(stream)
        kept = torch.empty((self.whole, *stream.shape[1:]), dtype=stream.dtype, device=stream.device).bernoulli_(1.0 - rate)
        mine = kept[rank::size] if rank < self.whole else kept[:1]
        return stream * mine.div(1.0 - rate)
