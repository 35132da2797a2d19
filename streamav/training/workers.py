"""Connects the processes that train one network together; `torchrun` starts them, on one machine or several.

Data, networks and files are not handled here.
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
"""How long a process waits for the others; the first process checks every row of the features before the others begin."""
Told = TypeVar("Told")


@dataclass(frozen=True, slots=True)
class Workers:
    """The group of processes that train together, and the place of this process in it."""

    rank: int = 0
    """Number of this process, from 0."""
    size: int = 1
    """Number of processes; 1 for training in a single process."""
    device: str = "cpu"
    """Device on which this process computes."""

    @property
    def first(self) -> bool:
        """Whether this is the first process, which writes, prints and selects."""
        return self.rank == 0

    def from_first(self, make: Callable[[], Told]) -> Told:
        """Call *make* in the first process and return its result in every process."""
        if self.size == 1:
            return make()
        carried = [make() if self.first else None]
        distributed.broadcast_object_list(carried, src=0, device=torch.device(self.device))
        return carried[0]  # type: ignore[return-value] # the result of the first process

    def agree(self, value: str, what: str) -> None:
        """Raise DataError unless every process has the same *value*."""
        if self.from_first(lambda: value) != value:
            msg = f"{what} must be the same in every process, but process {self.rank} differs; put the same files on every machine"
            raise DataError(msg)

    def wait(self) -> None:
        """Wait until every process has called this method."""
        if self.size > 1:
            distributed.barrier(device_ids=[torch.device(self.device).index or 0] if self.device.startswith("cuda") else None)


ALONE = Workers()


@contextmanager
def open_workers(device: str) -> Iterator[Workers]:
    """Join the group of processes that torchrun started; without torchrun, yield a group of one process.

    Args:
        device: "cpu" or "cuda"; with "cuda", each process uses the GPU whose number is the process's local rank on its machine.

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
    # Not in a `finally` block: after an error the other processes are still at work, and torchrun ends them.
    distributed.destroy_process_group()


def _variable(name: str, default: int) -> int:
    """Read a whole number from an environment variable that torchrun sets."""
    text = os.environ.get(name, str(default))
    if not text.isdigit():
        msg = f"the variable {name}, which torchrun sets, must be a whole number, got {text[:40]!r}"
        raise SettingsError(msg)
    return int(text)
