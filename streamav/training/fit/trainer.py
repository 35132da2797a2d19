"""The training loop: Adam over batches of features, selection on validation alone, and a state that a killed run goes on from.

It knows no file format of the data, no command line and no test set. Everything random in an epoch comes from the seed and the
number of the epoch, so a run that was stopped after any epoch and resumed ends with the same weights as one that was not.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

import torch
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from streamav.errors import DataError
from streamav.evaluation.segments import score_segments
from streamav.training.data.feature_set import Batch, FeatureSet, epoch_generator
from streamav.training.data.prefetch import prefetched
from streamav.training.data.windows import ClipBatches
from streamav.training.fit.checkpoints import save_progress
from streamav.training.fit.distributed import SharedLoss, shares
from streamav.training.fit.fast_attention import fast_attention
from streamav.training.fit.losses import LossOptions, LossTerms, loss
from streamav.training.fit.run_state import EpochRecord, RunState, StepReport, progress_of, restore_run
from streamav.training.fit.selection import answers
from streamav.training.fit.targets import TargetMaker, TargetOptions
from streamav.training.options import TrainOptions
from streamav.training.precision import MixedStep, resolved
from streamav.training.workers import ALONE

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from torch import nn

    from streamav.training.workers import Workers

__all__ = ["EpochBatches", "Recipe", "TrainResult", "Watcher", "fit"]


class EpochBatches(Protocol):
    """Batches made on the fly: the same epoch number must always give the same batches."""

    def __call__(self, epoch: int, /) -> Iterable[Batch]:
        """Give the batches of one epoch, counted from 1."""
        ...


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Everything that decides what a run learns, besides the data and the first weights."""

    classes: int
    """C, without background."""
    options: TrainOptions = field(default_factory=TrainOptions)
    losses: LossOptions = field(default_factory=LossOptions)
    targets: TargetOptions = field(default_factory=TargetOptions)

    def described(self) -> dict[str, object]:
        """Give the settings that a resumed run must share; it may be longer, and looking ahead changes nothing."""
        free = ("epochs", "prefetch", "device_features")
        train = {name: value for name, value in self.options.to_dict().items() if name not in free}
        return {"train": train, "loss": asdict(self.losses), "targets": asdict(self.targets), "classes": self.classes}


