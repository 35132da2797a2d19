"""Checks, before a long run, that a file which is written at its end can be written, and writes it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from streamav.errors import SettingsError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["check_output", "write_output"]


def check_output(option: str, path: Path | None) -> None:
    """Check that a file can be made or replaced; None passes.

    Args:
        option: the option that names it, for the message.
        path: the file.

    Raises:
        SettingsError: when its folder does not exist or cannot be written, or the path is a folder.
    """
    if path is None:
        return
    if path.is_dir():
        problem = "it is a folder; name a file"
    elif not path.parent.is_dir():
        problem = f"its folder {path.parent} does not exist; make it first"
    elif not os.access(path if path.exists() else path.parent, os.W_OK):
        problem = "it cannot be written; check the rights of the file and its folder"
    else:
        return
    msg = f"{option} must be a file that can be written, got {path}: {problem}"
    raise SettingsError(msg)


def write_output(path: Path, text: str) -> None:
    """Write a text to a file, a pipe or a device.

    Raises:
        OSError: when that fails, as on a full disk; it names the file.
    """
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as exc:
        exc.filename = exc.filename or str(path)
        raise
