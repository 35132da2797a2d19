"""Reads and writes the journal: a SQLite file with the last message of each event, and the final scores of each segment.

It is synchronous and has no thread. Several processes may use one file at the same time; SQLite orders their writes.
"""

from __future__ import annotations

import json
import logging
import sqlite3
import time
from typing import TYPE_CHECKING, Final

import numpy as np

from streamav.database import open_database, set_aside
from streamav.files import PRIVATE_FOLDER
from streamav.journal.query import EventQuery
from streamav.publish.state_folder import default_state_dir
from streamav.types import FinalScores

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path
    from types import TracebackType
    from typing import Self

    from streamav.publish.message import EventMessage

__all__ = ["History", "journal_path"]

VERSION: Final = 1
"""Version of the tables, stored as `user_version` of the file."""
_SCHEMA: Final = """
CREATE TABLE events (id TEXT PRIMARY KEY, source TEXT NOT NULL, label TEXT NOT NULL, start_ts REAL NOT NULL, payload BLOB NOT NULL);
CREATE INDEX events_by_time ON events (start_ts);
CREATE TABLE labels (number INTEGER PRIMARY KEY, names TEXT NOT NULL UNIQUE);
CREATE TABLE scores (source TEXT NOT NULL, ts_ms INTEGER NOT NULL, media_ms INTEGER NOT NULL, labels INTEGER NOT NULL,
                     numbers BLOB NOT NULL, PRIMARY KEY (source, ts_ms)) WITHOUT ROWID;
"""
_NOTHING: Final = float("nan")
"""Stands for the level of digital silence, and for a place that is not known."""
_NS_PER_MS: Final = 1_000_000
_MS: Final = 1000
_STEPS: Final = 10_000
"""Steps of SQLite between two looks at the clock: about a millisecond."""

_log = logging.getLogger(__name__)


def journal_path(state_dir: Path | None) -> Path:
    """Return the file of the journal in the folder of all state; None for the user's own folder."""
    return (state_dir if state_dir is not None else default_state_dir()) / "journal.sqlite3"


