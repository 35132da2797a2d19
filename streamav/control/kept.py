"""Keeps the changes of a run on disk, in one JSON file of the state folder, so that they hold after a restart.

    {"porch": {"enabled": false, "classes": {"bark": {"on": 0.7}}}}

Several processes may share the file; each writes only its own sources. It decides nothing about the values.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from streamav.database import set_aside
from streamav.errors import reason_of
from streamav.files import PRIVATE_FILE, PRIVATE_FOLDER, write_whole

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

__all__ = ["Difference", "KeptChanges", "Tree", "kept_path", "leaves"]

MOST_BYTES: Final = 4_000_000
"""Largest file that is read (our choice: 64 sources with 28 labels and zones need less than a tenth)."""

Tree = dict[str, Any]
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Difference:
    """One value that was changed while a run went on."""

    source: str
    setting: str
    """Path below `detection`, such as `classes.bark.on`."""
    value: object
    configured: object
    """The value of the configuration; None where it has none."""


def kept_path(state_dir: Path) -> Path:
    """Return the file of the kept changes in the folder of all state."""
    return state_dir / "changes.json"


def leaves(tree: Mapping[str, Any], before: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], object]]:
    """Yield the path and the value of each leaf of nested dictionaries."""
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from leaves(value, (*before, key))
        else:
            yield (*before, key), value


class KeptChanges:
    """The file of the changes; without a path nothing is kept."""

    def __init__(self, path: Path | None) -> None:
        """Store the path."""
        self._path = path
        self._told = False

    def read(self) -> dict[str, Tree]:
        """Return the changes by source; a file that cannot be read, or is damaged, is named in the log and counts as empty."""
        try:
            return self.load()
        except (OSError, ValueError, RecursionError) as exc:
            _log.warning(
                "the kept changes cannot be read, the configuration holds without them path=%s reason=%s", self._path, reason_of(exc)
            )
            return {}

    def load(self) -> dict[str, Tree]:
        """Return the changes by source; without a file there are none.

        Raises:
            OSError: when the file cannot be read.
            ValueError: when it is damaged; RecursionError when it is so on purpose.
        """
        if self._path is None:
            return {}
        try:
            return _read(self._path)
        except FileNotFoundError:
            return {}

    def write(self, changes: Mapping[str, Tree]) -> None:
        """Replace the changes of the named sources, all others stay; an empty tree removes a source. A failure is logged once. Blocks."""
        try:
            self.replace(changes)
        except OSError as exc:
            if not self._told:
                _log.warning("changes hold, but cannot be kept for the next start path=%s reason=%s", self._path, reason_of(exc))
            self._told = True
        else:
            self._told = False

    def replace(self, changes: Mapping[str, Tree]) -> None:
        """Do as `write`; a damaged file is set aside with a warning, because the changes of other sources may be in it.

        Raises:
            OSError: when the file cannot be read or written.
        """
        path = self._path
        if path is None:
            return
        path.parent.mkdir(mode=PRIVATE_FOLDER, parents=True, exist_ok=True)
        with _alone(path):
            try:
                known = self.load()
            except (ValueError, RecursionError) as exc:
                _log.warning("the kept changes are damaged, they are set aside path=%s reason=%s", set_aside(path), exc)
                known = {}
            whole = {source: tree for source, tree in {**known, **changes}.items() if tree}
            write_whole(path, json.dumps(whole, indent=1, sort_keys=True) + "\n", durable=True, private=True)


def _read(path: Path) -> dict[str, Tree]:
    """Return the content of the file.

    Raises:
        OSError: when it cannot be read.
        ValueError: when it is not what write() makes.
    """
    if path.stat().st_size > MOST_BYTES:
        msg = f"it must have at most {MOST_BYTES} bytes"
        raise ValueError(msg)
    found = json.loads(path.read_text(encoding="utf-8"), parse_constant=lambda _: None)
    if not isinstance(found, dict) or not all(isinstance(tree, dict) for tree in found.values()):
        msg = "it must hold an object for each source"
        raise ValueError(msg)
    return found


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Keep other processes from writing the file."""
    with open(path.with_suffix(".lock"), "w", encoding="ascii", opener=_open_private) as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags, PRIVATE_FILE)
