"""Writes files and folders completely or not at all, hashes files, turns names into slugs and lists the suffixes of media files.

It uses only the standard library and our errors, so every package may use it. New content is written to a temporary beside the target
and renamed at the end. A reader finds the old content or the new one, also when the writer is killed (POSIX: rename is atomic).

Not used: `atomicwrites` is no longer maintained and supports neither folders nor writers that take a path (h5py, safetensors);
`tempfile` makes files that only their owner can read. `python-slugify` and `Unidecode` convert any script to Latin letters by tables.
Automations depend on labels, so a name without a plain form is refused here instead of guessed.
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
import tempfile
import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING

from streamav.errors import DataError, SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = [
    "MEDIA_SUFFIXES",
    "NAME_SIZE",
    "PRIVATE_FILE",
    "PRIVATE_FOLDER",
    "SLUG_SIZE",
    "class_slugs",
    "file_sha256",
    "is_file",
    "is_folder",
    "remove_leftovers",
    "slug",
    "typed_path",
    "user_folder",
    "whole_file",
    "whole_folder",
    "write_whole",
]

MEDIA_SUFFIXES = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ogv", ".flv", ".wmv", ".ts")
"""Suffixes of media files with sound and picture, in small letters. A file that the user names may have any suffix."""
SLUG_SIZE = 64
"""Longest slug, characters."""
NAME_SIZE = 200
"""Longest readable name of a class, characters."""
PRIVATE_FILE = 0o600
"""Mode of a file that only its owner can read and write."""
PRIVATE_FOLDER = 0o700
_MAX_TOLD = 20


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


def file_sha256(path: Path) -> str:
    """Hash a file of any size in blocks.

    Returns:
        SHA-256, 64 hexadecimal digits.

    Raises:
        OSError: when it cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def slug(name: str, separator: str = "_") -> str:
    """Return the plain form of a name: small letters a-z and digits, with one *separator* in place of everything between them.

    Accents are dropped ("Café" becomes cafe, "Straße" strasse). A letter or digit without a plain form is refused, never left out, so
    that two different names do not get the same slug. The slug of a slug is the slug itself.

    Args:
        name: any text.
        separator: "_" for labels, "-" for names of bundles and files.

    Returns:
        1 to `SLUG_SIZE` characters.

    Raises:
        DataError: when the name has a letter or digit without a plain form, none at all, or too many.
    """
    plain = "".join(letter for letter in unicodedata.normalize("NFKD", name.casefold()) if not unicodedata.combining(letter)).casefold()
    strange = sorted({letter for letter in plain if letter.isalnum() and not letter.isascii()})
    if strange:
        msg = f"{name[:80]!r} must be in letters a to z and digits (accents may stay), got {' '.join(strange[:8])}; write it in these"
        raise DataError(msg)
    words = re.findall("[a-z0-9]+", plain)
    made = separator.join(words)
    if not 1 <= len(made) <= SLUG_SIZE:
        msg = f"{name[:80]!r} must have 1 to {SLUG_SIZE} letters a to z and digits, got {len(made)}; choose another name"
        raise DataError(msg)
    return made


def class_slugs(path: Path, names: Iterable[tuple[int, str]]) -> tuple[str, ...]:
    """Return the labels of the classes that a file names, in the order of the file.

    Args:
        path: the file, for messages.
        names: line number (from 1) and name of each class.

    Raises:
        DataError: when a name has no slug or is "background", or two names have the same slug. The message lists all problems (the
            first twenty) with their lines.
    """
    known: dict[str, tuple[int, str]] = {}
    problems = []
    for line, name in names:
        try:
            made = _class_slug(name)
        except DataError as exc:
            problems.append(f"line {line}: the class {exc}")
            continue
        first = known.setdefault(made, (line, name))
        if first != (line, name):
            problems.append(
                f"line {line}: {name!r} and {first[1]!r} (line {first[0]}) would both be the label {made}; rename one, or join the two"
            )
    if problems:
        more = [f"and {len(problems) - _MAX_TOLD} more"] if len(problems) > _MAX_TOLD else []
        msg = f"{path} must be corrected:\n" + "\n".join([*problems[:_MAX_TOLD], *more])
        raise DataError(msg)
    return tuple(known)


def _class_slug(name: str) -> str:
    if len(name) > NAME_SIZE or not name.isprintable():
        msg = f"{name[:80]!r} must be a name of at most {NAME_SIZE} printable characters on one line, got {len(name)}; choose another name"
        raise DataError(msg)
    made = slug(name)
    if made == "background":
        msg = f"{name!r} must not be listed: background means that no class is present; leave it out"
        raise DataError(msg)
    return made


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
