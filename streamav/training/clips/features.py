"""Turns a user's folder of clips with a table of labels into a folder of AVE-named features, which training and evaluation take.

Each file's seconds are kept in a file of their own under `seconds/`, written whole or not at all: a killed run loses the file in work
and no more, and a corrected or longer table costs no second extraction of what is there. The HDF5 files are put together of them.
"""

from __future__ import annotations

import csv
import hashlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import h5py
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file, save

from streamav.bundle import bundle_names
from streamav.errors import DataError
from streamav.files import whole_file, write_whole
from streamav.training.clips.encode import LONGEST_SECONDS, MediaTask, media_seconds
from streamav.training.clips.splits import SPLITS, split_groups
from streamav.training.clips.table import Clip, ClipTable, refuse, second_labels
from streamav.training.experiments.export import ENCODERS_FILE

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from streamav.bundle import Bundle
    from streamav.training.clips.encode import MediaFeatures, MediaWorker

__all__ = [
    "EXTRACTION_FILE",
    "MANIFEST_FILE",
    "SEGMENTS",
    "ClipExtraction",
    "ClipOptions",
    "extract_clips",
    "model_name",
    "model_of",
    "row_starts",
]

SEGMENTS = 10
"""T: seconds of a row."""
EXTRACTION_FILE = "extraction.json"
"""Says which model's encoders made the features; a folder holds features of one model."""
MANIFEST_FILE = "manifest.csv"
"""Says which seconds of which file each row is; written last, so that a folder with it is whole."""
_SECONDS = "seconds"
_SCHEMA = "streamav.clip-features/1"
_BEYOND_S = 0.5
"""A last second is kept when half of it is there, so a file of S seconds may last half a second longer, and containers round."""
_DURATION_SLACK_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipOptions:
    """How rows are cut and dealt out."""

    stride: int = SEGMENTS
    """Seconds from one training row of a file to the next, 1 to T; rows of validation and test never overlap but at a file's end."""
    seed: int = 0
    """Of the deal of recordings to splits, where the table does not say."""
    dtype: Literal["float16", "float32"] = "float16"
    """Stored type. float16 halves the files; what it cuts off is a thousandth of a number, far below what encoders are sure of."""

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            DataError: when the stride is out of range.
        """
        if not 1 <= self.stride <= SEGMENTS:
            msg = f"the stride must be 1 to {SEGMENTS} seconds, got {self.stride}"
            raise DataError(msg)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipExtraction:
    """What came of it."""

    files: int
    """Whose features are there, those of earlier calls included."""
    rows: dict[str, int]
    """Rows of each split; empty when files failed and were not to be skipped: the HDF5 files were not made then."""
    failed: dict[str, str] = field(default_factory=dict)
    """Why a file has no features, by file; the reason names the row of the table."""


@dataclass(frozen=True, eq=False, slots=True)
class _Row:
    """Which seconds of which clip."""

    clip: Clip
    start: int
    features: Path
    labels: NDArray[np.int64]


def extract_clips(
    table: ClipTable,
    out: Path,
    bundle: Bundle,
    worker: MediaWorker,
    options: ClipOptions | None = None,
    *,
    skip: bool = False,
    progress: Callable[[str], None] | None = None,
) -> ClipExtraction:
    """Extract the files of a table that are not yet in *out*, and put the folder of features together.

    Args:
        table: of the files.
        out: folder of the features; made, or gone on with.
        bundle: whose encoders *worker* runs.
        worker: encodes files; results come in any order and are written here, by one writer.
        options: how rows are cut; None for the defaults.
        skip: put the folder together although some files cannot be read.
        progress: told each file that is done: those of earlier calls first, then as they come.

    Raises:
        DataError: when an event lies beyond its file's end, or *out* holds features of another model.
    """
    options = ClipOptions() if options is None else options
    refuse(table.path, _early_ends(table))
    _prepare(out, bundle, options)
    places = {number: _place(out, table.media, clip) for number, clip in enumerate(table.clips)}
    missing = [number for number, place in places.items() if not _is_there(place)]
    tell = progress if progress is not None else _tell_nobody
    for number in sorted(places.keys() - set(missing)):
        tell(table.clips[number].file)
    failed: dict[str, str] = {}
    for result in worker([MediaTask(number, table.media / table.clips[number].file) for number in missing]) if missing else ():
        clip = table.clips[result.key]
        if result.features is None:
            failed[clip.file] = f"row {clip.line}: {result.reason}"
        else:
            write_whole(places[result.key], save(_stored(result.features, options, clip)), durable=True)
        tell(clip.file)
    there = {number: place for number, place in places.items() if table.clips[number].file not in failed}
    if failed and not skip:
        return ClipExtraction(files=len(there), rows={}, failed=failed)
    return ClipExtraction(files=len(there), rows=_put_together(table, out, there, options), failed=failed)


def _tell_nobody(file: str) -> None:
    """Take no note of progress."""


def model_of(folder: Path) -> tuple[str, str] | None:
    """Give name or folder, and SHA-256, of the model whose encoders made the clip features of *folder*; None for other features.

    Raises:
        DataError: when the file that says so is damaged.
    """
    path = folder / EXTRACTION_FILE
    if not path.is_file():
        return None
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
        schema, model, digest = str(tree["schema"]), str(tree["model"]), str(tree["sha256"])
    except (OSError, ValueError, KeyError, TypeError) as exc:
        msg = f"{path} must be as streamav extract wrote it: {exc}; extract the features again"
        raise DataError(msg) from exc
    if schema != _SCHEMA:
        msg = f"{path} must have the schema {_SCHEMA}, got {schema[:60]}; extract the features again"
        raise DataError(msg)
    return model, digest


def row_starts(seconds: int, stride: int) -> list[int]:
    """Give the first seconds of the rows of a file of *seconds* seconds.

    A row every *stride* seconds; what is left at the end is joined to a last row of the file's last T seconds, which overlaps the one
    before. A file shorter than T is one row.
    """
    if seconds <= SEGMENTS:
        return [0]
    starts = list(range(0, seconds - SEGMENTS + 1, stride))
    last = seconds - SEGMENTS
    return starts if starts[-1] == last else [*starts, last]


def _early_ends(table: ClipTable) -> list[str]:
    """Tell the events beyond the end that a file's header gives, before hours are spent; the truth is looked at after decoding."""
    problems = []
    for clip in table.clips:
        length = media_seconds(table.media / clip.file)
        if length is not None and length > LONGEST_SECONDS:
            problems.append(
                f"row {clip.line}: {clip.file} must last at most {LONGEST_SECONDS} s, got {length:.0f}; cut it into shorter files"
            )
        elif length is not None:
            problems += _beyond(clip, length, _DURATION_SLACK_S)
    return problems


