"""Shows the progress of a training on standard error: a bar with the time left at a terminal, else lines.

The time left covers all seeds and epochs. The display does not influence the training.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

import typer

from streamav.cli.json_output import print_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from rich.console import Console
    from rich.progress import Progress, TaskID

    from streamav.training.experiments.experiment import Outcome
    from streamav.training.fit.run_state import EpochRecord, StepReport
    from streamav.training.fit.trainer import Watcher

__all__ = ["ConsoleTeller", "Several", "TrainingProgress", "outcome_tree", "training_progress", "watchers"]

_LINE_EVERY_S = 60.0
"""A line is printed after each validation, and about this often (s) at least."""


@contextmanager
def training_progress(seeds: Sequence[int], steps: int, epochs: int, console: Console | None = None) -> Iterator[TrainingProgress]:
    """Show the training of some seeds while the context lasts.

    Args:
        seeds: in the order of training.
        steps: number of steps in an epoch.
        epochs: number of epochs of each seed.
        console: output; None for standard error.
    """
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    console = Console(stderr=True) if console is None else console
    if not console.is_terminal:
        yield TrainingProgress(seeds, steps, epochs)
        return
    columns = BarColumn(20), TextColumn("{task.percentage:.0f} %"), TextColumn("{task.fields[left]}"), TextColumn("{task.fields[note]}")
    with Progress(*columns, console=console) as bars:
        yield TrainingProgress(seeds, steps, epochs, bars)


class TrainingProgress:
    """Computes and shows the progress of all seeds, and the time left at the pace so far."""

    def __init__(
        self,
        seeds: Sequence[int],
        steps: int,
        epochs: int,
        bars: Progress | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        say: Callable[[str], None] = lambda text: typer.echo(text, err=True),
    ) -> None:
        """Show progress on *bars*, or without them as lines passed to *say*; *clock* returns seconds."""
        self._seeds = list(seeds)
        self._steps = steps
        self._epochs = epochs
        self._bars = bars
        self._clock = clock
        self._say = say
        self._began_s = 0.0
        self._taken = 0
        self._said_s = clock()
        self._task: TaskID | None = (
            None if bars is None else bars.add_task("training", total=len(self._seeds) * epochs * steps, left="", note="")
        )

    def watcher(self, seed: int) -> Watcher:
        """Return the watcher of one seed's training."""
        return _SeedProgress(self, seed)

    def stepped(self, seed: int, report: StepReport, note: str) -> None:
        """Record and show a step of a seed."""
        now = self._clock()
        if not self._taken:
            self._began_s = now
        self._taken += 1
        if self._bars is not None and self._task is not None:
            done = (self._seeds.index(seed) * self._epochs + report.epoch - 1) * self._steps + min(report.step, self._steps)
            text = f"seed {seed}, epoch {report.epoch} of {self._epochs}, loss {report.loss:.3f}{note}"
            self._bars.update(self._task, completed=done, left=self._left(done), note=text)

    def ended(self, seed: int, record: EpochRecord, note: str) -> None:
        """Print a line about an epoch of a seed, if one is due."""
        now = self._clock()
        if self._bars is not None or (record.validation is None and now - self._said_s < _LINE_EVERY_S):
            return
        self._said_s = now
        left = self._left((self._seeds.index(seed) * self._epochs + record.epoch) * self._steps)
        self._say(f"seed {seed}, epoch {record.epoch} of {self._epochs}, loss {record.loss:.3f}{note}{', ' if left else ''}{left}")

    def _left(self, done: int) -> str:
        """Return the time left as text, or "" before two steps are done; steps before a resumed run do not count for the pace."""
        took_s = self._clock() - self._began_s
        if self._taken < 2 or took_s <= 0.0:  # noqa: PLR2004 - from the first step to the second
            return ""
        left_s = took_s / (self._taken - 1) * (len(self._seeds) * self._epochs * self._steps - done)
        return f"{timedelta(seconds=round(left_s))} left"


