"""Writes and reads the state of an unfinished training run: one safetensors file, written whole or not at all, without pickle.

Values that are not tensors are JSON in the file's header. `run_state` defines what belongs to the state.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from streamav.errors import DataError, reason_of
from streamav.files import whole_file

if TYPE_CHECKING:
    from pathlib import Path

    import torch

__all__ = ["STATE_FILE", "Progress", "load_progress", "save_progress"]

STATE_FILE = "training.safetensors"
_FORMAT = "streamav.training/1"
_MAX_BYTES = 8 << 30
"""More than twenty times the state of the project's largest network."""


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Progress:
    """The state of a run after an epoch."""

    epoch: int
    """The last finished epoch, from 1."""
    tensors: dict[str, torch.Tensor]
    """Weights, best weights, moving average and the optimiser's moments, by dotted name."""
    facts: dict[str, object]
    """Settings, history and counters, as values that JSON can hold."""


def save_progress(folder: Path, progress: Progress) -> None:
    """Write the state whole or not at all; the new state is on the disk before it replaces the old one.

    Only one process of a run may write it.

    Raises:
        DataError: when the file cannot be written.
    """
    path = folder / STATE_FILE
    header = {"format": _FORMAT, "epoch": str(progress.epoch), "facts": json.dumps(progress.facts)}
    tensors = {name: value.detach().cpu().contiguous().clone() for name, value in progress.tensors.items()}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with whole_file(path, durable=True, alone=True) as part:
            save_file(tensors, part, metadata=header)
    except (OSError, SafetensorError) as exc:
        msg = f"the state of the training run cannot be written to {path}: {reason_of(exc)}"
        raise DataError(msg) from exc


def load_progress(folder: Path) -> Progress | None:
    """Read the state of a run; return None if there is no state yet.

    Raises:
        DataError: when the file is damaged or has another format.
    """
    path = folder / STATE_FILE
    if not path.exists():
        return None
    try:
        return _read(path)
    except (OSError, SafetensorError, ValueError, KeyError) as exc:
        msg = f"the state of the training run {path} cannot be read ({reason_of(exc)}); delete it to start from the beginning"
        raise DataError(msg) from exc


def _read(path: Path) -> Progress:
    """Read the state; raise ValueError if it is too large or has another format."""
    if path.stat().st_size > _MAX_BYTES:
        msg = f"it must be at most {_MAX_BYTES} bytes long"
        raise ValueError(msg)
    with safe_open(path, framework="pt") as file:
        header = file.metadata() or {}
        if header.get("format") != _FORMAT:
            msg = f"its format must be {_FORMAT}, got {header.get('format')!r}"
            raise ValueError(msg)
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - the file object cannot be iterated
        return Progress(epoch=int(header["epoch"]), tensors=tensors, facts=json.loads(header["facts"]))