def _beyond(clip: Clip, length_s: float, slack_s: float) -> list[str]:
    return [
        f"row {event.line}: {clip.file} lasts {length_s:.1f} s, and its event must end by then, got offset_s {event.offset_s:g}"
        for event in clip.events
        if event.offset_s > length_s + slack_s
    ]


def _prepare(out: Path, bundle: Bundle, options: ClipOptions) -> None:
    """Write what says which encoders the features are of, or check that a folder that is there is of the same."""
    out.mkdir(parents=True, exist_ok=True)
    (out / _SECONDS).mkdir(exist_ok=True)
    card = bundle.card
    encoders = {"audio": card.audio.model_dump(mode="json"), "visual": card.visual.model_dump(mode="json")}
    made = {"schema": _SCHEMA, "model": model_name(bundle), "sha256": bundle.sha256, "dtype": options.dtype}
    for name, tree in ((ENCODERS_FILE, encoders), (EXTRACTION_FILE, made)):
        path, text = out / name, json.dumps(tree, indent=1) + "\n"
        if path.is_file() and path.read_text(encoding="utf-8") != text:
            msg = (
                f"{path} must be that of this extraction, and is of another model or type of number; choose another folder for the features"
            )
            raise DataError(msg)
        write_whole(path, text)
    for left in (*out.glob(".*.tmp"), *(out / _SECONDS).glob(".*.tmp")):  # of a run that was killed
        left.unlink()


def model_name(bundle: Bundle) -> str:
    """Give what finds the bundle again: its name, or its absolute folder."""
    names = {path.resolve(): name for name, path in bundle_names().items()}
    return names.get(bundle.path.resolve(), str(bundle.path.resolve()))


def _place(out: Path, media: Path, clip: Clip) -> Path:
    """Name the file of a clip's seconds; a file that was replaced has another."""
    stat = (media / clip.file).stat()
    digest = hashlib.sha256(f"{clip.file}\n{stat.st_size}\n{stat.st_mtime_ns}".encode()).hexdigest()
    return out / _SECONDS / f"{digest[:32]}.safetensors"


def _stored(features: MediaFeatures, options: ClipOptions, clip: Clip) -> dict[str, NDArray[np.floating]]:
    with np.errstate(over="ignore"):
        arrays = {name: np.ascontiguousarray(getattr(features, name), dtype=options.dtype) for name in ("audio", "visual")}
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            msg = f"the {name} features of {clip.file} must be finite in {options.dtype}; extract with --float32 into another --out"
            raise DataError(msg)
    return arrays


