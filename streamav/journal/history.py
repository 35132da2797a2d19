"""Reads and writes the journal: a SQLite file with the last message of each event, and the final scores of each segment.

It is synchronous and has no thread. Several processes may use one file at the same time; SQLite orders their writes.
"""

from __future__ import annotations

import json
import logging
import sqlite3
import time
from typing import TYPE_CHECKING, Final

from streamav.database import is_damage, is_sound, read_database
from streamav.journal.file import VERSION, empty_journal, identity, open_journal, renewed
from streamav.journal.query import EventQuery
from streamav.journal.rows import KEEP, packed, readable, unpacked
from streamav.publish.state_folder import default_state_dir

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path
    from types import TracebackType
    from typing import Self

    from streamav.publish.message import EventMessage
    from streamav.types import FinalScores

__all__ = ["History", "journal_path"]

CHECK_S: Final = 2.0
"""How long a run looks for damage when it opens the journal, seconds (our choice: some 500 MB on a fast disk)."""
_EVENTS, _SCORES = "events", "scores"
_SHARE: Final = 0.1
"""Share of the time in a table that is removed at once to keep the size."""
_A_MOMENT_S: Final = 0.001
"""Added to the time up to which rows are removed, s, so that at least one row goes."""
_MS: Final = 1000
_STEPS: Final = 10_000
"""Steps of SQLite between two looks at the clock: about a millisecond."""

_EVERY_SOURCE: Final = """
WITH RECURSIVE found (source) AS (
    SELECT MIN(source) FROM scores
    UNION ALL SELECT (SELECT MIN(source) FROM scores WHERE source > found.source) FROM found WHERE found.source IS NOT NULL)
SELECT source FROM found WHERE source IS NOT NULL"""
"""The sources that have scores; it looks at one row of each, because a plain DISTINCT reads the whole table."""

_log = logging.getLogger(__name__)


def journal_path(state_dir: Path | None) -> Path:
    """Return the file of the journal in the folder of all state; None for the user's own folder."""
    return (state_dir if state_dir is not None else default_state_dir()) / "journal.sqlite3"


