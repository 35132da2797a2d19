"""Keeps built engines on disk: one folder for each engine, named by a key of everything it was made from. A folder is complete or absent.

It depends on no network and no library: the content of an entry is defined by the engine that asked for it. Two
processes never build the same entry twice. An entry that is damaged, of another user or of another format is built again.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import logging
import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from streamav.errors import EngineError, reason_of
from streamav.files import file_sha256, remove_leftovers, whole_folder
from streamav.setting_names import HOME
from streamav.user_paths import is_folder, user_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from pydantic import JsonValue

__all__ = ["FORMAT", "EngineCache", "Entry", "EntryKey", "Survey", "cache_folder"]

FORMAT = 1
"""Version of the entries' layout; an entry with another version is built again."""
ENTRY_FILE = "entry.json"
_MAX_ENTRY_BYTES = 1 << 20
"""Largest entry.json that is read, so that a wrong file cannot use up the memory."""

_log = logging.getLogger(__name__)


def cache_folder() -> Path:
    """Return the folder of built engines: $STREAMAV_HOME/engines, else streamav/engines in $XDG_CACHE_HOME or ~/.cache."""
    home = os.environ.get(HOME)
    if home:
        return Path(home) / "engines"
    return user_folder("XDG_CACHE_HOME", ".cache") / "streamav" / "engines"


