"""Runs one experiment on AVE-shaped data: trains from each seed, selects on validation, and reads the test split once, at the end.

It does not read the command line and draws no plots (`report` does).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING

import torch

from streamav.errors import SettingsError
from streamav.evaluation.bootstrap import mean_and_deviation
from streamav.evaluation.segments import SegmentFigures, score_segments
from streamav.networks.baselines import BaselineOptions
from streamav.networks.options import VSCGOptions
from streamav.training.data.pairing import PairedBatches
from streamav.training.data.windows import ClipBatches
from streamav.training.experiments.ablations import avps_weight, baseline_row, make_network, schedule, vscg_options
from streamav.training.fit.device_rows import on_device
from streamav.training.fit.losses import LossOptions
from streamav.training.fit.selection import Answers, answers
from streamav.training.fit.targets import TargetOptions
from streamav.training.fit.trainer import EpochBatches, Recipe, TrainResult, Watcher, fit
from streamav.training.options import TrainOptions
from streamav.training.workers import ALONE, Workers

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from torch import nn

    from streamav.networks.options import Supervision
    from streamav.training.data.feature_set import FeatureSet
    from streamav.training.data.folder import AveData
    from streamav.training.experiments.ablations import Row

__all__ = ["Experiment", "Outcome", "SeedOutcome", "Trained", "experiment_of", "planned", "run_experiment", "tested", "train_seeds"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Experiment:
    """All settings that decide the outcome, except data and seed."""

    name: str
    network: VSCGOptions | BaselineOptions
    losses: LossOptions
    targets: TargetOptions = field(default_factory=TargetOptions)
    train: TrainOptions = field(default_factory=TrainOptions)
    published: float = float("nan")
    """Accuracy in percent as published in the paper; NaN if there is none."""

    def to_dict(self) -> dict[str, object]:
        """Return all settings as plain values for the report."""
        return {
            "name": self.name,
            "network": asdict(self.network),
            "loss": asdict(self.losses),
            "targets": asdict(self.targets),
            "train": self.train.to_dict(),
        }


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Trained:
    """The run of one seed, before the test split is read."""

    seed: int
    network: nn.Module
    """In eval mode, with the weights that were best on validation."""
    result: TrainResult


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class SeedOutcome:
    """The result of one seed."""

    seed: int
    network: nn.Module
    """In eval mode, with the weights that were best on validation."""
    result: TrainResult
    test: Answers
    scores: SegmentFigures
    """Scores on the test split, which is read once, after all selection."""

    @property
    def test_selected(self) -> float:
        """Return the best test accuracy over all evaluations, as the paper reports it; NaN unless `test_selected` is on."""
        return max((record.shown["accuracy"] for record in self.result.history if record.shown), default=float("nan"))


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Outcome:
    """The result of an experiment."""

    experiment: Experiment
    seeds: tuple[SeedOutcome, ...]

    @property
    def chosen(self) -> SeedOutcome:
        """Return the seed with the best validation score, whose weights are kept; of equal seeds the first, since all are fully trained."""
        return max(self.seeds, key=lambda outcome: (outcome.result.best_score, -outcome.seed))

    def summary(self) -> dict[str, tuple[float, float]]:
        """Return mean and standard deviation over the seeds, for each test score."""
        names = self.seeds[0].scores.to_dict()
        return {name: mean_and_deviation([outcome.scores.to_dict()[name] for outcome in self.seeds]) for name in names}


def planned(
    network: str,
    supervision: Supervision,
    sizes: Mapping[str, int],
    changes: Mapping[str, Mapping[str, object]],
    *,
    compatible: bool = False,
) -> Experiment:
    """Build an experiment from defaults and changes.

    Args:
        network: vscg, avel, pspnet or cmbs.
        supervision: fully or weakly.
        sizes: audio_size, visual_size, grid and classes of the data.
        changes: plain values by section: network, loss, targets, train.
        compatible: True for the authors' network, loss and targets, with their bugs.

    Raises:
        SettingsError: when a name or value is wrong; the error names the nearest right name.
    """
    for section in changes:
        if section not in {"network", "loss", "targets", "train"}:
            msg = f"--set takes network, loss, targets, train or data before the dot, got {section!r}"
            raise SettingsError(msg)
    if network == "vscg":
        options, losses, targets = _vscg(supervision, sizes, changes, compatible=compatible)
    else:
        options, losses, targets = _baseline(network, supervision, sizes, changes, compatible=compatible)
    losses = LossOptions.from_dict({**asdict(losses), **changes.get("loss", {})})
    try:
        targets = replace(targets, **changes.get("targets", {}))  # type: ignore[arg-type] # unknown names are caught here
    except TypeError as exc:
        msg = f"targets has the settings {', '.join(asdict(targets))}: {exc}"
        raise SettingsError(msg) from exc
    train = TrainOptions.from_dict({**schedule(network, supervision, options).to_dict(), **changes.get("train", {})})
    return Experiment(name=f"{network}, {supervision} supervised", network=options, losses=losses, targets=targets, train=train)


def _vscg(
    supervision: Supervision, sizes: Mapping[str, int], changes: Mapping[str, Mapping[str, object]], *, compatible: bool
) -> tuple[VSCGOptions | BaselineOptions, LossOptions, TargetOptions]:
    """Return VSCG's network, loss and targets: those of the tables; the per-segment head is trained too, unless *compatible*."""
    losses = LossOptions.reference(supervision) if compatible else LossOptions.corrected(supervision)
    chosen = str(changes.get("loss", {}).get("loss", losses.loss))
    start = vscg_options(supervision, chosen, compatible=compatible)
    options = VSCGOptions.from_dict({**asdict(start), **sizes, **changes.get("network", {})})
    targets = TargetOptions.reference() if compatible else TargetOptions()
    return options, replace(losses, avps_weight=avps_weight(chosen, compatible=compatible)), targets