class _SeedProgress:
    """Watches one seed and stores its last validation accuracy."""

    def __init__(self, progress: TrainingProgress, seed: int) -> None:
        self._progress = progress
        self._seed = seed
        self._note = ""

    def step(self, report: StepReport) -> None:
        """Show a step."""
        self._progress.stepped(self._seed, report, self._note)

    def epoch(self, record: EpochRecord) -> None:
        """Show an epoch, and store its validation accuracy if it has one."""
        if record.validation is not None:
            self._note = f", validation {100 * record.validation['accuracy']:.1f} %"
        self._progress.ended(self._seed, record, self._note)


class ConsoleTeller:
    """Prints the progress of a training to standard error and the scores to standard output."""

    def __init__(self, *, as_json: bool = False) -> None:
        """Print the scores of each training as a sentence, or with *as_json* those of all trainings as JSON in close()."""
        self._as_json = as_json
        self._trained: list[dict[str, object]] = []

    def close(self, out: Path) -> None:
        """Print the JSON if it is wanted and this process reports; *out* is the folder of the results."""
        if self._trained:
            print_json({"out": str(out), "trained": self._trained})

    def say(self, text: str) -> None:
        """Print a line on standard error."""
        typer.echo(text, err=True)

    def outcome(self, outcome: Outcome) -> None:
        """Print the test scores, the only result of the command, to standard output."""
        if self._as_json:
            self._trained.append(outcome_tree(outcome))
            return
        told = {name: f"{100 * mean:.2f}" for name, (mean, _) in outcome.summary().items()}
        scores = outcome.chosen.scores
        constant = max(scores.majority, scores.always_background)
        typer.echo(
            f"{outcome.experiment.name}: validation accuracy {100 * outcome.chosen.result.best_score:.2f} %, "
            f"test accuracy {told['accuracy']} %, macro-F1 {told['macro_f1']} %, background recall {told['background_recall']} %"
        )
        if outcome.summary()["accuracy"][0] <= constant:
            verdict = f"no better than one constant answer, which is right in {100 * constant:.2f} % of the test segments"
            typer.echo(f"{outcome.experiment.name}: {verdict}; add clips or epochs")
        if outcome.experiment.train.test_selected:
            best = sum(one.test_selected for one in outcome.seeds) / len(outcome.seeds)
            typer.echo(
                f"{outcome.experiment.name}: test-selected accuracy, as the paper reports it, for comparison only: {100 * best:.2f} %"
            )

    @contextmanager
    def watch(self, seeds: Sequence[int], steps: int, epochs: int, board: Path | None) -> Iterator[Callable[[int], Watcher]]:
        """Show the training of some seeds while the context lasts; yield a function that makes the watcher of a seed."""
        with training_progress(seeds, steps, epochs) as shown:
            yield watchers(shown, board)


def outcome_tree(outcome: Outcome) -> dict[str, object]:
    """Return the scores of a training as JSON can hold them: those of each seed, and mean and deviation of the test scores (0 to 1)."""
    return {
        "name": outcome.experiment.name,
        "seeds": [one.seed for one in outcome.seeds],
        "chosen_seed": outcome.chosen.seed,
        "validation_accuracy": outcome.chosen.result.best_score,
        "test": {name: {"mean": mean, "deviation": deviation} for name, (mean, deviation) in outcome.summary().items()},
    }


def watchers(shown: TrainingProgress, board: Path | None) -> Callable[[int], Watcher]:
    """Return a function that makes the watcher of a seed: it shows progress and, with *board*, writes TensorBoard files below it."""
    from streamav.training.fit.board import Board

    def make(seed: int) -> Watcher:
        watcher = shown.watcher(seed)
        return watcher if board is None else Several(watcher, Board(board / f"seed-{seed}"))

    return make


class Several:
    """Passes steps and epochs to several watchers."""

    def __init__(self, *watchers: Watcher) -> None:
        self._watchers = watchers

    def step(self, report: StepReport) -> None:
        """Pass a step to all watchers."""
        for one in self._watchers:
            one.step(report)

    def epoch(self, record: EpochRecord) -> None:
        """Pass an epoch to all watchers."""
        for one in self._watchers:
            one.epoch(record)
