"""Holds the state of a training run and the reports of its steps and epochs, and converts the state to and from a file's contents.

`trainer` changes the state, `checkpoints` writes and reads the file.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

import torch

from streamav.errors import SettingsError
from streamav.training.fit.checkpoints import Progress, load_progress
from streamav.training.precision import MixedStep

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import nn
    from torch.optim.swa_utils import AveragedModel

    from streamav.training.fit.distributed import SharedLoss
    from streamav.training.workers import Workers

__all__ = ["EpochRecord", "RunState", "StepReport", "progress_of", "restore_run"]


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
    """Scores on the validation set, 0 to 1; None if it was not scored after this epoch."""
    best: bool
    """Whether the weights of this epoch were the best so far; a later epoch with an equal score replaces them."""
    shown: dict[str, float] | None = None
    """Scores on the clips that select nothing; None if there are none or they were not scored after this epoch."""


@dataclass(slots=True)
class RunState:
    """Everything that changes during a run."""

    network: nn.Module
    optimizer: torch.optim.Adam
    mixed: MixedStep = field(default_factory=lambda: MixedStep("float32", torch.device("cpu")))
    average: AveragedModel | None = None
    """Moving average of the weights; None if the run has none."""
    shared: SharedLoss | None = None
    best: dict[str, torch.Tensor] = field(default_factory=dict)
    best_epoch: int = 0
    best_score: float = -math.inf
    history: list[EpochRecord] = field(default_factory=list)

    @property
    def candidate(self) -> nn.Module:
        """The network whose weights are scored for selection: the average if the run has one."""
        return self.network if self.average is None else self.average.module

    @property
    def risen_epoch(self) -> int:
        """The first epoch that reached the best validation accuracy; 0 if there is none yet."""
        looked = ((record.epoch, record.validation["accuracy"]) for record in self.history if record.validation is not None)
        return next((epoch for epoch, accuracy in looked if accuracy == self.best_score), 0)


def progress_of(run: RunState, described: dict[str, object]) -> Progress:
    """Collect the state of a run after an epoch."""
    average = {} if run.average is None else run.average.module.state_dict()
    groups: dict[str, Mapping[str, torch.Tensor]] = {"network": run.network.state_dict(), "best": run.best, "average": average}
    tensors = {f"{group}.{name}": value for group, values in groups.items() for name, value in values.items()}
    moments = run.optimizer.state_dict()["state"]
    for index, values in moments.items():
        tensors |= {f"optimizer.{index}.{name}": value for name, value in values.items()}
    facts: dict[str, object] = {
        "settings": json.loads(json.dumps(described)),
        "scale": run.mixed.state(),
        "best_epoch": run.best_epoch,
        "best_score": run.best_score if math.isfinite(run.best_score) else None,
        "history": [asdict(record) for record in run.history],
    }
    return Progress(epoch=len(run.history), tensors=tensors, facts=facts)


def restore_run(run: RunState, folder: Path, described: dict[str, object], workers: Workers) -> None:
    """Restore a run from the state in *folder*; leave the run unchanged if there is no state.

    Args:
        run: a run of the same network and settings.
        folder: folder that holds the state.
        described: the settings of this run (`Recipe.described`).
        workers: the processes of the run; only the first one reads the file.

    Raises:
        SettingsError: when the state belongs to another network or other settings.
    """
    progress = workers.from_first(lambda: load_progress(folder))
    if progress is None:
        return
    facts = progress.facts
    _check_same(facts["settings"], json.loads(json.dumps(described)), folder)
    groups: dict[str, dict[str, torch.Tensor]] = {"network": {}, "best": {}, "average": {}}
    moments: dict[int, dict[str, torch.Tensor]] = {}
    for key, value in progress.tensors.items():
        group, _, name = key.partition(".")
        if group == "optimizer":
            index, _, moment = name.partition(".")
            moments.setdefault(int(index), {})[moment] = value
        else:
            groups[group][name] = value
    try:
        run.network.load_state_dict(groups["network"])
        if run.average is not None:
            run.average.module.load_state_dict(groups["average"])
    except RuntimeError as exc:
        msg = f"the training state in {folder} belongs to another network: {exc}; choose another --out or omit --resume"
        raise SettingsError(msg) from exc
    run.best = groups["best"]
    state = run.optimizer.state_dict()
    run.optimizer.load_state_dict({"state": moments, "param_groups": state["param_groups"]})
    run.mixed.restore(facts["scale"])  # type: ignore[arg-type] # JSON that `progress_of` made
    run.best_epoch = int(facts["best_epoch"])  # type: ignore[call-overload] # JSON that `progress_of` made
    run.best_score = -math.inf if facts["best_score"] is None else float(facts["best_score"])  # type: ignore[arg-type]
    run.history = [EpochRecord(**record) for record in facts["history"]]  # type: ignore[attr-defined]


def _check_same(before: object, now: dict[str, object], folder: Path) -> None:
    """Raise SettingsError unless a resumed run has the settings it started with; the message names the first difference."""
    if before == now:
        return
    old = before if isinstance(before, dict) else {}
    for section, values in now.items():
        was = old.get(section)
        if isinstance(values, dict) and isinstance(was, dict):
            for name, value in values.items():
                if was.get(name) != value:
                    msg = f"the run in {folder} was started with {section}.{name} = {was.get(name)!r}, but this command has {value!r}"
                    raise SettingsError(msg)
    msg = f"the run in {folder} was started with other settings; choose another --out or omit --resume"
    raise SettingsError(msg)
