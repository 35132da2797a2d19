"""Promises of the TensorBoard files of a training run."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from streamav.errors import MissingExtraError
from streamav.training.fit.board import Board, check_tensorboard
from streamav.training.fit.run_state import EpochRecord


def record(epoch: int, loss: float) -> EpochRecord:
    return EpochRecord(
        epoch=epoch,
        learning_rate=1e-3,
        loss=loss,
        parts={"avps": loss / 2},
        validation={"accuracy": 0.5, "macro_f1": float("nan")},
        best=True,
    )


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_viewer_sees_every_epoch_once(tmp_path: Path) -> None:
    """Loss, its terms, learning rate and validation scores are scalars by epoch; a resumed run replaces the epochs that it repeats."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    for epochs in ((1, 2, 3), (3, 4)):
        board = Board(tmp_path)
        for epoch in epochs:
            board.epoch(record(epoch, float(10 * len(epochs) + epoch)))
        board.close()
    seen = accumulator.EventAccumulator(str(tmp_path)).Reload()
    assert {"loss/total", "loss/avps", "learning_rate", "validation/accuracy"} == set(seen.Tags()["scalars"])
    assert [(one.step, one.value) for one in seen.Scalars("loss/total")] == [(1, 31.0), (2, 32.0), (3, 23.0), (4, 24.0)]


def test_without_tensorboard_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """If TensorBoard is missing, the check before training raises an error with the command that installs it."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(MissingExtraError, match=r"pip install 'streamav\[train\]'"):
        check_tensorboard()
