"""Runs one training on a folder of features: opens it, trains, and writes bundle, report or table.

It reads no options and prints nothing: messages go to a `Teller`. Under torchrun every process runs it, but only the first process
reports and writes.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Protocol

from streamav.bundle import find_bundle
from streamav.errors import SettingsError
from streamav.networks.baselines import BaselineOptions
from streamav.training.data.folder import open_ave
from streamav.training.experiments.ablations import find_rows
from streamav.training.experiments.experiment import experiment_of, planned, tested, train_seeds
from streamav.training.experiments.export import encoder_weights, encoders_of, export_bundle, weights_inside
from streamav.training.experiments.kept_network import keep_network
from streamav.training.experiments.report import write_report, write_table
from streamav.training.fit.kept_answers import keep_answers

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from streamav.networks.options import Supervision
    from streamav.training.data.folder import AveData, AveOptions
    from streamav.training.experiments.ablations import TableName
    from streamav.training.experiments.experiment import Experiment, Outcome
    from streamav.training.experiments.export import Encoders
    from streamav.training.fit.trainer import Watcher
    from streamav.training.workers import Workers

__all__ = ["RunPlan", "Teller", "TrainingRun", "check_out", "state_folder", "warn_of_missing_classes"]


class Teller(Protocol):
    """Receives the messages and results of a training."""

    def say(self, text: str) -> None:
        """Report one line about the current work."""

    def outcome(self, outcome: Outcome) -> None:
        """Report the scores of a finished training: the command's result."""

    def watch(self, seeds: Sequence[int], steps: int, epochs: int, board: Path | None) -> AbstractContextManager[Callable[[int], Watcher]]:
        """Show the progress of a training while the context is open; the context returns a function that makes a seed's watcher.

        Args:
            seeds: in the order in which they are trained.
            steps: number of steps in an epoch.
            epochs: number of epochs for a seed.
            board: folder for TensorBoard; None for none.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPlan:
    """The data to train on and the place of the results."""

    folder: Path
    """Folder of features under AVE's file names."""
    reading: AveOptions
    seeds: Sequence[int]
    out: Path
    """Folder of the bundle; for a table, the folder of its reports."""
    resume: bool = False
    force: bool = False
    """True replaces an existing bundle."""
    board: Path | None = None
    """Folder for TensorBoard; None for none."""
    predictions: Path | None = None
    """File for the answers of the kept network for every segment of the test clips; None for none."""


