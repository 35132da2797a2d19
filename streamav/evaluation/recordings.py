"""Reads the true labels of recordings (labels.csv), and names the label of each segment.

It runs no model. The columns are file, class_slug (or label), onset_s and offset_s; group and notes are optional. So the table of clips
that a model was trained on can be read, too.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from streamav.errors import DataError
from streamav.tables import find_below, read_table, to_seconds

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

__all__ = ["NO_LABEL", "Span", "labels_of", "read_groups", "read_labels", "read_off_screen"]

NO_LABEL = "none"
"""In the column class_slug: nothing here has a label."""
_COLUMNS = {"file", "class_slug", "onset_s", "offset_s"}
_NOTHING = frozenset({"", NO_LABEL, "background"})
"""Labels of a row without times in a table for training."""
_OFF_SCREEN = re.compile(r"off[ -]?screen|voice-?over|narrator", re.IGNORECASE)
"""Words of a note about a sound whose source is not in the picture."""


@dataclass(frozen=True, slots=True)
class Span:
    """One label over [onset_s, offset_s) seconds."""

    label: str
    onset_s: float
    offset_s: float
    score: float = 1.0


def read_labels(file: Path) -> dict[str, list[Span]]:
    """Read labels.csv and return the spans of each file; a row without times adds the file without a span.

    Raises:
        DataError: when the file or a column is missing, when it has no row, or when a row names no file or has wrong times; the
            message names the row.
    """
    columns, rows = read_table(file)
    key = "class_slug" if "class_slug" in columns else "label"
    if not {*columns, "class_slug"} >= _COLUMNS or key not in columns:
        msg = f"{file} must have the columns file, class_slug (or label), onset_s, offset_s, got {', '.join(columns) or 'nothing'}"
        raise DataError(msg)
    truth: dict[str, list[Span]] = {}
    for line, row in rows:
        if not row["file"]:
            msg = f"{file}, line {line}: the column file must name a recording, got nothing"
            raise DataError(msg)
        found = find_below(file.parent, row["file"])
        if found is None and not _may_be_below(row["file"]):
            msg = f"{file}, line {line}: the file must be below {file.parent}, got {row['file'][:80]!r}; move the recording there"
            raise DataError(msg)
        spans = truth.setdefault(found or row["file"], [])
        if row["onset_s"] or row["offset_s"]:
            spans.append(_span(row, key, f"{file}, line {line}"))
        elif key == "label" and row[key] not in _NOTHING:
            msg = f"{file}, line {line}: {row[key][:80]!r} must have times, because its seconds are counted; write onset_s and offset_s"
            raise DataError(msg)
    if not truth:
        msg = f"{file} must have a row for each recording, got none; write a recording without events as a row without times"
        raise DataError(msg)
    return truth


def _may_be_below(name: str) -> bool:
    """Return whether a name can be that of a file below the table's folder."""
    return name.isprintable() and not name.startswith(("/", "\\")) and ".." not in name.replace("\\", "/").split("/")


def _span(row: dict[str, str], key: str, where: str) -> Span:
    try:
        onset_s, offset_s = to_seconds(row["onset_s"]), to_seconds(row["offset_s"])
    except ValueError as exc:
        msg = f"{where}: onset_s and offset_s must be numbers, got {row['onset_s']!r} and {row['offset_s']!r}"
        raise DataError(msg) from exc
    if not 0.0 <= onset_s < offset_s < math.inf:
        msg = f"{where}: 0 <= onset_s < offset_s must hold, got {onset_s} and {offset_s}"
        raise DataError(msg)
    return Span(row[key], onset_s, offset_s)


def labels_of(spans: Sequence[Span], seconds: int) -> list[str | None]:
    """Return the label of each segment: of the spans that cover at least half of it the one with the best score; None is background."""
    labels: list[str | None] = []
    for second in range(seconds):
        over = [span for span in spans if min(span.offset_s, second + 1) - max(span.onset_s, second) >= 0.5]  # noqa: PLR2004 - half
        labels.append(max(over, key=lambda span: span.score).label if over else None)
    return labels


def read_groups(file: Path) -> dict[str, str]:
    """Return the group of each file of labels.csv, such as its source; a file without a group is a group by itself.

    Raises:
        DataError: when the table cannot be read.
    """
    _, rows = read_table(file)
    return {(find_below(file.parent, row["file"]) or row["file"]): row.get("group") or row["file"] for _, row in rows}


def read_off_screen(file: Path) -> set[str]:
    """Return the files of labels.csv whose notes say that something is heard off screen.

    Raises:
        DataError: when the table cannot be read.
    """
    _, rows = read_table(file)
    return {find_below(file.parent, row["file"]) or row["file"] for _, row in rows if _OFF_SCREEN.search(row.get("notes", ""))}