class History:
    """The open journal. Use it in a `with` block."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        """Take an open file; use `writing` or `reading`."""
        self._path = path
        self._connection = connection
        self._file = identity(path)
        self.began = True
        """False for an empty one that stands for a journal that no run has begun."""

    @classmethod
    def writing(cls, path: Path) -> Self:
        """Open or create the journal; a damaged one is set aside with a warning, and a new one is begun with the events that can be read.

        Raises:
            OSError: when the folder cannot be made or the file cannot be opened.
            sqlite3.Error: when the file cannot be used.
        """
        before = identity(path)
        try:
            journal = cls(path, open_journal(path))
        except sqlite3.Error as exc:
            if not is_damage(exc):
                raise
            return cls(path, renewed(path, exc) if identity(path) == before else open_journal(path))
        if not is_sound(journal._connection, CHECK_S):
            journal.replace_damaged(sqlite3.DatabaseError("its pages do not fit together"))
        return journal

    @classmethod
    def reading(cls, path: Path) -> Self:
        """Open the journal to ask it; nothing is created or changed. A journal that no run has begun yet is empty.

        Raises:
            OSError: when the file must not be read.
            sqlite3.Error: when it is damaged, is busy, or has another version.
        """
        try:
            found = read_database(path, VERSION)
        except FileNotFoundError:
            found = None
        journal = cls(path, empty_journal() if found is None else found)
        journal.began = found is not None
        return journal

    def replace_damaged(self, damage: Exception) -> None:
        """Set the file aside, which turned out to be damaged, and begin a new one with its events; another process may have done so.

        Raises:
            OSError: when the file cannot be renamed, or a new one cannot be made.
            sqlite3.Error: when the new file cannot be used.
        """
        self.close()
        mine = identity(self._path) == self._file
        self._connection = renewed(self._path, damage) if mine else open_journal(self._path)
        self._file = identity(self._path)

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
                    connection.execute(KEEP, (message.id, message.source, message.label, message.start_ts, message.to_bytes()))
            for source, one in scores:
                ts_ms, media_ms, numbers = packed(one)
                row = (source, ts_ms, media_ms, self._labels_number(one), numbers)
                connection.execute("INSERT OR REPLACE INTO scores VALUES (?, ?, ?, ?, ?)", row)

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
        return list(readable(rows))

    def event(self, event_id: str) -> dict[str, object] | None:
        """Return the last message of one event, or None."""
        row = self._connection.execute("SELECT payload FROM events WHERE id = ?", (event_id,)).fetchone()
        return None if row is None else next(readable([row]), None)

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
        names: dict[str, tuple[str, ...]] = {}
        found = [unpacked(row, names) for row in rows]
        whole = [one for one in found if one is not None]
        if len(whole) < len(found):
            _log.warning("damaged scores of the journal are left out source=%s segments=%d", source, len(found) - len(whole))
        return whole

    def sources(self) -> list[str]:
        """Return the ids of all sources that have scores or events."""
        rows = self._connection.execute(f"SELECT source FROM events UNION SELECT * FROM ({_EVERY_SOURCE}) ORDER BY 1")  # noqa: S608 - our own words
        return [source for (source,) in rows]

    def labels(self) -> list[str]:
        """Return the labels of all events."""
        return [label for (label,) in self._connection.execute("SELECT DISTINCT label FROM events ORDER BY 1")]

    def thin(self, oldest: float | None, max_bytes: int) -> None:
        """Remove what began before *oldest* (UTC, seconds since 1970; None: nothing), then scores, then events, until the size is kept.

        The oldest go first, a tenth of the time that is left at once.
        """
        if oldest is not None:
            self._remove(_EVENTS, oldest)
            self._remove(_SCORES, oldest)
        for table in (_SCORES, _EVENTS):
            while self.used_bytes > max_bytes and (span := self._span(table)) is not None:
                first, last = span
                self._remove(table, first + (last - first) * _SHARE + _A_MOMENT_S)

    def _remove(self, table: str, before: float) -> None:
        """Remove the rows of a table that began before a time. Scores are found by source and time: there is no index of time alone."""
        with self._connection as connection:
            if table == _EVENTS:
                connection.execute("DELETE FROM events WHERE start_ts < ?", (before,))
            else:
                rows = [(source, round(before * _MS)) for (source,) in connection.execute(_EVERY_SOURCE).fetchall()]
                connection.executemany("DELETE FROM scores WHERE source = ? AND ts_ms < ?", rows)

    def _span(self, table: str) -> tuple[float, float] | None:
        """Return the first and the last start in a table, UTC, seconds since 1970; None for an empty table."""
        if table == _EVENTS:
            first, last = self._connection.execute(
                "SELECT (SELECT MIN(start_ts) FROM events), (SELECT MAX(start_ts) FROM events)"
            ).fetchone()
            return None if first is None else (first, last)
        edges = "(SELECT MIN(ts_ms) FROM scores WHERE source = one.source), (SELECT MAX(ts_ms) FROM scores WHERE source = one.source)"
        spans = self._connection.execute(f"SELECT {edges} FROM ({_EVERY_SOURCE}) AS one").fetchall()  # noqa: S608 - our own words
        return (min(first for first, _ in spans) / _MS, max(last for _, last in spans) / _MS) if spans else None

    @property
    def used_bytes(self) -> int:
        """Bytes of the file that hold something."""
        pages, free, size = (
            self._connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size")
        )
        return int((pages - free) * size)

    def _labels_number(self, scores: FinalScores) -> int:
        """Return the number that stands for the labels of a segment."""
        names = json.dumps(list(scores.labels))
        self._connection.execute("INSERT OR IGNORE INTO labels (names) VALUES (?)", (names,))
        return int(self._connection.execute("SELECT number FROM labels WHERE names = ?", (names,)).fetchone()[0])
