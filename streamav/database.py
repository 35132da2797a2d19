"""Opens the SQLite files of this project: private, with a write-ahead log, and with a version of their tables; sets damaged ones aside.

A file is opened to write it, or to read it; reading changes nothing, and needs no right to write. It knows no table.
"""

from __future__ import annotations

import os
import sqlite3
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, Literal

from streamav.files import PRIVATE_FILE

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["BUSY_S", "OtherVersionError", "is_damage", "is_sound", "open_database", "read_database", "readable_rows", "set_aside"]

BUSY_S: Final = 5.0
"""Longest wait for another process that writes, seconds (our choice)."""
_BUSY: Final = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
_STEPS: Final = 10_000
"""Steps of SQLite between two looks at the clock: about a millisecond."""
_OTHER_TABLES: Final = "no such "
"""How SQLite begins to say that a table or a column of ours is missing."""


class OtherVersionError(sqlite3.DatabaseError):
    """The tables of a file have a version that this streamav does not read."""

    def __init__(self, found: int, known: int) -> None:
        """Store both versions."""
        super().__init__(f"its tables have version {found}, this streamav reads {known}")


def is_damage(exc: Exception) -> bool:
    """Return whether an error means that the file itself is wrong: damaged, no database, or with other tables."""
    if isinstance(exc, OtherVersionError):
        return True
    code = getattr(exc, "sqlite_errorcode", None)
    if code is None:
        return False
    kind = code & 0xFF
    return kind in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB} or (kind == sqlite3.SQLITE_ERROR and _OTHER_TABLES in str(exc))


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
        sqlite3.Error: when the file is no database, is busy, or has another version (OtherVersionError).
    """
    os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, PRIVATE_FILE))
    path.chmod(PRIVATE_FILE)
    connection = sqlite3.connect(path, timeout=BUSY_S, isolation_level=isolation_level, check_same_thread=False)
    connection.text_factory = _text
    try:
        _use_wal(connection)
        connection.execute(f"PRAGMA synchronous = {synchronous}")
        (found,) = connection.execute("PRAGMA user_version").fetchone()
        if found == 0:
            _make_tables(connection, schema, version)
        elif found != version:
            raise OtherVersionError(found, version)
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def read_database(path: Path, version: int) -> sqlite3.Connection | None:
    """Open a file that another process may be writing, to read it; None when it has no tables yet.

    Nothing is created or changed, so the file and its folder may be read-only, and may belong to another user.

    Raises:
        OSError: when the file is missing or must not be read.
        sqlite3.Error: when it is no database, is busy, or has another version.
    """
    os.close(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
    log = path.with_name(f"{path.name}-wal")  # it is there while anybody has the file open
    if log.exists():
        try:
            return _reading(path, "mode=ro", version)
        except sqlite3.OperationalError:  # without the right to write in the folder SQLite cannot make the index of the log
            if log.stat().st_size:
                raise
    return _reading(path, "immutable=1", version)


def _reading(path: Path, how: str, version: int) -> sqlite3.Connection | None:
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?{how}", timeout=BUSY_S, check_same_thread=False, uri=True)
    connection.text_factory = _text
    try:
        (found,) = connection.execute("PRAGMA user_version").fetchone()
        connection.execute("SELECT COUNT(*) FROM sqlite_schema").fetchone()  # the first use of the file
        if found not in {0, version}:
            raise OtherVersionError(found, version)
    except sqlite3.Error:
        connection.close()
        raise
    if found == 0:
        connection.close()
        return None
    return connection


def is_sound(connection: sqlite3.Connection, seconds: float) -> bool:
    """Return whether the pages of a file fit together, as far as *seconds* are enough to look at them."""
    end_s = time.monotonic() + seconds
    connection.set_progress_handler(lambda: time.monotonic() > end_s, _STEPS)
    try:
        return bool(connection.execute("PRAGMA quick_check(1)").fetchone() == ("ok",))
    except sqlite3.OperationalError:  # the time is over
        return True
    finally:
        connection.set_progress_handler(None, 0)


def readable_rows(connection: sqlite3.Connection, table: str) -> list[tuple[Any, ...]]:
    """Return the rows of a damaged table from both of its ends, each up to the first that cannot be read."""
    found: dict[int, tuple[Any, ...]] = {}
    for order in ("ASC", "DESC"):
        with suppress(sqlite3.Error):
            for rowid, *row in connection.execute(f"SELECT rowid, * FROM {table} ORDER BY rowid {order}"):  # noqa: S608 - names of ours
                if rowid in found:
                    break
                found[rowid] = tuple(row)
    return [found[rowid] for rowid in sorted(found)]


def set_aside(path: Path) -> Path:
    """Rename a damaged file, so that a new one can be begun, and return its new path; its write-ahead log goes with it.

    Raises:
        OSError: when the file cannot be renamed.
    """
    name = f".damaged-{time.time_ns() // 1_000_000_000}"
    aside, number = path.with_suffix(name), 1
    while os.path.lexists(aside):  # of the same second
        aside, number = path.with_suffix(f"{name}-{number}"), number + 1
    log = path.with_name(f"{path.name}-wal")  # first: a log that stays behind would be taken for that of the new file
    with suppress(FileNotFoundError):
        if log.stat().st_size:
            log.replace(aside.with_name(f"{aside.name}-wal"))
        else:
            log.unlink()
    path.with_name(f"{path.name}-shm").unlink(missing_ok=True)  # SQLite makes it again
    path.replace(aside)
    return aside


def _text(content: bytes) -> str:
    """Return a text of a file, in which damage may have left bytes that are no UTF-8; by itself sqlite3 would fail at the whole row."""
    return content.decode("utf-8", "replace")


def _use_wal(connection: sqlite3.Connection) -> None:
    """Turn the write-ahead log on. SQLite does not wait for another process here, so we do."""
    give_up_s = time.monotonic() + BUSY_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as exc:
            if exc.sqlite_errorcode & 0xFF not in _BUSY or time.monotonic() > give_up_s:
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
