"""Builds a folder of AVE-named HDF5 files from the features of clips: rows of ten segments, labels, splits and a manifest.

It encodes nothing and reads no media. The manifest keeps the file and the first second of each row.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import h5py
import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from streamav.errors import DataError, reason_of
from streamav.files import whole_file, write_whole
from streamav.training.clips.splits import SPLITS, split_groups
from streamav.training.clips.table import Clip, ClipTable, refuse, segment_labels
from streamav.types import WINDOW_SEGMENTS

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["BEYOND_S", "MANIFEST_FILE", "ClipOptions", "events_beyond", "load_features", "put_together", "row_starts"]

MANIFEST_FILE = "manifest.csv"
"""Lists which seconds of which file each row holds; written last, so a folder that has it is complete."""
BEYOND_S = 0.5
"""Time by which an event may end after the last segment, s: a last part under half a segment is dropped, and containers round durations."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipOptions:
    """How rows are cut and assigned to splits."""

    stride: int = WINDOW_SEGMENTS
    """Segments from one training row of a file to the next, 1 to T; rows of validation and test overlap only at the end of a file."""
    seed: int = 0
    """Seed for assigning recordings to splits, if the table has no splits."""
    rows: bool = True
    """Whether to build the HDF5 files, which train a localizer; at least one class then needs three recordings."""
    dtype: Literal["float16", "float32"] = "float16"
    """Stored type. float16 halves the files; it rounds off about a thousandth of a number, far less than the precision of encoders."""

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            DataError: when the stride is out of range.
        """
        if not 1 <= self.stride <= WINDOW_SEGMENTS:
            msg = f"the stride must be 1 to {WINDOW_SEGMENTS} seconds, got {self.stride}"
            raise DataError(msg)


@dataclass(frozen=True, eq=False, slots=True)
class _Row:
    """The segments of one row: T from `start` of one clip."""

    clip: Clip
    start: int
    features: Path
    labels: NDArray[np.int64]


def row_starts(seconds: int, stride: int) -> list[int]:
    """Return the first segment of each row of a file with *seconds* segments.

    A row begins every *stride* segments. If segments are left at the end, a last row holds the file's last T segments and overlaps the
    row before. A file shorter than T is one row.
    """
    if seconds <= WINDOW_SEGMENTS:
        return [0]
    starts = list(range(0, seconds - WINDOW_SEGMENTS + 1, stride))
    last = seconds - WINDOW_SEGMENTS
    return starts if starts[-1] == last else [*starts, last]


def events_beyond(clip: Clip, length_s: float, slack_s: float) -> list[str]:
    """Return one sentence for each event of *clip* that ends more than *slack_s* after the file's *length_s* seconds."""
    return [
        f"row {event.line}: the event must end within {clip.file}, which lasts {length_s:.1f} s, got offset_s {event.offset_s:g}"
        for event in clip.events
        if not event.somewhere and event.offset_s > length_s + slack_s
    ]


def put_together(table: ClipTable, out: Path, places: Mapping[int, Path], options: ClipOptions) -> dict[str, int]:
    """Write the HDF5 files, orders, classes and the manifest.

    Args:
        table: the table of clips.
        out: folder of the features.
        places: path of the features of each clip, by its number in the table.
        options: how rows are cut.

    Returns:
        The number of rows of each split.

    Raises:
        DataError: when an event ends after its file's end, a split has no row, or a class has no training segment.
    """
    classes = {label: index for index, label in enumerate(table.labels)}
    split_of = _splits(table, options.seed)
    rows: list[_Row] = []
    problems = []
    for number, place in places.items():
        clip = table.clips[number]
        seconds = len(load_features(place)["audio"])
        problems += events_beyond(clip, seconds, BEYOND_S)
        labels = segment_labels(clip, seconds, classes, len(classes))
        stride = options.stride if split_of[clip.group] == "train" else WINDOW_SEGMENTS
        rows += [_Row(clip, start, place, labels) for start in row_starts(seconds, stride)]
    refuse(table.path, problems)
    orders = {split: [row for row, one in enumerate(rows) if split_of[one.clip.group] == split] for split in SPLITS}
    _check_orders(table, rows, orders)
    (out / MANIFEST_FILE).unlink(missing_ok=True)
    _write_features(out, rows, options)
    labels = np.stack([one.labels[_window(len(one.labels), one.start)] for one in rows])
    _write_dataset(out / "right_labels.h5", "avadataset", np.eye(len(classes) + 1, dtype=np.uint8)[labels])
    for split, order in orders.items():
        _write_dataset(out / f"{split}_order.h5", "order", np.array(order, dtype=np.int64))
    names = "".join(f"{label.replace('_', ' ').capitalize()}\n" for label in table.labels)
    write_whole(out / "classes.txt", names, durable=True)
    _write_manifest(out, rows, split_of)
    return {split: len(order) for split, order in orders.items()}


