"""One call of `streamav train` on a folder of features: opens it, trains, and writes bundle, report or table.

It reads no options; under torchrun every process runs it, and the first one alone speaks and writes.
"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

import typer

from streamav.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from streamav.networks.options import Supervision
    from streamav.training.data.folder import AveData, AveOptions
    from streamav.training.experiments.experiment import Experiment, Outcome
    from streamav.training.experiments.export import Encoders
    from streamav.training.workers import Workers

__all__ = ["TrainingRun", "check_out", "say_of_missing_classes", "state_folder"]


class TrainingRun:
    """One call of the command: the data, once opened, and what every experiment on them shares."""

    def __init__(
        self,
        folder: Path,
        options: AveOptions,
        seeds: Sequence[int],
        out: Path,
        *,
        workers: Workers,
        resume: bool,
        force: bool,
        board: Path | None,
    ) -> None:
        """Open and check the data."""
        self.folder = folder
        self.seeds = seeds
        self.out = out
        self.workers = workers
        self.resume = resume
        # A run that was killed while it wrote its results may leave some of them behind.
        self.replace = force or (resume and self._state.is_dir())
        self.board = board
        if workers.first:
            check_out(out, force=self.replace)
        self.data: AveData = self._open(options)
        train = self.data.train
        self.sizes = {
            "audio_size": int(train.audio.shape[2]),
            "visual_size": int(train.visual.shape[4]),
            "grid": int(train.visual.shape[2]),
            "classes": len(self.data.classes),
        }

    def _open(self, options: AveOptions) -> AveData:
        """Open the data, in the first process before the others: it alone looks at every row."""
        from dataclasses import replace

        from streamav.training.data.folder import open_ave

        if self.workers.first:
            _say(f"opening {self.folder} and checking every row")
            data = open_ave(self.folder, options)
        self.workers.wait()
        if not self.workers.first:
            data = open_ave(self.folder, replace(options, check=False))
        self.workers.agree(data.fingerprint, f"the data in {self.folder}")
        if self.workers.first:
            say_of_missing_classes(data, "move a clip of each into train_order.h5 and val_order.h5")
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
        from streamav.training.experiments.experiment import planned
        from streamav.training.experiments.export import export_bundle
        from streamav.training.experiments.report import write_report

        experiment = planned(network, supervision, self.sizes, changes, compatible=compatible)
        cards, weights = self._encoders(encoders) if network == "vscg" else (None, {})
        outcome = self._run(experiment, self._state)
        if outcome is None:
            return
        if cards is not None:
            export_bundle(self.out, outcome, self.data.classes, cards, command, replace=self.replace, weights=weights)
        report = write_report(self.out / "report", outcome, self.data.classes, command)
        self._clear_state()
        _tell(outcome)
        _say(f"report: {report}")
        if network == "vscg":
            _say(f"model: {self.out} (streamav run --model {shlex.quote(str(self.out))} ...)")

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
        from streamav.training.experiments.ablations import find_rows
        from streamav.training.experiments.experiment import experiment_of
        from streamav.training.experiments.report import write_report, write_table

        if set(changes) - {"train"}:
            msg = f"with --table only train settings may be changed, got {', '.join(sorted(set(changes) - {'train'}))}"
            raise SettingsError(msg)
        outcomes: list[Outcome] = []
        rows = find_rows(name, compatible=compatible, supervision=supervision)
        for number, row in enumerate(rows, start=1):
            if self.workers.first:
                _say(f"table {name}, row {number} of {len(rows)}: {row.name}, {row.supervision} supervised")
            outcome = self._run(experiment_of(row, self.sizes, changes.get("train", {})), self._state / row.key, row.key)
            if outcome is None:
                continue
            outcomes.append(outcome)
            write_report(self.out / row.key, outcome, self.data.classes, command)
            write_table(self.out / f"table-{name}-{supervision}.md", name, outcomes, command)
            _tell(outcome)
        if not self.workers.first:
            return
        self._clear_state()
        _say(f"table: {self.out / f'table-{name}-{supervision}.md'}")

    @property
    def _state(self) -> Path:
        """Folder beside the output where unfinished runs keep their state."""
        return state_folder(self.out)

    def _encoders(self, model: str | None) -> tuple[Encoders, dict[str, NDArray[np.float32]]]:
        """Find the encoders that made the features, and the weights of those that belong into the bundle."""
        from streamav.bundle import find_bundle
        from streamav.training.experiments.export import encoder_weights, encoders_of, weights_inside

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
        found = encoders_of(self.folder, *sizes)
        if found is None:
            msg = (
                f"no known encoders give features of {sizes[0]} and {sizes[1]} numbers; name the model that made them with --encoders, "
                f"or put an encoders.json with the audio and visual parts of a model card into {self.folder} (streamav extract writes one)"
            )
            raise SettingsError(msg)
        return found, encoder_weights(self.folder, found)

    def _run(self, experiment: Experiment, state: Path, row: str = "") -> Outcome | None:
        """Train, and test in the first process; None in the others."""
        from functools import partial

        from streamav.cli.training_progress import training_progress, watchers
        from streamav.training.experiments.experiment import tested, train_seeds

        work = partial(train_seeds, self.data, experiment, self.seeds, folder=state, resume=self.resume, workers=self.workers)
        if not self.workers.first:
            work()
            return None
        clips = len(self.data.weak_train if experiment.network.supervision == "weakly" else self.data.train)
        board = None if self.board is None else self.board / row
        with training_progress(self.seeds, -(-clips // experiment.train.batch), experiment.train.epochs) as shown:
            trained = work(watcher=watchers(shown, board))
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


def say_of_missing_classes(data: AveData, remedy: str) -> None:
    """Warn of classes that a split has no event of: they are not learnt, or do not take part in selection and thresholds."""
    for part, loss in (("train", "cannot be learnt"), ("val", "does not take part in selection, nor in thresholds set on these clips")):
        if missing := data.lacking(part):  # type: ignore[arg-type] # both are names of splits
            words = {"train": "training", "val": "validation"}[part]
            _say(f"warning: the {words} part holds no event of {', '.join(missing)}: such a class {loss}; {remedy}")


def check_out(out: Path, *, force: bool) -> None:
    """Refuse before hours of training what could not be written after them."""
    if out.exists() and not out.is_dir():
        msg = f"--out must be a folder, got the file {out}"
        raise SettingsError(msg)
    if out.is_dir() and any(out.iterdir()) and not force:
        msg = f"--out must be a new or empty folder, got {out}; add --force to replace the bundle there"
        raise SettingsError(msg)


def _say(text: str) -> None:
    typer.echo(text, err=True)


def _tell(outcome: Outcome) -> None:
    """Print the test scores, the command's one result, on standard output."""
    told = {name: f"{100 * mean:.2f}" for name, (mean, _) in outcome.summary().items()}
    typer.echo(
        f"{outcome.experiment.name}: validation accuracy {100 * outcome.chosen.result.best_score:.2f} %, "
        f"test accuracy {told['accuracy']} %, macro-F1 {told['macro_f1']} %, background recall {told['background_recall']} %"
    )
    if outcome.experiment.train.test_selected:
        best = sum(one.test_selected for one in outcome.seeds) / len(outcome.seeds)
        typer.echo(f"{outcome.experiment.name}: test-selected accuracy, as the paper reports it, for comparison only: {100 * best:.2f} %")
