"""Finds the folders of a user, and reads the paths that a user types."""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from pathlib import Path

from streamav.errors import SettingsError
from streamav.files import PRIVATE_FOLDER

__all__ = ["is_file", "is_folder", "typed_path", "user_folder"]


def typed_path(text: str) -> Path:
    """Return the path that a user wrote, with ~ replaced by the home folder. If that home is unknown, ~ stays part of the name."""
    try:
        return Path(text).expanduser()
    except RuntimeError:
        return Path(text)


def is_folder(path: Path) -> bool:
    """Return whether a path is a folder. False where a folder above it is closed to this user; Path.is_dir() raises there."""
    try:
        return path.is_dir()
    except OSError:
        return False


def is_file(path: Path) -> bool:
    """Return whether a path is a file; as `is_folder`."""
    try:
        return path.is_file()
    except OSError:
        return False


def user_folder(variable: str, below_home: str) -> Path:
    """Return the folder that *variable* names, or *below_home* in the user's home if it is not set.

    A user without a home (a container with an unknown user number) gets the folder `streamav-NUMBER` in the folder of temporary files.
    It is created here, and only this user can read it. Its content may be lost when the machine restarts.

    Args:
        variable: environment variable of the XDG Base Directory Specification 0.8, such as XDG_STATE_HOME.
        below_home: default path in the home, such as ".local/state".

    Raises:
        SettingsError: when another user can write to the temporary folder.
    """
    named = os.environ.get(variable)
    if named:
        return Path(named)
    try:
        return Path.home() / below_home
    except RuntimeError:
        own = Path(tempfile.gettempdir(), f"streamav-{os.getuid()}")
    with contextlib.suppress(FileExistsError):
        own.mkdir(mode=PRIVATE_FOLDER)
    found = own.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o022:
        msg = f"this user has no home, so {own} must be a folder that only this user can write; set HOME, or {variable}, to another folder"
        raise SettingsError(msg)
    return own / below_home
