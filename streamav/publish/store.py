"""Stores on disk, in one SQLite file, what a later start must know: waiting messages, open events, used ids, retained topics.

It decides nothing about messages and uses no connection. One thread writes: changes are collected while a write runs, and then written
as one transaction. A process that is killed loses only changes that `settle` had not confirmed.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final

from streamav.database import is_damage, open_database, set_aside
from streamav.publish.saved import VERSION, Saved, read_saved, salvaged

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from streamav.publish.message import EventMessage
    from streamav.publish.outbox import Parcel

__all__ = ["Saved", "Store"]

MOST_RETIRED = 10_000
"""Most ids of events ended by `restart` that are remembered; the oldest are forgotten first (our choice)."""
RETRY_S = 10.0
"""Shortest time between two attempts to write after a failure, such as a full disk, seconds (our choice)."""
_SCHEMA: Final = """
CREATE TABLE parcels (number INTEGER PRIMARY KEY, event_id TEXT NOT NULL, topic TEXT NOT NULL, payload BLOB NOT NULL,
                      event INTEGER NOT NULL);
CREATE TABLE open_events (event_id TEXT PRIMARY KEY, payload BLOB NOT NULL);
CREATE TABLE retired (event_id TEXT PRIMARY KEY);
CREATE TABLE retained (topic TEXT PRIMARY KEY, note TEXT NOT NULL);
"""

_DAMAGED: Final = "the stored messages are damaged, the file is set aside and a new one is begun path=%s reason=%s kept=%d"
_NOT_STORED: Final = (
    "waiting messages cannot be stored, they are kept in memory only path=%s reason=%s; make room there, or set state_dir to a folder that "
    "this user can write"
)
_Change = tuple[str, tuple[object, ...]]
_log = logging.getLogger(__name__)


class Store:
    """The state of one connection on disk; without a path it keeps nothing and every call succeeds."""

    def __init__(self, path: Path | None, snapshot: Callable[[], Saved]) -> None:
        """Store the path of the file.

        Args:
            path: file; None to keep nothing.
            snapshot: returns everything that must be on disk now; used after a failed write.
        """
        self._path = path
        self._snapshot = snapshot
        self._added = self._stored = 0  # numbers of the newest parcel that was added, and that is on disk
        self._connection: sqlite3.Connection | None = None
        self._thread: ThreadPoolExecutor | None = None
        self._changes: list[_Change] = []
        self._writing: asyncio.Task[None] | None = None
        self._failed_s: float | None = None
        self._told = False
        self._begun_s = float("-inf")

    @property
    def keeps(self) -> bool:
        """True while changes reach the disk."""
        return self._connection is not None and self._failed_s is None

    def load(self) -> Saved:
        """Open the file and return its content. Of a damaged one what can be read stays; it is set aside with a warning. Blocks."""
        if self._path is None:
            return Saved()
        try:
            try:
                return self._open(self._path)
            except sqlite3.Error as exc:
                if not is_damage(exc):
                    raise
                saved = salvaged(self._path)
                _log.warning(_DAMAGED, set_aside(self._path), exc, len(saved.parcels))
                self._open(self._path, saved)
                return saved
        except (sqlite3.Error, OSError) as exc:
            return self._without(exc)

    # Changes, called in the thread of the event loop

    def add(self, parcel: Parcel) -> None:
        """Store a waiting message."""
        self._added = max(self._added, parcel.number)
        self._note(*_addition(parcel))

    def remove(self, parcels: Iterable[Parcel]) -> None:
        """Forget messages that were acknowledged, merged or dropped."""
        for parcel in parcels:
            self._note("DELETE FROM parcels WHERE number = ?", (parcel.number,))

    def note_event(self, message: EventMessage) -> None:
        """Store the last message of an open event; forget the event when the message ends it."""
        if message.active:
            self._note(*_opening(message))
        else:
            self.forget_event(message.id)

    def forget_event(self, event_id: str) -> None:
        """Forget an open event."""
        self._note("DELETE FROM open_events WHERE event_id = ?", (event_id,))

    def retire(self, event_id: str) -> None:
        """Remember an id that no later event may use."""
        self._note("INSERT OR IGNORE INTO retired VALUES (?)", (event_id,))
        self._note("DELETE FROM retired WHERE rowid <= (SELECT MAX(rowid) FROM retired) - ?", (MOST_RETIRED,))

    def retain(self, topic: str, note: str = "") -> None:
        """Remember that a retained value of ours is at *topic*."""
        self._note(_RETAIN, (topic, note))

    def release(self, topic: str) -> None:
        """Forget a topic whose retained value was cleared."""
        self._note("DELETE FROM retained WHERE topic = ?", (topic,))

    async def stored(self, parcel: Parcel) -> None:
        """Wait until a message is on disk, or cannot be written."""
        if parcel.number > self._stored:
            await self.settle()

    async def settle(self) -> None:
        """Wait until all changes so far are on disk, or cannot be written."""
        while self._writing is not None or self._changes:
            self._kick()
            if self._writing is None:
                return
            await asyncio.shield(self._writing)

    async def close(self) -> None:
        """Write what is left and close the file."""
        await self.settle()
        connection, self._connection = self._connection, None
        if connection is not None and self._thread is not None:
            await asyncio.get_running_loop().run_in_executor(self._thread, connection.close)
        if self._thread is not None:
            self._thread.shutdown(wait=False)
            self._thread = None

    # The one writer

    def _note(self, sql: str, values: tuple[object, ...]) -> None:
        if self._connection is None:
            return
        self._changes.append((sql, values))
        self._kick()

    def _kick(self) -> None:
        """Start a write, unless one runs, nothing changed, or the last one failed just now."""
        if self._writing is not None or not self._changes or self._connection is None:
            return
        if self._failed_s is not None:
            self._changes.clear()  # the whole content is written again, so single changes are not needed
            if time.monotonic() - self._failed_s < RETRY_S:
                return
            self._changes = _everything(self._snapshot())
        self._writing = asyncio.get_running_loop().create_task(self._write(), name="mqtt-store")

    async def _write(self) -> None:
        changes, self._changes, newest = self._changes, [], self._added
        try:
            if self._connection is not None:
                await asyncio.get_running_loop().run_in_executor(self._thread, _commit, self._connection, changes)
            if self._failed_s is not None:
                _log.warning("waiting messages are stored again path=%s", self._path)
            self._failed_s, self._told, self._stored = None, False, newest
        except sqlite3.Error as exc:
            before_s, self._failed_s = self._failed_s, time.monotonic()
            if is_damage(exc) and before_s is None and await self._replaced(exc):
                self._failed_s, self._changes = None, _everything(self._snapshot())
                return
            if not self._told:
                _log.warning(_NOT_STORED, self._path, exc)
            self._told = True
        finally:
            self._writing = None
            self._kick()

    async def _replaced(self, damage: Exception) -> bool:
        """Set the file aside, which turned out to be damaged, and begin a new one; return False when that is not possible.

        Nothing is lost: everything that must be on disk is in memory, too.
        """
        connection, path = self._connection, self._path
        if connection is None or path is None or time.monotonic() - self._begun_s < RETRY_S:
            return False
        self._begun_s = time.monotonic()

        def begin() -> sqlite3.Connection:
            connection.close()
            _log.warning(_DAMAGED, set_aside(path), damage, len(self._snapshot().parcels))
            return _fresh(path)

        try:
            self._connection = await asyncio.get_running_loop().run_in_executor(self._thread, begin)
        except (sqlite3.Error, OSError):
            return False
        return True

    def _open(self, path: Path, content: Saved | None = None) -> Saved:
        """Open the file and return what it holds; put *content* into a new one first."""
        connection = _fresh(path)
        try:
            if content is not None:
                _commit(connection, _everything(content))
            saved = read_saved(connection)
        except sqlite3.Error:
            connection.close()
            raise
        self._connection, self._thread = connection, ThreadPoolExecutor(1, "mqtt-store")
        self._stored = self._added = max((parcel.number for parcel in saved.parcels), default=0)
        return saved

    def _without(self, exc: Exception) -> Saved:
        _log.warning(_NOT_STORED, self._path, exc)
        return Saved()


_TABLES: Final = ("parcels", "open_events", "retired", "retained")
_ADD: Final = "INSERT OR REPLACE INTO parcels VALUES (?, ?, ?, ?, ?)"
_RETAIN: Final = "INSERT OR REPLACE INTO retained VALUES (?, ?)"
_OPEN: Final = "INSERT INTO open_events VALUES (?, ?) ON CONFLICT (event_id) DO UPDATE SET payload = excluded.payload"


def _fresh(path: Path) -> sqlite3.Connection:
    """Open the file, or create it."""
    return open_database(path, _SCHEMA, VERSION, synchronous="FULL", isolation_level=None)


def _addition(parcel: Parcel) -> _Change:
    return _ADD, (parcel.number, parcel.event_id, parcel.topic, parcel.payload, parcel.message is not None)


def _opening(message: EventMessage) -> _Change:
    return _OPEN, (message.id, message.to_bytes())


def _everything(saved: Saved) -> list[_Change]:
    """Return the changes that replace the whole content of the file."""
    changes: list[_Change] = [(f"DELETE FROM {table}", ()) for table in _TABLES]  # noqa: S608 - our own names
    changes += [_addition(parcel) for parcel in saved.parcels]
    changes += [_opening(message) for message in saved.open_events]
    changes += [("INSERT INTO retired VALUES (?)", (event_id,)) for event_id in sorted(saved.retired)]
    return changes + [(_RETAIN, row) for row in sorted(saved.retained.items())]


def _commit(connection: sqlite3.Connection, changes: list[_Change]) -> None:
    """Write all changes as one transaction."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        for sql, values in changes:
            connection.execute(sql, values)
        connection.execute("COMMIT")
    except sqlite3.Error:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