class History:
    """The open journal. Use it in a `with` block."""

    def __init__(self, path: Path, *, mend: bool = True) -> None:
        """Open or create the file; a damaged one is set aside with a warning, and a new one is begun.

        Args:
            path: the file.
            mend: False leaves a damaged file as it is and raises.

        Raises:
            OSError: when the folder cannot be made or the file cannot be opened.
            sqlite3.Error: when the file cannot be used.
        """
        self._path = path
        try:
            self._connection = _open(path)
        except sqlite3.DatabaseError as exc:
            if isinstance(exc, sqlite3.OperationalError) or not mend:
                raise
            _log.warning("the journal is damaged, it is set aside and a new one is begun path=%s reason=%s", set_aside(path), exc)
            self._connection = _open(path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, place: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def write(self, events: Iterable[EventMessage], scores: Iterable[tuple[str, FinalScores]]) -> None:
        """Store messages and scores (with their sources) as one transaction; a message replaces an earlier one of its event.

        A retracted event is removed: it was never there.
        """
        connection = self._connection
        with connection:
            for message in events:
                if message.end_reason == "retracted":
                    connection.execute("DELETE FROM events WHERE id = ?", (message.id,))
                else:
                    row = (message.id, message.source, message.label, message.start_ts, message.to_bytes())
                    connection.execute("INSERT OR REPLACE INTO events VALUES (?, ?, ?, ?, ?)", row)
            for source, one in scores:
                connection.execute("INSERT OR REPLACE INTO scores VALUES (?, ?, ?, ?, ?)", (source, *self._packed(one)))

    def events(
        self, since: float = 0.0, until: float | None = None, source: str | None = None, label: str | None = None
    ) -> list[dict[str, object]]:
        """Return the last message of each event that began in a span of UTC (seconds since 1970), oldest first."""
        return self.find(EventQuery(since=since, until=until, source=source, label=label))

    def find(self, query: EventQuery) -> list[dict[str, object]]:
        """Return the last message of each event that is asked for, by start and id."""
        beyond, order = ("<", "DESC") if query.newest_first else (">", "ASC")
        page = "" if query.after is None else f" AND (start_ts, id) {beyond} (?, ?)"
        rows = self._connection.execute(
            "SELECT payload FROM events WHERE start_ts >= ? AND start_ts < ? AND source = COALESCE(?, source)"  # noqa: S608 - our own words
            f" AND label = COALESCE(?, label){page} ORDER BY start_ts {order}, id {order} LIMIT ?",
            (
                query.since,
                query.until if query.until is not None else float("inf"),
                query.source,
                query.label,
                *(query.after or ()),
                -1 if query.limit is None else query.limit,
            ),
        )
        return [json.loads(payload) for (payload,) in rows]

    def event(self, event_id: str) -> dict[str, object] | None:
        """Return the last message of one event, or None."""
        row = self._connection.execute("SELECT payload FROM events WHERE id = ?", (event_id,)).fetchone()
        return None if row is None else dict(json.loads(row[0]))

    def limit_time(self, seconds: float) -> None:
        """End every later question that takes longer than *seconds* from now on with sqlite3.OperationalError."""
        end_s = time.monotonic() + seconds
        self._connection.set_progress_handler(lambda: time.monotonic() > end_s, _STEPS)

    def scores(self, source: str, since: float, until: float) -> list[FinalScores]:
        """Return the final scores of the segments that began in a span of UTC (seconds since 1970), oldest first."""
        rows = self._connection.execute(
            "SELECT ts_ms, media_ms, names, numbers FROM scores JOIN labels ON labels.number = scores.labels"
            " WHERE source = ? AND ts_ms >= ? AND ts_ms < ? ORDER BY ts_ms",
            (source, round(since * _MS), round(until * _MS)),
        )
        return [_unpacked(*row) for row in rows]

    def sources(self) -> list[str]:
        """Return the ids of all sources that have scores or events."""
        rows = self._connection.execute("SELECT source FROM events UNION SELECT source FROM scores ORDER BY 1")
        return [source for (source,) in rows]

    def thin(self, oldest: float, max_bytes: int) -> None:
        """Remove what began before *oldest* (UTC, seconds since 1970), then scores, then events, oldest first, until the size is kept."""
        connection = self._connection
        with connection:
            connection.execute("DELETE FROM events WHERE start_ts < ?", (oldest,))
            connection.execute("DELETE FROM scores WHERE ts_ms < ?", (round(oldest * _MS),))
        for table, key in (("scores", "ts_ms"), ("events", "start_ts")):
            while self.used_bytes > max_bytes:
                with connection:
                    found = connection.execute(
                        f"DELETE FROM {table} WHERE {key} <= (SELECT {key} FROM {table} ORDER BY {key}"  # noqa: S608 - our own names
                        f" LIMIT 1 OFFSET (SELECT COUNT(*) / 10 FROM {table}))"
                    )
                if not found.rowcount:
                    break

    @property
    def used_bytes(self) -> int:
        """Bytes of the file that hold something."""
        pages, free, size = (
            self._connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size")
        )
        return int((pages - free) * size)

    def _packed(self, scores: FinalScores) -> tuple[int, int, int, bytes]:
        names = json.dumps(list(scores.labels))
        self._connection.execute("INSERT OR IGNORE INTO labels (names) VALUES (?)", (names,))
        (number,) = self._connection.execute("SELECT number FROM labels WHERE names = ?", (names,)).fetchone()
        level = _NOTHING if scores.level_dbfs is None else scores.level_dbfs
        others = (scores.background, scores.relevance, scores.agreement, level, *(scores.place or (_NOTHING, _NOTHING)))
        numbers = np.array([*scores.labels.values(), *others], dtype="<f2")
        start_ms = scores.start_ns // _NS_PER_MS
        return scores.epoch_ns // _NS_PER_MS + start_ms, start_ms, number, numbers.tobytes()


def _unpacked(ts_ms: int, media_ms: int, names: str, numbers: bytes) -> FinalScores:
    labels: Sequence[str] = json.loads(names)
    found = np.frombuffer(numbers, dtype="<f2").tolist()
    probabilities, others = found[: len(labels)], found[len(labels) :]
    background, relevance, agreement, level = others[:4]
    x, y = others[4:] or (_NOTHING, _NOTHING)  # older journals hold no place
    return FinalScores(
        start_ns=media_ms * _NS_PER_MS,
        epoch_ns=(ts_ms - media_ms) * _NS_PER_MS,
        labels=dict(zip(labels, probabilities, strict=True)),
        background=background,
        relevance=relevance,
        agreement=agreement,
        level_dbfs=None if np.isnan(level) else level,
        place=None if np.isnan(x) else (x, y),
    )


def _open(path: Path) -> sqlite3.Connection:
    path.parent.mkdir(mode=PRIVATE_FOLDER, parents=True, exist_ok=True)
    return open_database(path, _SCHEMA, VERSION, synchronous="NORMAL", isolation_level="DEFERRED")
