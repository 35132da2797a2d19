"""Opens the SQLite files of this project: private, with a write-ahead log, and with a version of their tables; sets damaged ones aside.

It knows no table.
"""

from __future__ import annotations

import os
import sqlite3
import time
from typing import TYPE_CHECKING, Final, Literal

from streamav.files import PRIVATE_FILE

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["BUSY_S", "open_database", "set_aside"]

BUSY_S: Final = 5.0
"""Longest wait for another process that writes, seconds (our choice)."""


def open_database(
    path: Path, schema: str, version: int, *, synchronous: Literal["FULL", "NORMAL"], isolation_level: Literal["DEFERRED"] | None
) -> sqlite3.Connection:
    """Open a file, or create it with its tables. Other processes may do the same at the same time.

    Args:
        path: the file; its folder must exist. Only its owner can read it.
        schema: statements that create the tables, each with a semicolon at its end.
        version: version of the tables, at least 1, stored as `user_version` of the file.
        synchronous: FULL keeps each transaction through a power cut; with NORMAL a power cut may cost the last seconds, never the file.
        isolation_level: as in sqlite3.connect.

    Raises:
        OSError: when the file cannot be made.
        sqlite3.Error: when the file is no database, is busy, or has another version.
    """
    os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, PRIVATE_FILE))
    path.chmod(PRIVATE_FILE)
    connection = sqlite3.connect(path, timeout=BUSY_S, isolation_level=isolation_level, check_same_thread=False)
    try:
        _use_wal(connection)
        connection.execute(f"PRAGMA synchronous = {synchronous}")
        (found,) = connection.execute("PRAGMA user_version").fetchone()
        if found == 0:
            _make_tables(connection, schema, version)
        elif found != version:
            msg = f"its tables have version {found}, this streamav reads {version}"
            raise sqlite3.DatabaseError(msg)
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def set_aside(path: Path) -> Path:
    """Rename a damaged file, so that a new one can be begun, and return its new path; the files of its write-ahead log are deleted.

    Raises:
        OSError: when the file cannot be renamed.
    """
    aside = path.with_suffix(f".damaged-{time.time_ns() // 1_000_000_000}")
    for ending in ("-wal", "-shm"):
        path.with_name(path.name + ending).unlink(missing_ok=True)
    path.replace(aside)
    return aside


def _use_wal(connection: sqlite3.Connection) -> None:
    """Turn the write-ahead log on. SQLite does not wait for another process here, so we do."""
    give_up_s = time.monotonic() + BUSY_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError:
            if time.monotonic() > give_up_s:
                raise
            time.sleep(0.02)
        else:
            return


def _make_tables(connection: sqlite3.Connection, schema: str, version: int) -> None:
    """Create the tables, unless another process has created them since."""
    connection.execute("BEGIN IMMEDIATE")
    (found,) = connection.execute("PRAGMA user_version").fetchone()
    if found == 0:
        for statement in schema.split(";"):
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {version}")
    connection.execute("COMMIT")
