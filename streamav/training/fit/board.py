"""Writes what happens in a training run as TensorBoard event files, beside whoever else watches it.

It steers nothing. TensorBoard is in the extra `train`.
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
    """Raise MissingExtraError unless TensorBoard is installed, before hours of training."""
    if importlib.util.find_spec("tensorboard") is None:
        package, extra = "tensorboard", "train"
        raise MissingExtraError(package, extra)


class Board:
    """Writes the scalars of one run: loss and its terms, learning rate, and the scores on the validation split."""

    def __init__(self, folder: Path) -> None:
        """Write into *folder*; nothing is written before the first epoch has ended."""
        self._folder = folder
        self._writer: SummaryWriter | None = None

    def step(self, report: StepReport) -> None:
        """Do nothing: curves by epoch are enough, and cost nothing."""

    def epoch(self, record: EpochRecord) -> None:
        """Write an epoch, and see to it that a viewer sees it at once.

        A resumed run hides what the killed one had written of the same epochs.
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