class TrainingRun:
    """The opened data and the settings that all experiments on them share."""

    def __init__(self, plan: RunPlan, workers: Workers, teller: Teller) -> None:
        """Open and check the data.

        Raises:
            DataError: when the data are wrong.
            SettingsError: when the results cannot be written to the given place.
        """
        self.plan = plan
        self.out = plan.out
        self.workers = workers
        self.teller = teller
        # A run that is killed while it writes its results may leave some of them.
        self.replace = plan.force or (plan.resume and self._state.is_dir())
        if workers.first:
            check_out(self.out, force=self.replace)
        self.data: AveData = self._open()
        train = self.data.train
        self.sizes = {
            "audio_size": int(train.audio.shape[2]),
            "visual_size": int(train.visual.shape[4]),
            "grid": int(train.visual.shape[2]),
            "classes": len(self.data.classes),
        }

    def _open(self) -> AveData:
        """Open the data, first in the first process: only that process checks every row."""
        folder, options = self.plan.folder, self.plan.reading
        if self.workers.first:
            self.teller.say(f"opening {folder} and checking every row")
            data = open_ave(folder, options)
        self.workers.wait()
        if not self.workers.first:
            data = open_ave(folder, replace(options, check=False))
        self.workers.agree(data.fingerprint, f"the data in {folder}")
        if self.workers.first:
            warn_of_missing_classes(data, "move a clip of each into train_order.h5 and val_order.h5", self.teller.say)
        return data

    def bundle(
        self,
        network: str,
        supervision: Supervision,
        changes: dict[str, dict[str, object]],
        command: str,
        *,
        compatible: bool,
        encoders: str | None,
    ) -> None:
        """Train one experiment and write its bundle and report (for a baseline the report and the network)."""
        experiment = planned(network, supervision, self.sizes, changes, compatible=compatible)
        cards, weights = self._encoders(encoders) if network == "vscg" else (None, {})
        outcome = self._run(experiment, self._state)
        if outcome is None:
            return
        if cards is not None:
            export_bundle(self.out, outcome, self.data.classes, cards, command, replace=self.replace, weights=weights)
        report = write_report(self.out / "report", outcome, self.data.classes, command)
        if isinstance(experiment.network, BaselineOptions):
            keep_network(self.out, outcome.chosen.network, experiment.network, tuple(one.slug for one in self.data.classes))
        if self.plan.predictions is not None:
            keep_answers(self.plan.predictions, outcome.chosen.test, self.out, self.data.classes, self.data.test)
        self._clear_state()
        self.teller.outcome(outcome)
        self.teller.say(f"report: {report}")
        if network == "vscg":
            self.teller.say(f"model: {self.out} (streamav run --model {shlex.quote(str(self.out))} ...)")

    def table(
        self,
        name: TableName,
        changes: dict[str, dict[str, object]],
        command: str,
        *,
        compatible: bool,
        supervision: Supervision,
    ) -> None:
        """Train every row of a table; after each row write its report and the table so far.

        Raises:
            SettingsError: when *changes* holds other settings than those of training.
        """
        if set(changes) - {"train"}:
            msg = f"with --table, only train settings may be changed, got {', '.join(sorted(set(changes) - {'train'}))}"
            raise SettingsError(msg)
        outcomes: list[Outcome] = []
        rows = find_rows(name, compatible=compatible, supervision=supervision)
        for number, row in enumerate(rows, start=1):
            if self.workers.first:
                self.teller.say(f"table {name}, row {number} of {len(rows)}: {row.name}, {row.supervision} supervised")
            outcome = self._run(experiment_of(row, self.sizes, changes.get("train", {})), self._state / row.key, row.key)
            if outcome is None:
                continue
            outcomes.append(outcome)
            write_report(self.out / row.key, outcome, self.data.classes, command)
            write_table(self.out / f"table-{name}-{supervision}.md", name, outcomes, command)
            self.teller.outcome(outcome)
        if not self.workers.first:
            return
        self._clear_state()
        self.teller.say(f"table: {self.out / f'table-{name}-{supervision}.md'}")

    @property
    def _state(self) -> Path:
        """Return the folder beside the output where unfinished runs keep their state."""
        return state_folder(self.out)

    def _encoders(self, model: str | None) -> tuple[Encoders, dict[str, NDArray[np.float32]]]:
        """Return the encoders that made the features, and the weights of those that are stored in the bundle."""
        sizes = self.sizes["audio_size"], self.sizes["visual_size"]
        if model is not None:
            bundle = find_bundle(model)
            audio, visual = bundle.card.audio, bundle.card.visual
            if (audio.size, visual.size) != sizes:
                msg = (
                    f"--encoders must name a model whose features have {sizes[0]} and {sizes[1]} numbers, "
                    f"got {audio.size} and {visual.size}"
                )
                raise SettingsError(msg)
            return (audio, visual), weights_inside(bundle)
        found = encoders_of(self.plan.folder, *sizes)
        if found is None:
            msg = (
                f"features must have the sizes of known encoders, got {sizes[0]} and {sizes[1]} numbers; "
                f"name the model that made them with --encoders, or put an encoders.json with the audio and visual parts of a model card "
                f"into {self.plan.folder} (streamav extract writes one)"
            )
            raise SettingsError(msg)
        return found, encoder_weights(self.plan.folder, found)

    def _run(self, experiment: Experiment, state: Path, row: str = "") -> Outcome | None:
        """Train in all processes and test in the first; return None in the others."""
        work = partial(train_seeds, self.data, experiment, self.plan.seeds, folder=state, resume=self.plan.resume, workers=self.workers)
        if not self.workers.first:
            work()
            return None
        clips = len(self.data.weak_train if experiment.network.supervision == "weakly" else self.data.train)
        board = None if self.plan.board is None else self.plan.board / row
        steps = -(-clips // experiment.train.batch)
        with self.teller.watch(self.plan.seeds, steps, experiment.train.epochs, board) as watcher:
            trained = work(watcher=watcher)
        return tested(self.data, experiment, trained)

    def _clear_state(self) -> None:
        """Remove the saved states after the training is finished."""
        for path in sorted(self._state.rglob("*"), reverse=True):
            path.unlink() if path.is_file() else path.rmdir()
        if self._state.is_dir():
            self._state.rmdir()


def state_folder(out: Path) -> Path:
    """Return the folder beside the output where an unfinished run keeps its state."""
    return out.absolute().with_name(out.name + ".training")


def warn_of_missing_classes(data: AveData, remedy: str, say: Callable[[str], None]) -> None:
    """Report classes without an event in a split: the network cannot learn them, or they take no part in selection and thresholds."""
    for part, loss in (("train", "cannot be learned"), ("val", "takes no part in selection, or in thresholds set on these clips")):
        if missing := data.lacking(part):  # type: ignore[arg-type] # both are names of splits
            words = {"train": "training", "val": "validation"}[part]
            say(f"warning: the {words} part holds no event of {', '.join(missing)}: such a class {loss}; {remedy}")


def check_out(out: Path, *, force: bool) -> None:
    """Raise SettingsError before the training if the results cannot be written to *out* after it."""
    if out.exists() and not out.is_dir():
        msg = f"--out must be a folder, got the file {out}"
        raise SettingsError(msg)
    if out.is_dir() and any(out.iterdir()) and not force:
        msg = f"--out must be a new or empty folder, got {out}; add --force to replace the bundle there"
        raise SettingsError(msg)
