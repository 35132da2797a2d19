"""Tests of the progress display of a training."""

from __future__ import annotations

import io
from types import SimpleNamespace

import pytest
from rich.console import Console

from streamav.cli.training_progress import ConsoleTeller, TrainingProgress, training_progress
from streamav.training.fit.run_state import EpochRecord, StepReport


class Clock:
    """A clock in seconds that a test moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def record(epoch: int, accuracy: float | None) -> EpochRecord:
    validation = None if accuracy is None else {"accuracy": accuracy}
    return EpochRecord(epoch=epoch, learning_rate=1e-3, loss=1.5, parts={}, validation=validation, best=False)


def test_the_time_left_is_that_of_all_seeds() -> None:
    """After four of forty steps of ten seconds each six minutes are left; the line names seed, epoch, loss and accuracy."""
    clock, said = Clock(), list[str]()
    progress = TrainingProgress([5, 6], steps=2, epochs=10, clock=clock, say=said.append)
    watcher = progress.watcher(5)
    for epoch in (1, 2):
        for step in (1, 2):
            clock.now += 10.0
            watcher.step(StepReport(epoch=epoch, step=step, loss=2.0))
        watcher.epoch(record(epoch, 0.25))
    assert said[-1] == "seed 5, epoch 2 of 10, loss 1.500, validation 25.0 %, 0:06:00 left"


def test_steps_before_a_kill_do_not_count_for_the_pace() -> None:
    """A run resumed at epoch 9 of 10 shows the time of its remaining steps only."""
    clock, said = Clock(), list[str]()
    watcher = TrainingProgress([0], steps=3, epochs=10, clock=clock, say=said.append).watcher(0)
    for step in (1, 2, 3):
        clock.now += 10.0
        watcher.step(StepReport(epoch=9, step=step, loss=2.0))
    watcher.epoch(record(9, 0.5))
    assert said == ["seed 0, epoch 9 of 10, loss 1.500, validation 50.0 %, 0:00:30 left"]


def test_lines_are_few() -> None:
    """An epoch without validation gets a line only when the last line is a minute old."""
    clock, said = Clock(), list[str]()
    watcher = TrainingProgress([0], steps=1, epochs=100, clock=clock, say=said.append).watcher(0)
    for epoch in range(1, 61):
        clock.now += 2.0
        watcher.epoch(record(epoch, None))
    assert len(said) == 2


def test_no_bar_is_drawn_into_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    """Without a terminal the progress is plain lines without control characters."""
    with training_progress([0], 1, 1, Console(file=io.StringIO())) as progress:
        watcher = progress.watcher(0)
        watcher.step(StepReport(epoch=1, step=1, loss=2.0))
        watcher.epoch(record(1, 0.5))
    assert capsys.readouterr().err == "seed 0, epoch 1 of 1, loss 1.500, validation 50.0 %\n"


def test_a_terminal_sees_one_bar_for_everything() -> None:
    """At a terminal one bar shows seed, epoch, loss and time left."""
    screen = io.StringIO()
    with training_progress([0, 1], 1, 2, Console(file=screen, force_terminal=True, color_system=None, width=200)) as progress:
        for seed in (0, 1):
            watcher = progress.watcher(seed)
            for epoch in (1, 2):
                watcher.step(StepReport(epoch=epoch, step=1, loss=2.0))
                watcher.epoch(record(epoch, 0.5))
    last = screen.getvalue().rpartition("100 %")[2]
    assert "0:00:00 left" in last
    assert "seed 1, epoch 2 of 2, loss 2.000, validation 50.0 %" in last


@pytest.mark.parametrize(("accuracy", "told"), [(0.425, True), (0.471, True), (0.6, False)])
def test_a_training_that_learned_nothing_is_told(accuracy: float, told: bool, capsys: pytest.CaptureFixture[str]) -> None:
    """A test accuracy is judged beside that of always one answer: a figure below it says that nothing was learned yet."""
    scores = SimpleNamespace(majority=0.3, always_background=0.471)
    outcome = SimpleNamespace(
        experiment=SimpleNamespace(name="VSCG", train=SimpleNamespace(test_selected=False)),
        chosen=SimpleNamespace(result=SimpleNamespace(best_score=0.4), scores=scores),
        summary=lambda: {"accuracy": (accuracy, 0.0), "macro_f1": (0.1, 0.0), "background_recall": (0.2, 0.0)},
    )
    ConsoleTeller().outcome(outcome)  # type: ignore[arg-type]
    assert ("one constant answer, which is right in 47.10 % of the test segments" in capsys.readouterr().out) == told
