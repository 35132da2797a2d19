"""Reads AVE's Annotations.txt, from which every published label file can be rebuilt.

A line is `category&video id&quality&start&end`: one event per line, times in whole seconds. Features and splits are not read here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from streamav.bundle.classes import AVE_CLASSES
from streamav.errors import DataError, reason_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["Annotation", "labels_of", "other_classes", "read_annotations", "tags_of"]

_FIELDS = 5
_MAX_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class Annotation:
    """One row: one event of one clip."""

    class_id: int
    """Index in `AVE_CLASSES`."""
    video: str
    start: int
    """Onset: index of the event's first segment, 0 to T."""
    end: int
    """Offset: index of the segment after the event's last; equal to `start` for an empty event (AVE has one)."""


def read_annotations(path: Path, segments: int = 10) -> list[Annotation]:
    """Read every row; empty lines at the end are ignored.

    Raises:
        DataError: when the file cannot be read, or a row has a wrong form, an unknown class or times outside the clip.
    """
    try:
        if path.stat().st_size > _MAX_BYTES:
            msg = f"{path} must be at most {_MAX_BYTES} bytes long"
            raise DataError(msg)
        lines = path.read_text(encoding="utf-8").rstrip().splitlines()
    except (OSError, UnicodeDecodeError) as exc:
        msg = f"the annotations {path} cannot be read: {reason_of(exc)}"
        raise DataError(msg) from exc
    known = {entry.name: index for index, entry in enumerate(AVE_CLASSES)}
    if lines and lines[0].lower().startswith("category&"):  # some copies have a header
        lines = lines[1:]
    return [_row(line, known, segments, f"{path}, row {row}") for row, line in enumerate(lines)]


def labels_of(annotations: Sequence[Annotation], segments: int = 10) -> NDArray[np.int64]:
    """Return the label of each segment, (n, T): the event's class from `start` to before `end`, background elsewhere."""
    labels = np.full((len(annotations), segments), len(AVE_CLASSES), dtype=np.int64)
    for row, annotation in enumerate(annotations):
        labels[row, annotation.start : annotation.end] = annotation.class_id
    return labels


def tags_of(annotations: Sequence[Annotation]) -> NDArray[np.float32]:
    """Return the class of each clip, (n, C + 1) one-hot, as in mil_labels.h5; column C is always 0."""
    tags = np.zeros((len(annotations), len(AVE_CLASSES) + 1), dtype=np.float32)
    tags[np.arange(len(annotations)), [annotation.class_id for annotation in annotations]] = 1.0
    return tags


def other_classes(annotations: Sequence[Annotation]) -> dict[int, set[int]]:
    """Return, by row, the other classes of the same video: those of other rows whose event overlaps the row's event in time."""
    by_video: dict[str, list[int]] = {}
    for row, annotation in enumerate(annotations):
        by_video.setdefault(annotation.video, []).append(row)
    others: dict[int, set[int]] = {}
    for rows in by_video.values():
        for row in rows:
            mine = annotations[row]
            shared = {
                annotations[other].class_id
                for other in rows
                if annotations[other].start < mine.end
                and mine.start < annotations[other].end
                and annotations[other].class_id != mine.class_id
            }
            if shared:
                others[row] = shared
    return others


def _row(line: str, known: dict[str, int], segments: int, where: str) -> Annotation:
    parts = line.strip().split("&")
    if len(parts) != _FIELDS:
        msg = f"{where} must be category&video&quality&start&end, got {line.strip()[:80]!r}"
        raise DataError(msg)
    name, video, _, start_text, end_text = parts
    if name not in known:
        msg = f"{where} must name one of AVE's {len(known)} classes, got {name[:60]!r}"
        raise DataError(msg)
    try:
        start, end = int(start_text), int(end_text)
    except ValueError:
        start, end = -1, -1
    if not 0 <= start <= end <= segments:
        msg = f"{where} must have whole seconds 0 <= start <= end <= {segments}, got {start_text[:20]} and {end_text[:20]}"
        raise DataError(msg)
    return Annotation(known[name], video, start, end)
