"""Reads what a later start must know from the tables of the store's file.

It leaves out a row that damage has changed, and writes nothing.
"""

from __future__ import annotations

import logging
import re
import sqlite3
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from streamav.database import read_database, readable_rows
from streamav.publish.message import MessageError, decode
from streamav.publish.outbox import Parcel

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from streamav.publish.message import EventMessage

__all__ = ["VERSION", "Saved", "read_saved", "salvaged"]

VERSION: Final = 1
"""Version of the tables, stored as `user_version` of the file."""
_TOPIC: Final = re.compile("[a-zA-Z0-9_/-]{1,1000}")
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Saved:
    """What the last run left."""

    parcels: list[Parcel] = field(default_factory=list)
    """Messages that the broker had not acknowledged, in order."""
    open_events: list[EventMessage] = field(default_factory=list)
    """Last message of each event whose `end` was never queued, oldest first."""
    retired: frozenset[str] = frozenset()
    """Ids of events that a start has ended with `restart`; no later event may use them."""
    retained: dict[str, str] = field(default_factory=dict)
    """Topics of retained values that are ours, with the notes of these values."""


def salvaged(path: Path) -> Saved:
    """Return what can be read of a damaged file, which is not changed."""
    try:
        connection = read_database(path, VERSION)
    except (sqlite3.Error, OSError):
        return Saved()
    if connection is None:
        return Saved()
    with closing(connection):
        return read_saved(connection, readable_rows)


def read_saved(connection: sqlite3.Connection, rows: Callable[[sqlite3.Connection, str], list[tuple[Any, ...]]] | None = None) -> Saved:
    """Return the content of the file; a message that breaks the contract is skipped with a warning."""
    rows = rows or _all_rows
    parcels = []
    for number, event_id, topic, payload, is_event in rows(connection, "parcels"):
        message = _decoded(payload) if is_event else None
        if (message is not None or not is_event) and _texts(event_id) and _is_topic(topic) and isinstance(payload, bytes):
            parcels.append(Parcel(event_id=event_id, topic=topic, payload=payload, message=message, number=number))
    opened = [message for _, payload in rows(connection, "open_events") if (message := _decoded(payload)) is not None]
    return Saved(
        parcels=parcels,
        open_events=sorted(opened, key=lambda message: message.id),
        retired=frozenset(event_id for (event_id,) in rows(connection, "retired") if _texts(event_id)),
        retained={topic: note for topic, note in rows(connection, "retained") if _is_topic(topic) and _texts(note)},
    )


def _all_rows(connection: sqlite3.Connection, table: str) -> list[tuple[Any, ...]]:
    return connection.execute(f"SELECT * FROM {table} ORDER BY rowid").fetchall()  # noqa: S608 - our own names


def _texts(*values: object) -> bool:
    """Return whether all values are texts: a damaged file may hold any type in any column."""
    return all(isinstance(value, str) for value in values)


def _is_topic(value: object) -> bool:
    """Return whether a value is a topic of ours; with any other the client library would end the connection, at every start."""
    return isinstance(value, str) and _TOPIC.fullmatch(value) is not None


def _decoded(payload: bytes) -> EventMessage | None:
    try:
        return decode(payload)
    except (MessageError, TypeError) as exc:
        _log.warning("a stored message is damaged, it is skipped reason=%s", exc)
        return None
