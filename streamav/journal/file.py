"""Opens the file of the journal, and replaces a damaged file by a new one.

The events that can be read in the damaged file go into the new file; its scores stay in the old file.
"""

from __future__ import annotations

import logging
import sqlite3
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Final

from streamav.database import open_database, read_database, readable_rows, set_aside
from streamav.files import PRIVATE_FOLDER
from streamav.journal.rows import KEEP
from streamav.publish.message import MessageError, decode

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["VERSION", "empty_journal", "identity", "open_journal", "renewed"]

VERSION: Final = 1
"""Version of the tables, stored as `user_version` of the file."""
_SCHEMA: Final = """
CREATE TABLE events (id TEXT PRIMARY KEY, source TEXT NOT NULL, label TEXT NOT NULL, start_ts REAL NOT NULL, payload BLOB NOT NULL);
CREATE INDEX events_by_time ON events (start_ts);
CREATE TABLE labels (number INTEGER PRIMARY KEY, names TEXT NOT NULL UNIQUE);
CREATE TABLE scores (source TEXT NOT NULL, ts_ms INTEGER NOT NULL, media_ms INTEGER NOT NULL, labels INTEGER NOT NULL,
                     numbers BLOB NOT NULL, PRIMARY KEY (source, ts_ms)) WITHOUT ROWID;
"""
_DAMAGED: Final = "the journal is damaged, it is set aside and a new one is begun path=%s reason=%s events_kept=%d"

_log = logging.getLogger(__name__)


def open_journal(path: Path) -> sqlite3.Connection:
    """Open the file to write it, or create it.

    Raises:
        OSError: when the folder or the file cannot be made.
        sqlite3.Error: when the file cannot be used.
    """
    path.parent.mkdir(mode=PRIVATE_FOLDER, parents=True, exist_ok=True)
    return open_database(path, _SCHEMA, VERSION, synchronous="NORMAL", isolation_level="DEFERRED")


def empty_journal() -> sqlite3.Connection:
    """Return an empty journal in memory."""
    connection = sqlite3.connect(":memory:", check_same_thread=False)
    connection.executescript(_SCHEMA)
    return connection


def identity(path: Path) -> tuple[int, int] | None:
    """Return which file is at a path now; None for none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def renewed(path: Path, damage: Exception) -> sqlite3.Connection:
    """Set a damaged file aside and open a new one with the events that can be read; the scores stay in the old one.

    Raises:
        OSError: when the file cannot be renamed, or a new one cannot be made.
        sqlite3.Error: when the new file cannot be used.
    """
    kept = _salvaged(path)
    aside = set_aside(path)
    connection = open_journal(path)
    with connection:
        connection.executemany(KEEP, kept)
    _log.warning(_DAMAGED, aside, damage, len(kept))
    return connection


def _salvaged(path: Path) -> list[tuple[str, str, str, float, bytes]]:
    """Return the rows of the events that can be read of a damaged file, which is not changed."""
    try:
        connection = read_database(path, VERSION)
    except (sqlite3.Error, OSError):
        return []
    found = []
    with closing(empty_journal() if connection is None else connection) as opened:
        for row in readable_rows(opened, "events"):
            with suppress(MessageError, TypeError):
                message = decode(row[-1])
                found.append((message.id, message.source, message.label, message.start_ts, row[-1]))
    return found