@dataclass(frozen=True, slots=True)
class EntryKey:
    """Everything that an engine was made from. If one part differs, it is another engine."""

    engine: str
    precision: str
    parts: Mapping[str, str]
    """Weights hash, networks, recipe, library versions, processor or GPU; names and values are free text."""

    @property
    def tree(self) -> dict[str, JsonValue]:
        """Return the key as JSON values."""
        return {"format": FORMAT, "engine": self.engine, "precision": self.precision, "parts": dict(sorted(self.parts.items()))}

    @property
    def digest(self) -> str:
        """Return the SHA-256 of the key, 64 hexadecimal digits."""
        return hashlib.sha256(json.dumps(self.tree, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Entry:
    """One built engine on disk; its files still have the hashes that they had when they were made."""

    path: Path
    digest: str
    key: Mapping[str, JsonValue]
    facts: Mapping[str, JsonValue] = field(default_factory=dict)
    """What was recorded when the engine was made: parity, seconds, model name."""
    size_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Survey:
    """All that a cache holds."""

    entries: list[Entry]
    """Complete entries, oldest first."""
    damaged: list[tuple[Path, str]]
    """Folders that cannot be used, each with the reason."""


class _UnusableError(Exception):
    """An entry cannot be used; the text is the reason."""


class EngineCache:
    """A folder of built engines."""

    def __init__(self, folder: Path | None = None) -> None:
        """Use *folder*, or the user's cache folder when it is None; no folder is made before something is built."""
        self.folder = cache_folder() if folder is None else folder
        self._told: set[tuple[Path, str]] = set()

    def find(self, key: EntryKey) -> Entry | None:
        """Return the entry of a key, or None when there is no usable one; the log names a damaged one."""
        path = self.folder / key.digest
        try:
            return _read(path, key)
        except _UnusableError as exc:
            if isinstance(exc.__cause__, FileNotFoundError) and not is_folder(path):
                return None
            if (path, str(exc)) not in self._told:  # find() is called more than once before the entry is built again
                self._told.add((path, str(exc)))
                _log.warning("engine cache: %s is built again: %s", path, exc)
            return None

    def peek(self, key: EntryKey) -> Entry | None:
        """Return the entry of a key without hashing its files, or None. This is enough to rank engines, but not to run one."""
        with contextlib.suppress(_UnusableError):
            return _read(self.folder / key.digest, key, whole=False)
        return None

    def get(self, key: EntryKey, build: Callable[[Path], Mapping[str, JsonValue]], *, rebuild: bool = False) -> Entry:
        """Return the entry of a key; build it first when it is absent or unusable.

        Args:
            key: what the engine is made from.
            build: writes the engine's files into the given folder and returns facts for the entry.
            rebuild: True builds in any case; the old entry stays until the new one is complete.

        Raises:
            EngineError: when the folder cannot be written. What *build* raises passes through; nothing is left behind.
        """
        found = None if rebuild else self.find(key)
        if found is not None:
            return found
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            with self._lock(key.digest):
                remove_leftovers(self.folder / key.digest)  # of a killed build; the lock is held, so no other build is running
                return (None if rebuild else self.find(key)) or self._build(key, build)
        except OSError as exc:
            msg = f"the engine cache {self.folder} must be a writable folder: {reason_of(exc)}; set STREAMAV_HOME to another place"
            raise EngineError(msg) from exc

    def entries(self, *, whole: bool = True) -> list[Entry]:
        """List all complete entries, oldest first; unusable ones are left out. *whole* False hashes no file, which takes little time."""
        return self.survey(whole=whole).entries

    def survey(self, *, whole: bool = True) -> Survey:
        """Read every entry once.

        Args:
            whole: False hashes no file: enough to read the facts, but not to find damage in the engine's own files.
        """
        usable: list[tuple[float, Entry]] = []
        damaged: list[tuple[Path, str]] = []
        for path in sorted(path for path in self.folder.glob("*") if path.is_dir() and not path.name.startswith(".")):
            try:
                entry = _read(path, None, whole=whole)
                usable.append(((path / ENTRY_FILE).stat().st_mtime, entry))
            except _UnusableError as exc:
                damaged.append((path, str(exc)))
            except FileNotFoundError:
                continue  # another process has removed it just now
        return Survey([entry for _, entry in sorted(usable, key=lambda pair: pair[0])], damaged)

    def clear(self) -> int:
        """Remove every entry and the leftovers of killed builds; return the number of folders removed.

        Raises:
            EngineError: when one cannot be removed.
        """
        paths = [path for path in self.folder.glob("*") if path.is_dir()] if is_folder(self.folder) else []
        for path in paths:
            _remove(path)
        return len(paths)

    def remove(self, digest: str) -> None:
        """Remove one entry.

        Raises:
            EngineError: when it cannot be removed.
        """
        _remove(self.folder / digest)

    @contextlib.contextmanager
    def _lock(self, digest: str) -> Iterator[None]:
        """Hold the lock of one key; the system releases it when the process dies, so a lock is never left over."""
        with (self.folder / f"{digest[:16]}.lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                _log.info("engine cache: another process builds this engine; waiting until it is done")
                fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _build(self, key: EntryKey, build: Callable[[Path], Mapping[str, JsonValue]]) -> Entry:
        path = self.folder / key.digest
        with whole_folder(path, mode=0o700) as scratch:
            facts = dict(build(scratch))
            files: dict[str, JsonValue] = {file.name: file_sha256(file) for file in sorted(scratch.iterdir())}
            entry: dict[str, JsonValue] = {"format": FORMAT, "key": key.tree, "facts": facts, "files": files}
            (scratch / ENTRY_FILE).write_text(json.dumps(entry, indent=2, allow_nan=False) + "\n", encoding="utf-8")
        try:
            return _read(path, key)
        except _UnusableError as exc:
            msg = f"the engine just built at {path} cannot be read back: {exc}"
            raise EngineError(msg) from exc


def _remove(path: Path) -> None:
    try:
        shutil.rmtree(path)
    except FileNotFoundError:
        return  # another process removed it first
    except OSError as exc:
        msg = f"the engine at {path} cannot be removed: {reason_of(exc)}; you must have write permission for its folder"
        raise EngineError(msg) from exc


def _read(path: Path, key: EntryKey | None, *, whole: bool = True) -> Entry:
    """Read an entry and check format, owner, key and, unless *whole* is false, the hash of every file."""
    try:
        if path.stat().st_uid != os.getuid():
            msg = "it belongs to another user"
            raise _UnusableError(msg)
        with (path / ENTRY_FILE).open("rb") as file:
            tree = json.loads(file.read(_MAX_ENTRY_BYTES))
        stored, files, facts = tree["key"], tree["files"], tree["facts"]
        digest = hashlib.sha256(json.dumps(stored, sort_keys=True).encode()).hexdigest()
        if tree["format"] != FORMAT:
            msg = f"its format is {tree['format']}, not {FORMAT}"
            raise _UnusableError(msg)
        if digest != path.name or (key is not None and stored != key.tree):
            msg = "its stored key does not match its folder name"
            raise _UnusableError(msg)
        for name, want in files.items() if whole else ():
            if file_sha256(path / Path(name).name) != want:
                msg = f"{name} is damaged"
                raise _UnusableError(msg)
        size = sum((path / Path(name).name).stat().st_size for name in files)
        return Entry(path, digest, stored, facts, size)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as exc:
        msg = f"it is incomplete or damaged ({type(exc).__name__}: {reason_of(exc)})"
        raise _UnusableError(msg) from exc
