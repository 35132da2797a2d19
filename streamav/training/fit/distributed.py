"""Training in several processes, on one machine or more, started by `torchrun`: each takes its share of every batch.

What comes out is what one process alone would give, up to rounding: the terms of the loss are averaged over the clips of the whole
batch that take part in them, not over the processes, and dropout is drawn for the whole batch. It knows no data and no files.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from streamav.errors import DataError, SettingsError
from streamav.training.fit.losses import LossTerms, loss_terms, mean_over, term_counts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from streamav.networks.heads import LocalizerOutput
    from streamav.training.data.feature_set import Batch
    from streamav.training.fit.losses import LossOptions
    from streamav.training.fit.targets import Targets

    Forward = Callable[[nn.Module, Tensor, Tensor], LocalizerOutput]

__all__ = ["ALONE", "SharedLoss", "Workers", "open_workers"]

_PATIENCE = timedelta(hours=2)
"""How long a process waits for the others: the first one checks every row of the features before the others begin."""
_COUNTS = 3
Told = TypeVar("Told")


@dataclass(frozen=True, slots=True)
class Workers:
    """The processes that train together, seen from one of them."""

    rank: int = 0
    """Which one this is, from 0."""
    size: int = 1
    """How many there are; 1 for a training that is not shared."""
    device: str = "cpu"
    """Where this one computes."""

    @property
    def first(self) -> bool:
        """Whether this process writes, prints and selects."""
        return self.rank == 0

    def from_first(self, make: Callable[[], Told]) -> Told:
        """Let the first process make something, and give it to all."""
        if self.size == 1:
            return make()
        carried = [make() if self.first else None]
        distributed.broadcast_object_list(carried, src=0, device=torch.device(self.device))
        return carried[0]  # type: ignore[return-value] # what the first has made

    def agree(self, value: str, what: str) -> None:
        """Raise DataError unless every process has the same *value*."""
        if self.from_first(lambda: value) != value:
            msg = f"{what} must be the same in every process, and process {self.rank} has another; give every machine the same files"
            raise DataError(msg)

    def wait(self) -> None:
        """Wait until every process has come here."""
        if self.size > 1:
            distributed.barrier(device_ids=[torch.device(self.device).index or 0] if self.device.startswith("cuda") else None)

    def share(self, batches: Iterable[Batch]) -> Iterable[Batch]:
        """Give this process's share of each batch: every size-th clip; batches that are a share already stay as they are."""
        if self.size == 1:
            return batches
        return (batch if batch.whole else self._part(batch) for batch in batches)

    def _part(self, batch: Batch) -> Batch:
        """Take a share of a batch; where there is none, one clip that will weigh nothing."""
        mine = slice(self.rank, None, self.size) if self.rank < len(batch) else slice(0, 1)
        return replace(
            batch, audio=batch.audio[mine], visual=batch.visual[mine], labels=batch.labels[mine], tags=batch.tags[mine], whole=len(batch)
        )


ALONE = Workers()


@contextmanager
def open_workers(device: str) -> Iterator[Workers]:
    """Join the processes that torchrun started, or work alone where it did not.

    Args:
        device: "cpu" or "cuda"; each process of a machine takes the GPU of its own number there.

    Raises:
        SettingsError: when there are more processes than GPUs, or torchrun's variables are wrong.
    """
    size = _variable("WORLD_SIZE", 1)
    if size <= 1:
        yield Workers(device=device)
        return
    rank, local = _variable("RANK", 0), _variable("LOCAL_RANK", 0)
    if device == "cuda":
        if local >= torch.cuda.device_count():
            msg = f"--device cuda needs a GPU for each process of a machine, got {torch.cuda.device_count()}; lower --nproc-per-node"
            raise SettingsError(msg)
        torch.cuda.set_device(local)
        device = f"cuda:{local}"
    distributed.init_process_group("nccl" if device != "cpu" else "gloo", timeout=_PATIENCE)
    yield Workers(rank, size, device)
    # Not in a `finally`: after an error the others are still busy, and torchrun ends them.
    distributed.destroy_process_group()


class SharedLoss:
    """The network and its loss over shares of a batch, whose gradients are averaged by DistributedDataParallel."""

    def __init__(self, network: nn.Module, options: LossOptions, workers: Workers, forward: Forward | None = None) -> None:
        """Give every process the weights of the first; *forward* calls the network with audio and visual, where that is not enough."""
        self._workers = workers
        self._terms = _Terms(network, options, forward)
        # The graph is the same in each step; parameters that no term of the loss reaches are found in the first.
        self._shared = DistributedDataParallel(self._terms, static_graph=True)
        self._masks = [_WholeDropout(module, workers) for module in network.modules() if isinstance(module, nn.Dropout)]

    def __call__(self, batch: Batch, targets: Targets) -> LossTerms:
        """Give the loss of the whole batch; backward through its total gives this process's part of the gradient."""
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
        # DistributedDataParallel averages over the processes, so that each one's part is scaled up by their number.
        local = (terms * own[over] / counts).sum() * self._workers.size
        total = parts.sum() + (local - local.detach())
        return LossTerms(total, dict(zip(self._terms.names, parts.unbind(), strict=True)))


class _Terms(nn.Module):
    """Network and loss as one module, as DistributedDataParallel wants: what it gives is what backward starts from."""

    def __init__(self, network: nn.Module, options: LossOptions, call: Forward | None) -> None:
        super().__init__()
        self.network = network
        self.options = options
        self.call: Forward = (lambda module, audio, visual: module(audio, visual)) if call is None else call
        self.names: tuple[str, ...] = ()
        self.over: tuple[int, ...] = ()

    def forward(self, audio: Tensor, visual: Tensor, targets: Targets) -> Tensor:
        """Give the weighted terms, (K,), each a mean over the clips here that take part in it."""
        terms = loss_terms(self.call(self.network, audio, visual), targets, self.options)
        self.names = tuple(terms)
        self.over = tuple(mean_over(name) for name in terms)
        return torch.stack(list(terms.values()))


class _WholeDropout:
    """Draws dropout for the whole batch and takes the own share, so that every process goes through the same random numbers."""

    def __init__(self, layer: nn.Dropout, workers: Workers) -> None:
        self.whole = 0
        self._layer = layer
        self._workers = workers
        self._plain = layer.forward
        layer.forward = self  # type: ignore[assignment] # the layer keeps its place and its mode

    def __call__(self, stream: Tensor) -> Tensor:
        """Drop numbers of *stream* (B, ...), in training."""
        rank, size, rate = self._workers.rank, self._workers.size, self._layer.p
        share = max(1, len(range(rank, self.whole, size)))
        if not self._layer.training or rate == 0.0 or stream.shape[0] != share:
            return self._plain(stream)
        kept = torch.empty((self.whole, *stream.shape[1:]), dtype=stream.dtype, device=stream.device).bernoulli_(1.0 - rate)
        mine = kept[rank::size] if rank < self.whole else kept[:1]
        return stream * mine.div(1.0 - rate)


def _variable(name: str, default: int) -> int:
    """Read a whole number that torchrun has set."""
    text = os.environ.get(name, str(default))
    if not text.isdigit():
        msg = f"the variable {name}, which torchrun sets, must be a whole number, got {text[:40]!r}"
        raise SettingsError(msg)
    return int(text)
