"""The state of an unfinished training run in one safetensors file: written whole or not at all, no pickle.

It knows no loop: `trainer` says what belongs to the state. What is not a tensor stands as JSON in the file's header.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from streamav.errors import DataError
from streamav.files import whole_file

if TYPE_CHECKING:
    from pathlib import Path

    import torch

__all__ = ["STATE_FILE", "Progress", "load_progress", "save_progress"]

STATE_FILE = "training.safetensors"
_FORMAT = "streamav.training/1"
_MAX_BYTES = 8 << 30
"""More than twenty times the state of the largest network here."""


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Progress:
    """Where a run stands after an epoch."""

    epoch: int
    """The last finished epoch, from 1."""
    tensors: dict[str, torch.Tensor]
    """Weights, best weights, moving average and the optimiser's moments, by dotted name."""
    facts: dict[str, object]
    """Settings, history and counters, as JSON holds them."""


def save_progress(folder: Path, progress: Progress) -> None:
    """Write the state whole or not at all, on the disk before the old one is gone; one process of a run writes it.

    Raises:
        DataError: when the disk refuses.
    """
    path = folder / STATE_FILE
    header = {"format": _FORMAT, "epoch": str(progress.epoch), "facts": json.dumps(progress.facts)}
    tensors = {name: value.detach().cpu().contiguous().clone() for name, value in progress.tensors.items()}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with whole_file(path, durable=True, alone=True) as part:
            save_file(tensors, part, metadata=header)
    except (OSError, SafetensorError) as exc:
        msg = f"the state of the training run cannot be written to {path}: {exc}"
        raise DataError(msg) from exc


def load_progress(folder: Path) -> Progress | None:
    """Read the state of a run; None when there is none yet.

    Raises:
        DataError: when the file is damaged or of another kind.
    """
    path = folder / STATE_FILE
    if not path.exists():
        return None
    try:
        return _read(path)
    except (OSError, SafetensorError, ValueError, KeyError) as exc:
        msg = f"the state of the training run {path} cannot be read ({exc}); delete it to start from the beginning"
        raise DataError(msg) from exc


def _read(path: Path) -> Progress:
    """Read the state, raising ValueError when it is of another kind."""
    if path.stat().st_size > _MAX_BYTES:
        msg = f"it must be at most {_MAX_BYTES} bytes"
        raise ValueError(msg)
    with safe_open(path, framework="pt") as file:
        header = file.metadata() or {}
        if header.get("format") != _FORMAT:
            msg = f"its format must be {_FORMAT}, got {header.get('format')!r}"
            raise ValueError(msg)
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping: it cannot be iterated
        return Progress(epoch=int(header["epoch"]), tensors=tensors, facts=json.loads(header["facts"]))