def fit(  # noqa: PLR0913 - a run has that many parts, of equal rank
    network: nn.Module,
    train: FeatureSet | EpochBatches,
    validation: FeatureSet | None,
    recipe: Recipe,
    *,
    folder: Path | None = None,
    resume: bool = False,
    watcher: Watcher | None = None,
    shown: FeatureSet | None = None,
    workers: Workers = ALONE,
) -> TrainResult:
    """Train *network* in place, on the device it is on, and leave it with the weights that did best on *validation*.

    Of weights that are equally accurate there the last are kept. A small validation set is soon answered right from end to end, and
    the first weights that do so are the least trained ones: training goes on to learn what validation does not ask, such as windows
    cut at any phase, at a falling learning rate.

    Args:
        network: answers `network(audio, visual)` with a `LocalizerOutput`.
        train: clips to shuffle each epoch, or a callable that gives the batches of an epoch.
        validation: what selects; without it the last epoch's weights are kept.
        recipe: how long, how fast, from which seed, and which loss.
        folder: where the state of the run is written after every epoch; None for nowhere.
        resume: go on from the state in *folder* where there is one.
        watcher: told of every step and epoch.
        shown: clips that are scored whenever *validation* is, and select nothing.
        workers: the processes that share each batch; only the first reads and writes *folder* and scores.

    Raises:
        DataError: when the loss stops being finite, or features are not.
        SettingsError: when the state in *folder* belongs to other settings.
    """
    # The precision that was taken is what a resumed run must share, on whatever machine that is.
    recipe = replace(recipe, options=replace(recipe.options, precision=resolved(recipe.options.precision, _device(network))))
    batches = ClipBatches(train=train, options=recipe.options, workers=workers) if isinstance(train, FeatureSet) else train
    loop = _Loop(
        recipe=recipe, batches=batches, validation=validation, device=_device(network), watcher=watcher, shown=shown, workers=workers
    )
    # One pass over all weights: 1.3 instead of 6.5 ms a step of the paper's network on a CPU.
    run = RunState(network, torch.optim.Adam(network.parameters(), lr=recipe.options.learning_rate, fused=True))
    run.mixed = MixedStep(recipe.options.precision, loop.device)
    if recipe.options.weight_average > 0.0:
        run.average = _average_of(network, recipe.options.weight_average)
    if resume and folder is not None:
        restore_run(run, folder, recipe.described(), workers)
    if workers.size > 1:
        run.shared = SharedLoss(network, recipe.losses, workers, run.mixed.forward)
    with fast_attention(network, recipe.options.gradient_share, dtype=run.mixed.attention_type):
        while not loop.over(run):
            record = loop.epoch(run)
            if folder is not None and workers.first:
                save_progress(folder, progress_of(run, recipe.described()))
            if watcher is not None:
                watcher.epoch(record)
    if run.best:
        network.load_state_dict(run.best)
    network.eval()
    return TrainResult(
        best_epoch=run.best_epoch,
        best_score=run.best_score if math.isfinite(run.best_score) else math.nan,
        history=tuple(run.history),
        stopped_early=len(run.history) < recipe.options.epochs,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Loop:
    """Everything that stays the same while a run goes on."""

    recipe: Recipe
    batches: EpochBatches
    validation: FeatureSet | None
    device: torch.device
    watcher: Watcher | None
    shown: FeatureSet | None
    workers: Workers

    def over(self, run: RunState) -> bool:
        """Return whether the run has had all its epochs, or its accuracy has not risen for too long; a tie is no rise."""
        done, patience, risen = len(run.history), self.recipe.options.patience_epochs, run.risen_epoch
        return done >= self.recipe.options.epochs or bool(patience and risen and done - risen >= patience)

    def epoch(self, run: RunState) -> EpochRecord:
        """Train one epoch, look at the validation set where it is time, and keep the weights that did best."""
        number = len(run.history) + 1
        rate = self.recipe.options.learning_rate_at(number)
        for group in run.optimizer.param_groups:
            group["lr"] = rate
        # All of the epoch's dropout hangs on this, so that no state of a generator has to be kept.
        torch.manual_seed(_mixed(self.recipe.options.seed, number))
        total, parts = self._steps(run, number)
        scores, shown, best = self._select(run, number)
        record = EpochRecord(epoch=number, learning_rate=rate, loss=total, parts=parts, validation=scores, best=best, shown=shown)
        run.history.append(record)
        return record

    def _steps(self, run: RunState, number: int) -> tuple[float, dict[str, float]]:
        """Take every step of an epoch and give the mean loss and its mean parts over the clips."""
        make_targets = TargetMaker(self.recipe.classes, self.recipe.targets)
        items = shares(self.batches(number), self.workers)
        sums: dict[str, float] = {}
        clips = 0
        run.network.train()
        for step, batch in enumerate(prefetched(items) if self.recipe.options.prefetch else items, start=1):
            terms = self._step(run, batch.to(self.device), make_targets)
            value = float(terms.total)
            if not math.isfinite(value):
                msg = (
                    f"the loss must stay finite, got {value} in epoch {number}, step {step}; "
                    "lower the learning rate, set clip_norm=1, or look for outliers in the features"
                )
                raise DataError(msg)
            clips += batch.clips
            for name, part in {"": terms.total, **terms.parts}.items():
                sums[name] = sums.get(name, 0.0) + float(part) * batch.clips
            if self.watcher is not None:
                self.watcher.step(StepReport(epoch=number, step=step, loss=value))
        if clips == 0:
            msg = "the training set must hold at least one clip, got none"
            raise DataError(msg)
        means = {name: value / clips for name, value in sums.items()}
        return means.pop(""), means

    def _step(self, run: RunState, batch: Batch, make_targets: TargetMaker) -> LossTerms:
        """Take one step of the optimiser, unless the loss is not finite."""
        run.optimizer.zero_grad(set_to_none=True)
        targets = make_targets(batch.labels, batch.tags)
        if run.shared is None:
            terms = loss(run.mixed.forward(run.network, batch.audio, batch.visual), targets, self.recipe.losses)
        else:
            terms = run.shared(batch, targets)
        told = LossTerms(terms.total.detach(), terms.parts)
        if not torch.isfinite(told.total):
            return told
        run.mixed.backward(terms.total, run.optimizer, list(run.network.parameters()), self.recipe.options.clip_norm)
        if run.average is not None:
            run.average.update_parameters(run.network)
        return told

    def _select(self, run: RunState, number: int) -> tuple[dict[str, float] | None, dict[str, float] | None, bool]:
        """Score the candidate weights where it is time, and keep them when they are the best so far."""
        if self.validation is None:
            run.best, run.best_epoch = _copied(run.candidate.state_dict()), number
            return None, None, True
        if number % self.recipe.options.select_every and number != self.recipe.options.epochs:
            return None, None, False
        scores = self._score(run, self.validation)
        shown = None if self.shown is None else self._score(run, self.shown)
        best = scores["accuracy"] >= run.best_score  # of equals the last, see `fit`
        if best:
            run.best, run.best_epoch, run.best_score = _copied(run.candidate.state_dict()), number, scores["accuracy"]
        return scores, shown, best

    def _score(self, run: RunState, clips: FeatureSet) -> dict[str, float]:
        """Return the scores of the candidate weights on some clips, computed in the first process, for all."""
        options = self.recipe.options

        def score() -> dict[str, float]:
            batches = clips.batches(options.batch)
            said = answers(run.candidate, prefetched(batches) if options.prefetch else batches, options.decision, options.threshold)
            return score_segments(said.truth, said.decided, self.recipe.classes).to_dict()

        return self.workers.from_first(score)


def _device(network: nn.Module) -> torch.device:
    """Give the device the network's parameters are on."""
    return next(iter(network.parameters())).device


def _copied(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in state.items()}


def _mixed(seed: int, epoch: int) -> int:
    """Mix seed and epoch into one number of 63 bits (near seeds and epochs give unrelated ones)."""
    return int(epoch_generator(seed, epoch, purpose=2).integers(2**63 - 1))


def _average_of(network: nn.Module, decay: float) -> AveragedModel:
    """Begin a moving average at the weights of now: average = decay * average + (1 - decay) * weights after each step."""
    average = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)  # type: ignore[no-untyped-call]
    average.update_parameters(network)  # torch's first update copies: without this the weights of now would have no part
    return average
