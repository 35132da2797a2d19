"""Reads a user's table of clips: file, class, onset and offset of every event that is heard and seen.

It opens no media. All mistakes are reported at once, each with the file and the row of the table. Columns: file, label (or
class_slug), onset_s, offset_s, and optionally split and group. A row with the label none or background means that no class occurs.
A row with a class and without times means that it occurs somewhere in the file.
"""

from __future__ import annotations

import difflib
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from streamav.errors import DataError
from streamav.slugs import SLUG_SIZE, slug
from streamav.tables import find_below, read_table, to_seconds
from streamav.training.clips.splits import SPLITS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["LABELS_FILE", "Clip", "ClipEvent", "ClipTable", "read_clip_table", "refuse", "segment_labels"]

LABELS_FILE = "labels.csv"
NOTHING = frozenset({"none", "background"})
"""Labels of rows that mean "no class occurs"."""
SHARED_S = 0.5
"""Longest overlap of events of two classes, s; a segment has one label, so a longer overlap is refused."""
HALF_S = 0.5
"""An event must cover at least this much of a segment to give it its label, s; the same as in `streamav recordings`."""
_NEEDED = ("file", "label", "onset_s", "offset_s")
_OPTIONAL = ("split", "group")
_READ_OVER = ("notes", "labelled_by", "ave_class")
"""Columns that are ignored; tables of `streamav recordings` have them."""
_MAX_TOLD = 20
_FORMULA = "=+-@"


@dataclass(frozen=True, slots=True)
class ClipEvent:
    """One label over [onset_s, offset_s) seconds of a file."""

    label: str
    onset_s: float
    offset_s: float
    line: int
    """Line in the table; the header is line 1."""
    somewhere: bool = False
    """Whether the table gives no times: the class occurs in the file, and nobody said when. The span is then the whole file."""


@dataclass(slots=True)
class Clip:
    """One file of the table."""

    file: str
    """Path below the folder of the media, with slashes."""
    line: int
    """First line that names the file."""
    events: list[ClipEvent] = field(default_factory=list)
    nothing: list[ClipEvent] = field(default_factory=list)
    """Stretches of time that the table marks as without any class."""
    split: str = ""
    """train, val or test; empty if the table names none."""
    group: str = ""
    """Recording that the file was cut from; the file itself if the table names none."""


@dataclass(frozen=True, slots=True)
class ClipTable:
    """A checked table, without contradictions."""

    path: Path
    media: Path
    """Folder of the media files."""
    clips: tuple[Clip, ...]
    """The clips, in the order in which their files are first named."""
    labels: tuple[str, ...]
    """The classes, sorted; background is not one."""


def read_clip_table(path: Path, media: Path, *, together: bool = False) -> ClipTable:
    """Read and check a table.

    Args:
        path: the CSV file with a header, in a form that `read_table` accepts.
        media: folder of the media files.
        together: whether two classes may hold at one time.

    Raises:
        DataError: when rows are wrong; it names the first twenty.
    """
    columns, rows = read_table(path, lambda given: _header(path, given))
    names = _header(path, columns)
    clips: dict[str, Clip] = {}
    problems: list[str] = []
    for line, row in rows:
        try:
            _take(clips, {name: row[column] for column, name in names.items()}, line, media)
        except DataError as exc:
            problems.append(f"row {line}: {exc}")
    for clip in clips.values():
        problems += _contradictions(clip, together=together)
    problems += _splits(list(clips.values()))
    labels = tuple(sorted({event.label for clip in clips.values() for event in clip.events}))
    if not problems and not labels:
        problems.append("at least one row must have a class, got only background")
    refuse(path, problems)
    return ClipTable(path, media, tuple(clips.values()), labels)


def refuse(path: Path, problems: Sequence[str]) -> None:
    """Raise DataError that lists *problems* of the table *path*, if there are any."""
    if problems:
        more = [f"and {len(problems) - _MAX_TOLD} more"] if len(problems) > _MAX_TOLD else []
        msg = f"{path} must be corrected:\n" + "\n".join([*problems[:_MAX_TOLD], *more])
        raise DataError(msg)


