"""What changes while a training goes on, the reports of it, and how it becomes a file and comes back.

It knows no loop, no data and no loss: `trainer` moves it, `checkpoints` writes it.
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
    """Scores on the validation set, 0 to 1; None where it was not looked at."""
    best: bool
    """Whether these weights are kept until better or equal ones come."""
    shown: dict[str, float] | None = None
    """Scores on the clips that are only shown; None where there are none or they were not looked at."""


@dataclass(slots=True)
class RunState:
    """Everything that changes while a run goes on."""

    network: nn.Module
    optimizer: torch.optim.Adam
    mixed: MixedStep = field(default_factory=lambda: MixedStep("float32", torch.device("cpu")))
    average: AveragedModel | None = None
    """Moving average of the weights; None for none."""
    shared: SharedLoss | None = None
    best: dict[str, torch.Tensor] = field(default_factory=dict)
    best_epoch: int = 0
    best_score: float = -math.inf
    history: list[EpochRecord] = field(default_factory=list)

    @property
    def candidate(self) -> nn.Module:
        """The network whose weights selection looks at: the average where there is one."""
        return self.network if self.average is None else self.average.module

    @property
    def risen_epoch(self) -> int:
        """The epoch that first reached the best validation accuracy; 0 before there is one."""
        looked = ((record.epoch, record.validation["accuracy"]) for record in self.history if record.validation is not None)
        return next((epoch for epoch, accuracy in looked if accuracy == self.best_score), 0)


def progress_of(run: RunState, described: dict[str, object]) -> Progress:
    """Gather the state of a run after an epoch."""
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
    """Put the state of *folder* back into a run; leave the run as it is where there is none.

    Args:
        run: of the same network and settings.
        folder: where the state was written.
        described: the settings of now (`Recipe.described`).
        workers: only the first process reads.

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
        msg = f"the training state in {folder} belongs to another network: {exc}; choose another --out or leave --resume away"
        raise SettingsError(msg) from exc
    run.best = groups["best"]
    state = run.optimizer.state_dict()
    run.optimizer.load_state_dict({"state": moments, "param_groups": state["param_groups"]})
    run.mixed.restore(facts["scale"])  # type: ignore[arg-type] # JSON of our own making
    run.best_epoch = int(facts["best_epoch"])  # type: ignore[call-overload] # JSON of our own making
    run.best_score = -math.inf if facts["best_score"] is None else float(facts["best_score"])  # type: ignore[arg-type]
    run.history = [EpochRecord(**record) for record in facts["history"]]  # type: ignore[attr-defined]


def _check_same(before: object, now: dict[str, object], folder: Path) -> None:
    """Raise SettingsError, naming the first difference, unless a resumed run has the settings it began with."""
    if before == now:
        return
    old = before if isinstance(before, dict) else {}
    for section, values in now.items():
        was = old.get(section)
        if isinstance(values, dict) and isinstance(was, dict):
            for name, value in values.items():
                if was.get(name) != value:
                    msg = f"the run in {folder} was begun with {section}.{name} = {was.get(name)!r}, and is to be resumed with {value!r}"
                    raise SettingsError(msg)
    msg = f"the run in {folder} was begun with other settings; choose another --out or leave --resume away"
    raise SettingsError(msg)
