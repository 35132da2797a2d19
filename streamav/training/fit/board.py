"""Writes the course of a training run as TensorBoard event files.

It does not influence the run. TensorBoard is installed with the extra `train`.
"""

from __future__ import annotations

import importlib.util
import math
from typing import TYPE_CHECKING

from streamav.errors import MissingExtraError

if TYPE_CHECKING:
    from pathlib import Path

    from torch.utils.tensorboard import SummaryWriter

    from streamav.training.fit.run_state import EpochRecord, StepReport

__all__ = ["Board", "check_tensorboard"]


def check_tensorboard() -> None:
    """Raise MissingExtraError unless TensorBoard is installed; this is called before training starts."""
    if importlib.util.find_spec("tensorboard") is None:
        package, extra = "tensorboard", "train"
        raise MissingExtraError(package, extra)


class Board:
    """Writes the scalars of one run: loss and its terms, learning rate, and the scores on the validation split."""

    def __init__(self, folder: Path) -> None:
        """Prepare to write into *folder*; the first file is written after the first epoch."""
        self._folder = folder
        self._writer: SummaryWriter | None = None

    def step(self, report: StepReport) -> None:
        """Do nothing: one point of each curve per epoch is enough."""

    def epoch(self, record: EpochRecord) -> None:
        """Write the scalars of an epoch and flush them, so that a viewer shows them at once.

        The points of a resumed run replace those that the interrupted run had written for the same epochs.
        """
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(self._folder), purge_step=record.epoch)
        scalars = {"loss/total": record.loss, "learning_rate": record.learning_rate}
        scalars |= {f"loss/{name}": value for name, value in record.parts.items()}
        scalars |= {f"validation/{name}": value for name, value in (record.validation or {}).items()}
        for name, value in scalars.items():
            if math.isfinite(value):
                self._writer.add_scalar(name, value, record.epoch)
        self._writer.flush()

    def close(self) -> None:
        """Close the file."""
        if self._writer is not None:
            self._writer.close()
