"""The processes that train together, as one of them sees them; `torchrun` starts them, on one machine or more.

It knows no data, no network and no files.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import distributed

from streamav.errors import DataError, SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["ALONE", "Workers", "open_workers"]

_PATIENCE = timedelta(hours=2)
"""How long a process waits for the others: the first one checks every row of the features before the others begin."""
Told = TypeVar("Told")


@dataclass(frozen=True, slots=True)
class Workers:
    """The processes that train together, seen from one of them."""

    rank: int = 0
    """Which one this is, from 0."""
    size: int = 1
    """How many there are; 1 for a training that is not shared."""
    device: str = "cpu"
    """Where this one computes."""

    @property
    def first(self) -> bool:
        """Whether this process writes, prints and selects."""
        return self.rank == 0

    def from_first(self, make: Callable[[], Told]) -> Told:
        """Let the first process make something, and give it to all."""
        if self.size == 1:
            return make()
        carried = [make() if self.first else None]
        distributed.broadcast_object_list(carried, src=0, device=torch.device(self.device))
        return carried[0]  # type: ignore[return-value] # what the first has made

    def agree(self, value: str, what: str) -> None:
        """Raise DataError unless every process has the same *value*."""
        if self.from_first(lambda: value) != value:
            msg = f"{what} must be the same in every process, and process {self.rank} has another; give every machine the same files"
            raise DataError(msg)

    def wait(self) -> None:
        """Wait until every process has come here."""
        if self.size > 1:
            distributed.barrier(device_ids=[torch.device(self.device).index or 0] if self.device.startswith("cuda") else None)


ALONE = Workers()


@contextmanager
def open_workers(device: str) -> Iterator[Workers]:
    """Join the processes that torchrun started, or work alone where it did not.

    Args:
        device: "cpu" or "cuda"; each process of a machine takes the GPU of its own number there.

    Raises:
        SettingsError: when there are more processes than GPUs, or torchrun's variables are wrong.
    """
    size = _variable("WORLD_SIZE", 1)
    if size <= 1:
        yield Workers(device=device)
        return
    rank, local = _variable("RANK", 0), _variable("LOCAL_RANK", 0)
    if device == "cuda":
        if local >= torch.cuda.device_count():
            msg = f"--device cuda needs a GPU for each process of a machine, got {torch.cuda.device_count()}; lower --nproc-per-node"
            raise SettingsError(msg)
        torch.cuda.set_device(local)
        device = f"cuda:{local}"
    distributed.init_process_group("nccl" if device != "cpu" else "gloo", timeout=_PATIENCE)
    yield Workers(rank, size, device)
    # Not in a `finally`: after an error the others are still busy, and torchrun ends them.
    distributed.destroy_process_group()


def _variable(name: str, default: int) -> int:
    """Read a whole number that torchrun has set."""
    text = os.environ.get(name, str(default))
    if not text.isdigit():
        msg = f"the variable {name}, which torchrun sets, must be a whole number, got {text[:40]!r}"
        raise SettingsError(msg)
    return int(text)