def _baseline(
    network: str, supervision: Supervision, sizes: Mapping[str, int], changes: Mapping[str, Mapping[str, object]], *, compatible: bool
) -> tuple[VSCGOptions | BaselineOptions, LossOptions, TargetOptions]:
    """Return a baseline's network, loss and targets: those of the tables."""
    wanted = changes.get("network", {})
    row = baseline_row(
        network,  # type: ignore[arg-type] # plain values; wrong names are refused where the options are made
        supervision,
        compatible=compatible,
        plugin=wanted.get("plugin", "none"),  # type: ignore[arg-type]
        loss=changes.get("loss", {}).get("loss"),  # type: ignore[arg-type]
    )
    return BaselineOptions.from_dict({**asdict(row.options), **sizes, **wanted}), row.loss, row.targets


def experiment_of(row: Row, sizes: Mapping[str, int], changes: Mapping[str, object]) -> Experiment:
    """Build the experiment of a table's row for the sizes of the data; *changes* are training settings for every row."""
    train = TrainOptions.from_dict({**row.train.to_dict(), **changes})
    options = replace(row.options, **sizes)  # type: ignore[arg-type] # both kinds of options have these sizes
    return Experiment(name=row.name, network=options, losses=row.loss, targets=row.targets, train=train, published=row.published)


def run_experiment(
    data: AveData,
    experiment: Experiment,
    seeds: Sequence[int],
    *,
    folder: Path | None = None,
    resume: bool = False,
    device: str = "cpu",
    watcher: Callable[[int], Watcher] | None = None,
) -> Outcome:
    """Train once for each seed, then read the test split: `train_seeds` and `tested` in one process."""
    trained = train_seeds(data, experiment, seeds, folder=folder, resume=resume, workers=Workers(device=device), watcher=watcher)
    return tested(data, experiment, trained)


def train_seeds(  # noqa: PLR0913 - the arguments of run_experiment, and `prepare`
    data: AveData,
    experiment: Experiment,
    seeds: Sequence[int],
    *,
    folder: Path | None = None,
    resume: bool = False,
    workers: Workers = ALONE,
    watcher: Callable[[int], Watcher] | None = None,
    prepare: Callable[[nn.Module], object] | None = None,
) -> list[Trained]:
    """Train once for each seed; the test split is read only if `TrainOptions.test_selected` is on.

    Args:
        data: splits of one folder.
        experiment: the settings.
        seeds: at least one; five or more for a number to be reported.
        folder: folder where each seed's state is kept until the end; None keeps no state.
        resume: continue from the states in *folder*; a finished seed is not trained again.
        workers: the processes that share the work, and the device.
        watcher: makes the watcher of a seed's run.
        prepare: changes each new network in place before it is trained; None changes nothing.
    """
    if experiment.train.device_features:
        data = on_device(data, torch.device(workers.device))
    train = data.weak_train if experiment.network.supervision == "weakly" else data.train
    shown = data.test if experiment.train.test_selected else None
    trained: list[Trained] = []
    for seed in seeds:
        options = replace(experiment.train, seed=seed)
        recipe = Recipe(classes=len(data.classes), options=options, losses=experiment.losses, targets=experiment.targets)
        torch.manual_seed(seed)
        network = make_network(experiment.network)
        if prepare is not None:
            prepare(network)
        network.to(workers.device)
        batches = _batches(data, train, options, workers)
        place = None if folder is None else folder / f"seed-{seed}"
        watching = watcher(seed) if watcher else None
        result = fit(network, batches, data.val, recipe, folder=place, resume=resume, watcher=watching, shown=shown, workers=workers)
        trained.append(Trained(seed=seed, network=network, result=result))
    return trained


def _batches(data: AveData, train: FeatureSet, options: TrainOptions, workers: Workers) -> EpochBatches:
    """Return the batches of an epoch: windows of clips, or paired windows."""
    if not options.pairs:
        return ClipBatches(train=train, options=options, background=data.background, workers=workers)
    if data.presence is None:
        msg = "train.pairs needs heard.h5 and seen.h5 beside the features (streamav compose writes them); remove it"
        raise SettingsError(msg)
    return PairedBatches(train=data.train, presence=data.presence, options=options, background=data.background)


def tested(data: AveData, experiment: Experiment, trained: Sequence[Trained]) -> Outcome:
    """Read the test split once for each seed's weights; call it after all selection."""
    options = experiment.train
    outcomes = []
    for one in trained:
        said = answers(one.network, data.test.batches(options.batch), options.decision, options.threshold)
        scores = score_segments(said.truth, said.decided, len(data.classes))
        outcomes.append(SeedOutcome(seed=one.seed, network=one.network, result=one.result, test=said, scores=scores))
    return Outcome(experiment=experiment, seeds=tuple(outcomes))