def segment_labels(clip: Clip, seconds: int, classes: Mapping[str, int], background: int) -> NDArray[np.int64]:
    """Return the label of each segment, shape (seconds,).

    A segment belongs to the class whose events together cover most of it, at least half. If two classes cover the same time, the class
    with the earlier first onset has the segment. A segment that no class covers by half is background.
    """
    labels = np.full(seconds, background, dtype=np.int64)
    most = np.zeros(seconds)
    starts = np.arange(seconds)
    # In the order of first onsets: of equal classes, the one that began first keeps the segment.
    for label, spans in sorted(_joined(clip.events).items(), key=lambda pair: (pair[1][0], pair[0])):
        covered = sum(np.clip(np.minimum(offset, starts + 1) - np.maximum(onset, starts), 0.0, None) for onset, offset in spans)
        covered = np.round(covered, 6)  # times are decimal numbers: 0.3 + 0.2 may be a little less than 0.5
        wins = (covered >= HALF_S) & (covered > most)
        labels[wins], most[wins] = classes[label], covered[wins]
    return labels


def _joined(events: Iterable[ClipEvent]) -> dict[str, list[tuple[float, float]]]:
    """Return the stretches of each label in order of time; stretches that touch or overlap are joined."""
    spans: dict[str, list[tuple[float, float]]] = {}
    for event in sorted(events, key=lambda event: event.onset_s):
        mine = spans.setdefault(event.label, [])
        if mine and event.onset_s <= mine[-1][1]:
            mine[-1] = (mine[-1][0], max(mine[-1][1], event.offset_s))
        else:
            mine.append((event.onset_s, event.offset_s))
    return spans


def _header(path: Path, given: list[str]) -> dict[str, str]:
    """Return the project's name of each column; raise DataError if a column is unknown, missing or repeated."""
    names = {column: "label" if column == "class_slug" else column for column in given}
    known = (*_NEEDED, *_OPTIONAL, *_READ_OVER)
    for column, name in names.items():
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.0)[0]
            msg = f"{path}, row 1: unknown column {column[:60]!r}; the nearest is {near}; known columns are {', '.join(known)}"
            raise DataError(msg)
    missing = [name for name in _NEEDED if name not in names.values()]
    if missing or len(set(names.values())) != len(given):
        msg = f"{path}, row 1: the header must have the columns {', '.join(_NEEDED)} once each, got {', '.join(given)[:200] or 'nothing'}"
        raise DataError(msg)
    return names


def _take(clips: dict[str, Clip], row: Mapping[str, str], line: int, media: Path) -> None:
    """Add a row to its clip.

    Raises:
        DataError: when a field is wrong.
    """
    file = _checked_file(row["file"], media)
    clip = clips.setdefault(file, Clip(file, line))
    for name in _OPTIONAL:
        said, before = row.get(name, ""), getattr(clip, name)
        if said and before and said != before:
            msg = f"{file} must have one {name}, got {said[:60]!r} after {before[:60]!r}"
            raise DataError(msg)
        setattr(clip, name, said or before)
    if clip.split and clip.split not in SPLITS:
        split, clip.split = clip.split, ""
        msg = f"split of {file} must be train, val, test or empty, got {split[:60]!r}"
        raise DataError(msg)
    label = _checked_label(row["label"], file)
    if label in NOTHING:
        whole = not row["onset_s"] and not row["offset_s"]
        onset_s, offset_s = (0.0, math.inf) if whole else _times(row, file)
        clip.nothing.append(ClipEvent(label, onset_s, offset_s, line))
    elif not row["onset_s"] and not row["offset_s"]:
        clip.events.append(ClipEvent(label, 0.0, math.inf, line, somewhere=True))
    else:
        clip.events.append(ClipEvent(label, *_times(row, file), line))


