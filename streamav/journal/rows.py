"""Reads and writes the rows of the journal: messages of events, and the scores of a segment as 16-bit floats.

A row that damage has changed is left out. It opens no file.
"""

from __future__ import annotations

import json
import logging
import math
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from streamav.publish.message import MessageError, decode
from streamav.types import FinalScores

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["KEEP", "packed", "readable", "unpacked"]

KEEP: Final = "INSERT OR REPLACE INTO events VALUES (?, ?, ?, ?, ?)"
"""Stores the last message of an event: its id, source, label, start, and the message."""
_NOTHING: Final = float("nan")
"""Stands for the level of digital silence, and for a place that is not known."""
_OTHERS: Final = 4
"""Numbers of a segment behind those of its labels: background, relevance, agreement, level; its place follows."""
_NS_PER_MS: Final = 1_000_000

_log = logging.getLogger(__name__)


def readable(rows: Iterable[tuple[bytes]]) -> Iterator[dict[str, object]]:
    """Yield the messages of rows as JSON values; a damaged one is left out and named in the log."""
    for (payload,) in rows:
        try:
            decode(payload)
            yield dict(json.loads(payload))
        except (MessageError, TypeError) as exc:
            _log.warning("a damaged event of the journal is left out reason=%s", exc)


def packed(scores: FinalScores) -> tuple[int, int, bytes]:
    """Return start in UTC (ms since 1970), start in media time (ms), and the numbers of a segment."""
    level = _NOTHING if scores.level_dbfs is None else scores.level_dbfs
    others = (scores.background, scores.relevance, scores.agreement, level, *(scores.place or (_NOTHING, _NOTHING)))
    numbers = np.array([*scores.labels.values(), *others], dtype="<f2")
    start_ms = scores.start_ns // _NS_PER_MS
    return scores.epoch_ns // _NS_PER_MS + start_ms, start_ms, numbers.tobytes()


def unpacked(row: tuple[Any, ...], known: dict[str, tuple[str, ...]]) -> FinalScores | None:
    """Return the scores of a row, or None when it is damaged; *known* holds the names that were read before."""
    ts_ms, media_ms, written, numbers = row
    if not (isinstance(ts_ms, int) and isinstance(media_ms, int)):  # SQLite keeps any type in any column
        return None
    try:
        if written not in known:
            known[written] = tuple(map(str, json.loads(written)))
        names, found = known[written], np.frombuffer(numbers, dtype="<f2").tolist()
        ended = len(names)
        background, relevance, agreement, level = found[ended : ended + _OTHERS]
        x, y = found[ended + _OTHERS :] or (_NOTHING, _NOTHING)  # older journals hold no place
    except (ValueError, TypeError, RecursionError):
        return None
    if not all(map(math.isfinite, found[: ended + _OTHERS - 1])) or math.isinf(level):
        return None
    return FinalScores(
        start_ns=media_ms * _NS_PER_MS,
        epoch_ns=(ts_ms - media_ms) * _NS_PER_MS,
        labels=dict(zip(names, found[:ended], strict=True)),
        background=background,
        relevance=relevance,
        agreement=agreement,
        level_dbfs=None if math.isnan(level) else level,
        place=None if math.isnan(x) else (x, y),
    )
