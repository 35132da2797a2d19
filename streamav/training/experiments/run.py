"""One training on a folder of features: opens it, trains, and writes bundle, report or table.

It reads no options and prints nothing: what it has to say goes to a `Teller`. Under torchrun every process runs it, and the first one
alone speaks and writes.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Protocol

from streamav.bundle import find_bundle
from streamav.errors import SettingsError
from streamav.training.data.folder import open_ave
from streamav.training.experiments.ablations import find_rows
from streamav.training.experiments.experiment import experiment_of, planned, tested, train_seeds
from streamav.training.experiments.export import encoder_weights, encoders_of, export_bundle, weights_inside
from streamav.training.experiments.report import write_report, write_table

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from streamav.networks.options import Supervision
    from streamav.training.data.folder import AveData, AveOptions
    from streamav.training.experiments.experiment import Experiment, Outcome
    from streamav.training.experiments.export import Encoders
    from streamav.training.fit.trainer import Watcher
    from streamav.training.workers import Workers

__all__ = ["RunPlan", "Teller", "TrainingRun", "check_out", "state_folder", "warn_of_missing_classes"]


class Teller(Protocol):
    """Who hears how a training goes."""

    def say(self, text: str) -> None:
        """Take a line about what is done now."""

    def outcome(self, outcome: Outcome) -> None:
        """Take the scores of a training that is over: the command's result."""

    def watch(self, seeds: Sequence[int], steps: int, epochs: int, board: Path | None) -> AbstractContextManager[Callable[[int], Watcher]]:
        """Show the training of some seeds while the context lasts; it makes the watcher of each seed.

        Args:
            seeds: in the order in which they are trained.
            steps: of an epoch.
            epochs: of a seed.
            board: folder for TensorBoard; None for none.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPlan:
    """What to train on, and where the results go."""

    folder: Path
    """Features under AVE's names."""
    reading: AveOptions
    seeds: Sequence[int]
    out: Path
    """Bundle to write; with a table, the folder of its reports."""
    resume: bool = False
    force: bool = False
    """True replaces a bundle that is there."""
    board: Path | None = None
    """Folder for TensorBoard; None for none."""


class TrainingRun:
    """The data, once opened, and what every experiment on them shares."""

    def __init__(self, plan: RunPlan, workers: Workers, teller: Teller) -> None:
        """Open and check the data.

        Raises:
            DataError: when the data are wrong.
            SettingsError: when the results could not be written.
        """
        self.plan = plan
        self.out = plan.out
        self.workers = workers
        self.teller = teller
        # A run that was killed while it wrote its results may leave some of them behind.
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
        """Open the data, in the first process before the others: it alone looks at every row."""
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
        """Train one experiment and write its bundle (for a baseline only its report)."""
        experiment = planned(network, supervision, self.sizes, changes, compatible=compatible)
        cards, weights = self._encoders(encoders) if network == "vscg" else (None, {})
        outcome = self._run(experiment, self._state)
        if outcome is None:
            return
        if cards is not None:
            export_bundle(self.out, outcome, self.data.classes, cards, command, replace=self.replace, weights=weights)
        report = write_report(self.out / "report", outcome, self.data.classes, command)
        self._clear_state()
        self.teller.outcome(outcome)
        self.teller.say(f"report: {report}")
        if network == "vscg":
            self.teller.say(f"model: {self.out} (streamav run --model {shlex.quote(str(self.out))} ...)")

    def table(
        self,
        name: str,
        changes: dict[str, dict[str, object]],
        command: str,
        *,
        compatible: bool,
        supervision: Supervision,
    ) -> None:
        """Train every row of a table, writing each row's report and the table as it grows."""
        if set(changes) - {"train"}:
            msg = f"with --table only train settings may be changed, got {', '.join(sorted(set(changes) - {'train'}))}"
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
        """Folder beside the output where unfinished runs keep their state."""
        return state_folder(self.out)

    def _encoders(self, model: str | None) -> tuple[Encoders, dict[str, NDArray[np.float32]]]:
        """Find the encoders that made the features, and the weights of those that belong into the bundle."""
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
                f"no known encoders give features of {sizes[0]} and {sizes[1]} numbers; "
                f"name the model that made them with --encoders, or put an encoders.json with the audio and visual parts of a model card "
                f"into {self.plan.folder} (streamav extract writes one)"
            )
            raise SettingsError(msg)
        return found, encoder_weights(self.plan.folder, found)

    def _run(self, experiment: Experiment, state: Path, row: str = "") -> Outcome | None:
        """Train, and test in the first process; None in the others."""
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
        """Remove the states of runs that are finished."""
        for path in sorted(self._state.rglob("*"), reverse=True):
            path.unlink() if path.is_file() else path.rmdir()
        if self._state.is_dir():
            self._state.rmdir()


def state_folder(out: Path) -> Path:
    """Return the folder beside the output where an unfinished run keeps its state."""
    return out.absolute().with_name(out.name + ".training")


def warn_of_missing_classes(data: AveData, remedy: str, say: Callable[[str], None]) -> None:
    """Warn of classes that a split has no event of: they are not learnt, or do not take part in selection and thresholds."""
    for part, loss in (("train", "cannot be learnt"), ("val", "does not take part in selection, nor in thresholds set on these clips")):
        if missing := data.lacking(part):  # type: ignore[arg-type] # both are names of splits
            words = {"train": "training", "val": "validation"}[part]
            say(f"warning: the {words} part holds no event of {', '.join(missing)}: such a class {loss}; {remedy}")


def check_out(out: Path, *, force: bool) -> None:
    """Refuse before hours of training what could not be written after them."""
    if out.exists() and not out.is_dir():
        msg = f"--out must be a folder, got the file {out}"
        raise SettingsError(msg)
    if out.is_dir() and any(out.iterdir()) and not force:
        msg = f"--out must be a new or empty folder, got {out}; add --force to replace the bundle there"
        raise SettingsError(msg)