def _checked_file(name: str, media: Path) -> str:
    """Return the path of the file below the media folder, with slashes and as it is spelled on the disk.

    Raises:
        DataError: when the name is not safe or the file is missing.
    """
    plain = name.replace("\\", "/").removeprefix("./")
    parts = plain.split("/")
    hostile = not plain.isprintable() or ":" in plain or plain[:1] in {"/", "~", *_FORMULA} or {"", ".", ".."} & set(parts)
    if not name or hostile:
        msg = f"file must be a path below the media folder, without .. and :, and without {_FORMULA}~/ at its start, got {name[:80]!r}"
        raise DataError(msg)
    found = find_below(media, plain)
    if found is None:
        msg = f"file {name[:200]} must be in {media}, got no such file"
        raise DataError(msg)
    return found


def _checked_label(label: str, file: str) -> str:
    demand = f"label of {file} must be small letters, digits and single _ between them, with a length of at most {SLUG_SIZE}"
    try:
        plain = slug(label)
    except DataError as exc:
        msg = f"{demand}: {exc}"
        raise DataError(msg) from exc
    if plain != label:
        msg = f"{demand}, got {label[:80]!r}; write {plain}"
        raise DataError(msg)
    return label


def _times(row: Mapping[str, str], file: str) -> tuple[float, float]:
    try:
        onset_s, offset_s = to_seconds(row["onset_s"]), to_seconds(row["offset_s"])
    except ValueError:
        msg = f"onset_s and offset_s of {file} must be numbers of seconds, got {row['onset_s'][:40]!r} and {row['offset_s'][:40]!r}"
        raise DataError(msg) from None
    if not 0.0 <= onset_s < offset_s < math.inf:
        msg = f"{file}: 0 <= onset_s < offset_s must hold, got {onset_s:g} and {offset_s:g}"
        raise DataError(msg)
    return onset_s, offset_s


def _contradictions(clip: Clip, *, together: bool) -> list[str]:
    """Return a sentence for each stretch of time that has two labels, and for each label with and without times."""
    timed = {event.label: event.line for event in clip.events if not event.somewhere}
    problems = [
        f"row {event.line}: {clip.file} has {event.label} without times, and with times in row {timed[event.label]}; leave out one of them"
        for event in clip.events
        if event.somewhere and event.label in timed
    ]
    silent = any(math.isinf(event.offset_s) for event in clip.nothing)
    known = [event for event in clip.events if not event.somewhere or silent]
    spans = sorted([*known, *clip.nothing], key=lambda event: (event.onset_s, event.line))
    for place, one in enumerate(spans):
        for other in spans[place + 1 :]:
            if other.onset_s >= one.offset_s:
                break
            if _meaning(one) == _meaning(other) or (together and _meaning(one) and _meaning(other)):
                continue
            shared = min(one.offset_s, other.offset_s) - other.onset_s
            if shared > SHARED_S:
                first, second = sorted((one, other), key=lambda event: event.line)
                problems.append(
                    f"row {second.line}: {clip.file} has two labels at one time, {second.label} here and {first.label} in row "
                    f"{first.line}, for {shared:g} s from {other.onset_s:g} s; only one label is allowed: end one where the other begins"
                )
    return problems


def _meaning(event: ClipEvent) -> str:
    return "" if event.label in NOTHING else event.label


def _splits(clips: Iterable[Clip]) -> list[str]:
    """Set missing groups; return a sentence for each missing split and each group in two splits."""
    problems = []
    clips = list(clips)
    groups: dict[str, Clip] = {}
    given = any(clip.split for clip in clips)
    for clip in clips:
        clip.group = clip.group or clip.file
        if given and not clip.split:
            problems.append(f"row {clip.line}: {clip.file} must have a split, because other files have one: name a split for all or none")
        first = groups.setdefault(clip.group, clip)
        if clip.split != first.split:
            problems.append(
                f"row {clip.line}: group {clip.group[:80]} must lie in one split, got {clip.split or 'none'} for {clip.file} "
                f"and {first.split or 'none'} for {first.file} (row {first.line})"
            )
    if given:
        trained = {event.label for clip in clips if clip.split == "train" for event in clip.events}
        untrained = {event.label: event.line for clip in reversed(clips) for event in clip.events if event.label not in trained}
        problems += [f"row {line}: class {label} must have a file of split train" for label, line in sorted(untrained.items())]
        problems += [f"at least one file must be of split {split}" for split in SPLITS if all(clip.split != split for clip in clips)]
    return problems
