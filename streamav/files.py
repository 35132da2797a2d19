"""Writes files and folders completely or not at all, hashes files, and lists the suffixes of media files.

It uses only the standard library, so every package may use it. New content is written to a temporary beside the target and renamed at
the end. A reader finds the old content or the new one, also when the writer is killed (POSIX: rename is atomic).

Not used: `atomicwrites` is no longer maintained and supports neither folders nor writers that take a path (h5py, safetensors);
`tempfile` makes files that only their owner can read.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import secrets
import shutil
import stat
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "MEDIA_SUFFIXES",
    "PRIVATE_FILE",
    "PRIVATE_FOLDER",
    "file_sha256",
    "remove_leftovers",
    "whole_file",
    "whole_folder",
    "write_whole",
]

MEDIA_SUFFIXES = (
    ".mp4",
    ".m4v",
    ".mov",
    ".mkv",
    ".webm",
    ".avi",
    ".mpg",
    ".mpeg",
    ".ogv",
    ".flv",
    ".wmv",
    ".ts",
    ".mts",
    ".m2ts",
    ".3gp",
    ".mxf",
)
"""Suffixes of media files with sound and picture, in small letters. A file that the user names may have any suffix."""
PRIVATE_FILE = 0o600
"""Mode of a file that only its owner can read and write."""
PRIVATE_FOLDER = 0o700
"""Mode of a folder that only its owner can open."""


def write_whole(path: Path, content: bytes | str, *, durable: bool = False, alone: bool = False, private: bool = False) -> None:
    """Write bytes, or text as UTF-8, in the way of `whole_file`.

    Raises:
        OSError: as `whole_file`.
    """
    with whole_file(path, durable=durable, alone=alone, private=private) as part:
        part.write_bytes(content.encode() if isinstance(content, str) else content)


@contextlib.contextmanager
def whole_file(path: Path, *, durable: bool = False, alone: bool = False, private: bool = False) -> Iterator[Path]:
    """Yield an empty file beside *path* to be filled. At the end it is renamed to *path*, unless an error was raised.

    The new file has the mode of the file that it replaces, or else the mode of any new file (umask). A symbolic link at *path* is
    replaced, not followed. If anything is raised before the rename, *path* keeps its old content and the temporary is removed.

    Args:
        path: the file; its folder must exist.
        durable: True returns when content and name are on the disk, so that a later power cut loses neither. With False a power cut
            may bring back the old file, or leave an empty one on some file systems.
        alone: True where no other process writes *path* at the same time; the caller must ensure this. The temporary then always has
            the same name, so the next write replaces what a killed writer left. With False every writer has its own temporary: the
            last writer to finish wins, and what a killed writer left stays until `remove_leftovers` runs.
        private: True lets only the owner read and write the file (mode 0600), whatever mode the old file had.

    Raises:
        OSError: when the disk is full, *path* is a folder, or its folder cannot be written to.
    """
    part = path.with_name(f".{path.name}.tmp" if alone else f".{path.name}.{secrets.token_hex(8)}.tmp")
    if alone:
        part.unlink(missing_ok=True)
    mode = _reserve(part, PRIVATE_FILE if private else 0o666)
    try:
        yield part
        with contextlib.suppress(FileNotFoundError):
            mode = mode if private else stat.S_IMODE(path.stat().st_mode)
        if stat.S_IMODE(part.stat().st_mode) != mode:  # safetensors replaces this file by its own, which only its owner can read
            part.chmod(mode)
        if durable:
            _sync(part)
        part.replace(path)
    except OSError as exc:
        if exc.filename in {None, str(part)}:
            exc.filename = str(path)  # the name that the user knows; a write that fails has none
        raise
    finally:
        part.unlink(missing_ok=True)
    if durable:
        _sync_folder(path.parent)


@contextlib.contextmanager
def whole_folder(path: Path, *, durable: bool = False, mode: int = 0o777) -> Iterator[Path]:
    """Yield an empty folder beside *path* to be filled. At the end it is renamed to *path*, unless an error was raised.

    An existing folder is set aside, the new one is renamed to *path*, and the old one is removed. Between the two renames a reader finds
    no folder, never an incomplete one. If the second rename fails, the old folder is put back. If the process is killed between them,
    `remove_leftovers` puts it back. Every writer has its own temporary.

    Args:
        path: the folder; its parent folder must exist.
        durable: True returns when all files and names are on the disk.
        mode: permissions of the new folder, less the umask.

    Raises:
        OSError: when the disk is full, *path* is not a folder, or its parent folder cannot be written to.
    """
    if path.exists() and not path.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path))
    token = secrets.token_hex(8)
    new, old = (path.with_name(f".{path.name}.{token}.{ending}") for ending in ("tmp", "old"))
    new.mkdir(mode=mode)
    try:
        yield new
        if durable:
            _sync_tree(new)
        _take_place(new, path, old)
    finally:
        _remove(new)
    if durable:
        _sync_folder(path.parent)
    _remove(old)


def remove_leftovers(path: Path) -> None:
    """Remove what killed writers of *path* left beside it. If *path* is missing, put back a folder that a writer had set aside.

    The caller must ensure that no process is writing *path*.

    Raises:
        OSError: when a folder cannot be put back.
    """
    pattern = re.compile(rf"\.{re.escape(path.name)}\.([0-9a-f]{{16}}\.)?(tmp|old)")
    left = [one for one in path.parent.iterdir() if pattern.fullmatch(one.name)] if path.parent.is_dir() else []
    for one in left:
        if one.name.endswith(".old") and not path.exists():
            one.rename(path)
        else:
            _remove(one)


def file_sha256(path: Path) -> str:
    """Hash a file of any size in blocks.

    Returns:
        SHA-256, 64 hexadecimal digits.

    Raises:
        OSError: when it cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _reserve(part: Path, mode: int) -> int:
    """Make an empty file that did not exist before; return its mode, which is *mode* less the umask."""
    new = os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, mode)
    try:
        return stat.S_IMODE(os.fstat(new).st_mode)
    finally:
        os.close(new)


def _take_place(new: Path, path: Path, old: Path) -> None:
    """Rename *new* to *path*. Set aside an existing *path* as *old*, and put it back when the rename fails."""
    if path.exists():
        path.rename(old)
    try:
        new.rename(path)
    except OSError:
        if old.exists():
            old.rename(path)
        raise


def _remove(path: Path) -> None:
    """Remove a file, a link or a folder with its content. What cannot be removed stays; it does no harm."""
    with contextlib.suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink()


def _sync_tree(folder: Path) -> None:
    for place, _, names in os.walk(folder):
        for name in names:
            _sync(Path(place, name))
        _sync_folder(Path(place))


def _sync(path: Path) -> None:
    """Wait until a file or folder is on the disk."""
    opened = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def _sync_folder(path: Path) -> None:
    """Wait until the names in a folder are on the disk. Some network file systems cannot sync a folder; their error is ignored."""
    try:
        _sync(path)
    except OSError as exc:
        if exc.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EACCES):
            raise
