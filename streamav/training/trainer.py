"""The training loop: Adam over batches of features, selection on validation alone, and a state that a killed run goes on from.

It knows no file format of the data, no command line and no test set. Everything random in an epoch comes from the seed and the
number of the epoch, so a run that was stopped after any epoch and resumed ends with the same weights as one that was not.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Protocol

import torch

from streamav.errors import DataError, SettingsError
from streamav.training.checkpoints import Progress, load_progress, save_progress
from streamav.training.feature_set import Batch, FeatureSet
from streamav.training.losses import LossOptions, loss
from streamav.training.prefetch import prefetched
from streamav.training.selection import Scores, score
from streamav.training.targets import TargetMaker, TargetOptions
from streamav.training.windows import mixed_batches

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from torch import nn

    from streamav.training.options import TrainOptions

__all__ = ["EpochBatches", "EpochRecord", "StepReport", "TrainResult", "Watcher", "fit"]


class EpochBatches(Protocol):
    """Batches made on the fly: the same epoch number must always give the same batches."""

    def __call__(self, epoch: int, /) -> Iterable[Batch]:
        """Give the batches of one epoch, counted from 1."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class StepReport:
    """One finished step, for a progress bar."""

    epoch: int
    """From 1."""
    step: int
    """From 1, within the epoch."""
    loss: float


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochRecord:
    """One finished epoch."""

    epoch: int
    """From 1."""
    learning_rate: float
    loss: float
    """Mean over the epoch's clips."""
    parts: dict[str, float]
    """Mean of each weighted term of the loss."""
    validation: dict[str, float] | None
    """Scores on the validation set, 0 to 1; None where it was not looked at."""
    best: bool
    """Whether these weights are the best so far."""


class Watcher(Protocol):
    """Told of everything that happens, for progress bars and logs; steers nothing."""

    def step(self, report: StepReport, /) -> None:
        """Take note of a step."""
        ...

    def epoch(self, record: EpochRecord, /) -> None:
        """Take note of an epoch."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainResult:
    """What a training run came to; the network holds the selected weights."""

    best_epoch: int
    best_score: float
    """Validation accuracy of the selected weights, 0 to 1; NaN when there was no validation set."""
    history: tuple[EpochRecord, ...]
    stopped_early: bool


@dataclass(slots=True)
class _Run:
    """Everything that changes while a run goes on."""

    network: nn.Module
    optimizer: torch.optim.Adam
    average: dict[str, torch.Tensor] | None
    best: dict[str, torch.Tensor] = field(default_factory=dict)
    best_epoch: int = 0
    best_score: float = -math.inf
    history: list[EpochRecord] = field(default_factory=list)

    def candidate(self) -> dict[str, torch.Tensor]:
        """Give the weights that would be selected now: the average where one is kept, else the network's own."""
        return self.average if self.average is not None else self.network.state_dict()


def fit(
    network: nn.Module,
    train: FeatureSet | EpochBatches,
    validation: FeatureSet | None,
    options: TrainOptions,
    *,
    classes: int,
    loss_options: LossOptions | None = None,
    target_options: TargetOptions | None = None,
    folder: Path | None = None,
    resume: bool = False,
    device: str = "cpu",
    watcher: Watcher | None = None,
) -> TrainResult:
    """Train *network* in place and leave it with the weights that did best on *validation*.

    Args:
        network: answers `network(audio, visual)` with a `LocalizerOutput`.
        train: clips to shuffle each epoch, or a callable that gives the batches of an epoch.
        validation: what selects; without it the last epoch's weights are kept.
        options: how long, how fast, from which seed.
        classes: C, without background.
        loss_options: which loss; the corrected fully supervised one when None.
        target_options: how labels become targets; clean ones when None.
        folder: where the state of the run is written after every epoch; None for nowhere.
        resume: go on from the state in *folder* where there is one.
        device: "cpu" or "cuda".
        watcher: told of every step and epoch.

    Raises:
        DataError: when the loss stops being finite, or features are not.
        SettingsError: when the state in *folder* belongs to other settings.
    """
    loss_options = loss_options or LossOptions()
    target_options = target_options or TargetOptions()
    network.to(device)
    run = _Run(network, torch.optim.Adam(network.parameters(), lr=options.learning_rate), None)
    if options.weight_average > 0.0:
        run.average = {name: value.detach().clone() for name, value in network.state_dict().items()}
    described = {
        "train": {name: value for name, value in options.to_dict().items() if name not in ("epochs", "prefetch")},
        "loss": asdict(loss_options),
        "targets": asdict(target_options),
    }
    first = 1
    if resume and folder is not None:
        first = _restore(run, folder, described) + 1
    stopped = False
    for epoch in range(first, options.epochs + 1):
        torch.manual_seed(_seed(options.seed, epoch))
        targets = TargetMaker(classes, target_options)
        means = _epoch(run, _batches(train, options, epoch), targets, options, loss_options, epoch, device, watcher)  # noqa: E501
        record = _finish(run, validation, options, means, epoch, device)
        run.history.append(record)
        if folder is not None:
            save_progress(folder, _progress(run, epoch, described))
        if watcher is not None:
            watcher.epoch(record)
        if options.patience_epochs and run.best_epoch and epoch - run.best_epoch >= options.patience_epochs:
            stopped = epoch < options.epochs
            break
    network.load_state_dict(run.best)
    network.eval()
    best = run.best_score if math.isfinite(run.best_score) else math.nan
    return TrainResult(best_epoch=run.best_epoch, best_score=best, history=tuple(run.history), stopped_early=stopped)