def _splits(table: ClipTable, seed: int) -> dict[str, str]:
    """Return the split of each group: from the table, or else assigned by `split_groups`.

    Files that cannot be read take part, so that later no file changes its split.
    """
    if any(clip.split for clip in table.clips):
        return {clip.group: clip.split for clip in table.clips}
    groups: dict[str, set[str]] = {}
    for clip in table.clips:
        groups.setdefault(clip.group, set()).update(event.label for event in clip.events)
    return split_groups({name: frozenset(labels) for name, labels in groups.items()}, seed)


def _check_orders(table: ClipTable, rows: list[_Row], orders: Mapping[str, list[int]]) -> None:
    """Raise DataError unless every split has a row and every class a training segment."""
    problems = [
        f"split {split} has no file: at least one class must have three recordings (files, or groups if the table names them)"
        for split, order in orders.items()
        if not order
    ]
    learnt = {int(label) for row in orders["train"] for label in np.unique(rows[row].labels)}
    for index, label in enumerate(table.labels):
        if index not in learnt:
            line = min(event.line for clip in table.clips for event in clip.events if event.label == label)
            problems.append(f"row {line}: class {label} must fill at least half of one segment (1 s) of a training file, got none")
    refuse(table.path, problems)


def _window(seconds: int, start: int) -> NDArray[np.int64]:
    """Return the segments of a row, shape (T,); a file shorter than T is repeated from its beginning."""
    return (start + np.arange(WINDOW_SEGMENTS)) % seconds


def load_features(place: Path) -> dict[str, NDArray[np.floating]]:
    """Return the arrays of one clip, by the names of `encode.ARRAYS`.

    Raises:
        DataError: when the file is damaged.
    """
    try:
        found: dict[str, NDArray[np.floating]] = load_file(place)
    except (OSError, SafetensorError, ValueError) as exc:
        msg = f"{place} must be a whole safetensors file: {reason_of(exc)}; run the command again"
        raise DataError(msg) from exc
    return found


def _write_features(out: Path, rows: list[_Row], options: ClipOptions) -> None:
    """Write both feature files as plain datasets, with one clip in memory at a time."""
    sample = load_features(rows[0].features)
    with (
        whole_file(out / "audio_feature.h5", alone=True) as audio,
        whole_file(out / "visual_feature.h5", alone=True) as visual,
        h5py.File(audio, "w") as heard,
        h5py.File(visual, "w") as seen,
    ):
        files = {"audio": heard, "visual": seen}
        shapes = {name: sample[name].shape[1:] for name in files}
        sets = {n: f.create_dataset("avadataset", (len(rows), WINDOW_SEGMENTS, *shapes[n]), dtype=options.dtype) for n, f in files.items()}
        known, clip = rows[0].features, sample
        for number, row in enumerate(rows):
            if row.features != known:
                known, clip = row.features, load_features(row.features)
            window = _window(len(row.labels), row.start)
            for name, dataset in sets.items():
                dataset[number] = clip[name][window]


def _write_dataset(path: Path, name: str, values: NDArray[np.generic]) -> None:
    with whole_file(path, alone=True) as part, h5py.File(part, "w") as file:
        file[name] = values


def _write_manifest(out: Path, rows: list[_Row], split_of: Mapping[str, str]) -> None:
    """Write the file and the first second of each row; a row holds T segments from there, and starts again at 0 after the file's end."""
    with whole_file(out / MANIFEST_FILE, alone=True) as part, part.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(("row", "file", "first_s", "file_s", "split", "group"))
        for number, row in enumerate(rows):
            clip = row.clip
            writer.writerow((number, clip.file, row.start, len(row.labels), split_of[clip.group], clip.group))
