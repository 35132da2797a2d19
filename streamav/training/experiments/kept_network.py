"""Keeps the weights of a trained baseline beside its report, and loads it again: safetensors and JSON, nothing is unpickled."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Final

from streamav.errors import ModelError, SettingsError, reason_of
from streamav.files import whole_file, write_whole
from streamav.networks.baselines import BaselineOptions, make_baseline
from streamav.networks.state import load_arrays

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn

__all__ = ["holds_network", "keep_network", "load_network"]

_OPTIONS: Final = "network.json"
_WEIGHTS: Final = "network.safetensors"
_MOST_BYTES: Final = 1 << 20


def holds_network(folder: Path) -> bool:
    """Return whether a folder holds a baseline."""
    return (folder / _OPTIONS).is_file() and (folder / _WEIGHTS).is_file()


def keep_network(folder: Path, network: nn.Module, options: BaselineOptions, classes: tuple[str, ...]) -> None:
    """Write a trained baseline into a folder.

    Args:
        folder: an existing folder.
        network: the network.
        options: its options.
        classes: slugs of its classes.

    Raises:
        OSError: when it cannot be written.
    """
    from safetensors.torch import save_file

    write_whole(folder / _OPTIONS, json.dumps({"options": asdict(options), "classes": list(classes)}, indent=1) + "\n")
    with whole_file(folder / _WEIGHTS) as part:
        save_file({name: value.contiguous() for name, value in network.state_dict().items() if value.is_floating_point()}, part)


def load_network(folder: Path) -> tuple[nn.Module, BaselineOptions, tuple[str, ...]]:
    """Load a baseline in evaluation mode; return it with its options and the slugs of its classes.

    Raises:
        ModelError: when the folder holds none, or its parts do not fit together.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    if not holds_network(folder):
        msg = f"{folder} must hold {_OPTIONS} and {_WEIGHTS}, which streamav train --network avel (pspnet, cmbs) writes"
        raise ModelError(msg)
    try:
        if (folder / _OPTIONS).stat().st_size > _MOST_BYTES:
            msg = f"{folder / _OPTIONS} must be at most {_MOST_BYTES} bytes"
            raise ModelError(msg)
        tree = json.loads((folder / _OPTIONS).read_text(encoding="utf-8"))
        options = BaselineOptions.from_dict(tree["options"])
        classes = tuple(str(one) for one in tree["classes"])
        arrays = load_file(folder / _WEIGHTS)
    except (OSError, ValueError, TypeError, KeyError, SettingsError, SafetensorError) as exc:
        msg = f"{folder} must hold a baseline as streamav train writes it: {reason_of(exc)}"
        raise ModelError(msg) from exc
    network = make_baseline(options).eval()
    load_arrays(network, arrays, f"the network in {folder}")
    return network, options, classes