def _is_there(place: Path) -> bool:
    """Tell whether a clip's seconds are there to the last byte; a damaged file is made anew."""
    try:
        with safe_open(place, framework="numpy") as file:  # compares the sizes in the header with the file's
            return {"audio", "visual"} == set(file.keys()) and file.get_slice("audio").get_shape()[0] > 0
    except (OSError, SafetensorError, ValueError):
        return False


def _put_together(table: ClipTable, out: Path, places: Mapping[int, Path], options: ClipOptions) -> dict[str, int]:
    """Write the HDF5 files, orders, classes and the manifest; give the rows of each split."""
    classes = {label: index for index, label in enumerate(table.labels)}
    split_of = _splits(table, options.seed)
    rows: list[_Row] = []
    problems = []
    for number, place in places.items():
        clip = table.clips[number]
        seconds = len(_load(place)["audio"])
        problems += _beyond(clip, seconds, _BEYOND_S)
        labels = second_labels(clip, seconds, classes, len(classes))
        stride = options.stride if split_of[clip.group] == "train" else SEGMENTS
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
    """Give the split of each group: as the table says, else dealt out. Files that cannot be read take part, so that none moves later."""
    if any(clip.split for clip in table.clips):
        return {clip.group: clip.split for clip in table.clips}
    groups: dict[str, set[str]] = {}
    for clip in table.clips:
        groups.setdefault(clip.group, set()).update(event.label for event in clip.events)
    return split_groups({name: frozenset(labels) for name, labels in groups.items()}, seed)


def _check_orders(table: ClipTable, rows: list[_Row], orders: Mapping[str, list[int]]) -> None:
    """Raise DataError unless every split has a row and every class a second to learn from."""
    problems = [
        f"no file is left for split {split}: there must be three recordings (files, or groups where they are named) of at least one class"
        for split, order in orders.items()
        if not order
    ]
    learnt = {int(label) for row in orders["train"] for label in np.unique(rows[row].labels)}
    for index, label in enumerate(table.labels):
        if index not in learnt:
            line = min(event.line for clip in table.clips for event in clip.events if event.label == label)
            problems.append(f"row {line}: class {label} must fill at least half of one second of a training file, and fills none")
    refuse(table.path, problems)


def _window(seconds: int, start: int) -> NDArray[np.int64]:
    """Give the seconds of a row, shape (T,); a file shorter than T is played again from its beginning."""
    return (start + np.arange(SEGMENTS)) % seconds


def _load(place: Path) -> dict[str, NDArray[np.floating]]:
    try:
        found: dict[str, NDArray[np.floating]] = load_file(place)
    except (OSError, SafetensorError, ValueError) as exc:
        msg = f"{place} must be a whole safetensors file: {exc}; run the command again"
        raise DataError(msg) from exc
    return found


def _write_features(out: Path, rows: list[_Row], options: ClipOptions) -> None:
    """Write both feature files, plain datasets, with one clip in memory at a time."""
    sample = _load(rows[0].features)
    with (
        whole_file(out / "audio_feature.h5", alone=True) as audio,
        whole_file(out / "visual_feature.h5", alone=True) as visual,
        h5py.File(audio, "w") as heard,
        h5py.File(visual, "w") as seen,
    ):
        files = {"audio": heard, "visual": seen}
        shapes = {name: sample[name].shape[1:] for name in files}
        sets = {n: f.create_dataset("avadataset", (len(rows), SEGMENTS, *shapes[n]), dtype=options.dtype) for n, f in files.items()}
        known, clip = rows[0].features, sample
        for number, row in enumerate(rows):
            if row.features != known:
                known, clip = row.features, _load(row.features)
            window = _window(len(row.labels), row.start)
            for name, dataset in sets.items():
                dataset[number] = clip[name][window]


def _write_dataset(path: Path, name: str, values: NDArray[np.generic]) -> None:
    with whole_file(path, alone=True) as part, h5py.File(part, "w") as file:
        file[name] = values


def _write_manifest(out: Path, rows: list[_Row], split_of: Mapping[str, str]) -> None:
    """Write which file and second each row begins at; T seconds from there, again from 0 after the file's last."""
    with whole_file(out / MANIFEST_FILE, alone=True) as part, part.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(("row", "file", "first_s", "file_s", "split", "group"))
        for number, row in enumerate(rows):
            clip = row.clip
            writer.writerow((number, clip.file, row.start, len(row.labels), split_of[clip.group], clip.group))
