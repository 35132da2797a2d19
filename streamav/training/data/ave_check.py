"""Checks a folder of AVE's feature files: names, sizes, types, shapes, splits, and how far they are from AVE's known counts.

Each finding says what to do. It changes nothing and downloads nothing; `folder` opens the files for training.

Sources: counts and contents were computed from Annotations.txt and the HDF5 files of github.com/YapengTian/AVE-ECCV18 (folder data, commit
93f843f); sizes and checksums are those of these files. The feature files are on the authors' drive and were not seen: their shapes are
those that the authors' programs read (dataloader.py).
"""

from __future__ import annotations

import difflib
import hashlib
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

import h5py
import numpy as np

from streamav.bundle.classes import AVE_CLASSES
from streamav.errors import DataError
from streamav.files import file_sha256
from streamav.training.data.annotations import read_annotations
from streamav.training.data.file_names import FILE_NAMES, find_file
from streamav.training.data.folder import AveOptions, open_ave
from streamav.training.data.hdf5 import find_non_finite, open_rows, read_whole

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["AVE_COUNTS", "LABELS_BLOB", "PUBLISHED", "FileFinding", "Severity", "check_features", "counts_of"]

Severity = Literal["ok", "note", "warning", "error"]

AVE_COUNTS: Final = {
    "clips": 4143,
    "annotated clips": 4143,
    "videos": 4097,
    "classes": 28,
    "train": 3339,
    "val": 402,
    "test": 402,
    "background clips": 178,
}
"""AVE's counts: rows and video ids of Annotations.txt, rows of the order files, rows of the *_noisy files."""
_SHAPES: Final = {
    "visual": (4143, 10, 7, 7, 512),
    "audio": (4143, 10, 128),
    "visual_noisy": (178, 10, 7, 7, 512),
    "audio_noisy": (178, 10, 128),
    "labels": (4143, 10, 29),
    "tags": (4143, 29),
    "train": (3339,),
    "val": (402,),
    "test": (402,),
}
PUBLISHED: Final = {
    "Annotations.txt": (144_287, "0d24a9ec5cd4ceb779ebd83d74e83ec8e55c5e468cede3f320fb57346c9dd321"),
    "audio_feature_noisy.h5": (1_824_864, "d29b6efa4c985746a1d5205423c6f01bf02cf475af40c2620e4df9260d84c5f4"),
    "labels_closs.h5": (167_864, "97676082eb1fc9a7a29255032391871c74f00cd74a5eddc57d9aed14ec52acc9"),
    "labels_noisy.h5": (22_792, "1cc2b29e7104d4da26be06b6ff2260d9392cd1d93a096c77efd938843b4ebde1"),
    "mil_labels.h5": (482_732, "63c1886c78289bcf7e748fa0fe5c18d568dac75a1f015ac41860a78f598c2bd5"),
    "test_order.h5": (5_360, "f9bb79defc1f784ca5dda9cdd3ee52af6d24ccb399a1cfab6bf0d373f5681076"),
    "train_order.h5": (28_856, "a216fcdd02782ba9d10c9ea79116120eb3be467740e58290e1b340d42a590456"),
    "val_order.h5": (5_360, "5692aec0efb30e4efa49a867a902c1993b4c88a7d3ec19879349e540e7a5d9ca"),
}
"""Size in bytes and SHA-256 of the files in AVE's repository."""
LABELS_BLOB: Final = "f2f7c5d026999ecce5ce0dbe5cc9c6731c2ecd27"
"""Name of `labels.h5` in AVE's repository, which git computes from its content (SHA-1); the file itself was not seen."""
_PLAIN_HEAD: Final = 2144
"""Bytes before the values in each HDF5 file of AVE that was seen (audio_feature_noisy, mil_labels, labels_noisy, labels_closs, orders)."""
_FEATURES: Final = ("visual", "audio", "visual_noisy", "audio_noisy")
_NEEDED: Final = ("visual", "audio", "train", "val", "test")
_UNREAD: Final = {
    "prob_label.h5",
    "labels_noisy.h5",
    "labels_closs.h5",
    "train_order_match.h5",
    "val_order_match.h5",
    "test_order_match.h5",
}
"""Published files that this program does not need."""
_DRIVE: Final = "from the drive link in the README of github.com/YapengTian/AVE-ECCV18"
_REPOSITORY: Final = "from the folder data of github.com/YapengTian/AVE-ECCV18"
_SOURCE: Final = {name: _DRIVE if name in {"visual", "audio", "visual_noisy"} else _REPOSITORY for name in FILE_NAMES}
_ALIKE: Final = 0.8
"""Least similarity of a file's name to a right one (difflib), at which it is proposed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileFinding:
    """What was found about a file or about the folder."""

    file: str
    """Name in the folder; empty for the whole folder."""
    severity: Severity
    found: str
    remedy: str = ""
    """What to do; empty when all is well."""


def check_features(folder: Path, *, every_row: bool = False) -> Iterator[FileFinding]:
    """Yield a finding for each file of a folder, and at the end whether the folder can be used for training.

    Args:
        folder: the folder.
        every_row: also read every row of the features for NaN and infinity, which takes minutes on 8 GB.
    """
    for kind in ("annotations", *_SHAPES):
        path = find_file(folder, kind)
        if path is None:
            yield _missing(folder, kind)
            continue
        yield from _check_copy(path)
        yield _check_annotations(path) if kind == "annotations" else _check_dataset(path, kind, every_row=every_row)
    yield from _strangers(folder)
    yield _whole(folder)


def counts_of(folder: Path) -> dict[str, tuple[int | None, int]]:
    """Return, for each of AVE's counts, what the folder holds (None where its file is missing or damaged) and what AVE has."""
    found: dict[str, int | None] = dict.fromkeys(AVE_COUNTS)
    for name, kind in (("clips", "visual"), ("train", "train"), ("val", "val"), ("test", "test"), ("background clips", "audio_noisy")):
        path = find_file(folder, kind)
        shape = None if path is None else _shape(path)
        found[name] = shape[0] if shape else None
    annotations = find_file(folder, "annotations")
    if annotations is not None:
        try:
            rows = read_annotations(annotations)
        except DataError:
            rows = []
        if rows:
            found["annotated clips"] = len(rows)
            found["videos"] = len({row.video for row in rows})
            found["classes"] = len({row.class_id for row in rows})
    return {name: (found[name], wanted) for name, wanted in AVE_COUNTS.items()}


def _missing(folder: Path, kind: str) -> FileFinding:
    """Return a finding about a file that is not there; a file of a similar name may be meant."""
    names = FILE_NAMES[kind]
    known = {name for some in FILE_NAMES.values() for name in some} | _UNREAD
    others = [one.name for one in folder.iterdir() if one.is_file() and one.name not in known] if folder.is_dir() else []
    near = difflib.get_close_matches(names[0], others, n=1, cutoff=_ALIKE)
    remedy = f"rename {near[0]} to {names[0]} if it is this file" if near else f"fetch it {_SOURCE[kind]}"
    if kind in _NEEDED:
        return FileFinding(file=names[0], severity="error", found="missing", remedy=remedy)
    either = (folder / "Annotations.txt").is_file() or find_file(folder, "labels") is not None
    if kind in {"annotations", "labels"} and not either:
        return FileFinding(
            file=names[0], severity="error", found="missing: one of Annotations.txt and right_labels.h5 must be there", remedy=remedy
        )
    why = {
        "annotations": "not there; the classes must be AVE's then, and streams may use videos twice",
        "labels": "not there; the labels are computed from Annotations.txt",
        "tags": "not there; the labels of clips are computed from those of segments",
        "visual_noisy": "not there; weak training then lacks AVE's 178 background clips",
        "audio_noisy": "not there; weak training then lacks AVE's 178 background clips",
    }[kind]
    needed = bool(near) or kind.endswith("noisy")
    return FileFinding(file=names[0], severity="warning" if needed else "note", found=why, remedy=remedy if needed else "")


def _check_copy(path: Path) -> Iterator[FileFinding]:
    """Compare a file with the published one, where that is known."""
    if path.name == "labels.h5":
        data = path.read_bytes()
        name = hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()
        same = name == LABELS_BLOB
        found = (
            "the published file (git blob)"
            if same
            else "not the published file, whose git blob is f2f7c5d0; it is as good where its shape is"
        )
        yield FileFinding(file=path.name, severity="ok" if same else "note", found=f"{len(data)} bytes, {found}")
    known = PUBLISHED.get(path.name)
    if known is None:
        return
    size, wanted = path.stat().st_size, known[0]
    if size == wanted and file_sha256(path) == known[1]:
        yield FileFinding(file=path.name, severity="ok", found=f"{size} bytes, the published file (SHA-256)")
    else:
        differs = f"{size} bytes instead of {wanted}" if size != wanted else f"{size} bytes, but another SHA-256"
        remedy = f"right for a data set of your own; for AVE itself fetch it {_REPOSITORY}"
        yield FileFinding(file=path.name, severity="note", found=f"not the published file: {differs}", remedy=remedy)


def _check_annotations(path: Path) -> FileFinding:
    try:
        rows = read_annotations(path)
    except DataError as exc:
        return FileFinding(file=path.name, severity="error", found=_without_path(exc, path), remedy=f"fetch it again {_REPOSITORY}")
    classes, videos = len({row.class_id for row in rows}), len({row.video for row in rows})
    found = f"{len(rows)} rows, {videos} videos, {classes} classes"
    wanted = (AVE_COUNTS["clips"], AVE_COUNTS["videos"], AVE_COUNTS["classes"])
    if (len(rows), videos, classes) == wanted:
        return FileFinding(file=path.name, severity="ok", found=found)
    told = f"{found}; AVE has {wanted[0]}, {wanted[1]} and {wanted[2]}"
    return FileFinding(file=path.name, severity="note", found=told, remedy="right for a part of AVE; for all of it fetch the whole file")


def _check_dataset(path: Path, kind: str, *, every_row: bool) -> FileFinding:
    """Check type, shape and content of an HDF5 file."""
    try:
        if kind in _FEATURES:
            rows = open_rows(path)
            shape, dtype = tuple(rows.shape), str(rows.dtype)
            for row in {0, shape[0] // 2, shape[0] - 1} if shape[0] else ():
                rows[row]  # a file that was cut off ends before its last row
            bad = find_non_finite(rows) if every_row else None
            if bad is not None:
                return FileFinding(
                    file=path.name, severity="error", found=f"NaN or infinity in row {bad}", remedy=f"fetch it again {_SOURCE[kind]}"
                )
        else:
            values = np.asarray(read_whole(path))
            shape, dtype = values.shape, str(values.dtype)
    except DataError as exc:
        return FileFinding(file=path.name, severity="error", found=_without_path(exc, path), remedy=f"fetch it again {_SOURCE[kind]}")
    found = f"{dtype} {shape}, {path.stat().st_size} bytes"
    wanted = _SHAPES[kind]
    if shape == wanted:
        return FileFinding(file=path.name, severity="ok", found=found + _expected(path, kind, dtype))
    if len(shape) != len(wanted):
        return FileFinding(
            file=path.name, severity="error", found=f"{found}, must have {len(wanted)} axes as {wanted}", remedy=f"fetch it {_SOURCE[kind]}"
        )
    return FileFinding(file=path.name, severity="note", found=f"{found}; AVE's is {wanted}", remedy="right for a data set of your own")


def _expected(path: Path, kind: str, dtype: str) -> str:
    """Return what size AVE's file is expected to have, for one with AVE's shape and type and another size; else an empty text."""
    size = math.prod(_SHAPES[kind]) * 8 + _PLAIN_HEAD
    differs = kind in _FEATURES and dtype == "float64" and path.stat().st_size != size
    return f"; AVE's is expected to have {size} (docs/reproduce.md)" if differs else ""


def _strangers(folder: Path) -> Iterator[FileFinding]:
    """Yield the HDF5 files that nothing reads."""
    known = {name for some in FILE_NAMES.values() for name in some} | _UNREAD
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in {".h5", ".hdf5", ".part", ".crdownload"} and path.name not in known:
            what = "an unfinished download" if path.suffix.lower() in {".part", ".crdownload"} else "a name that is not read"
            yield FileFinding(
                file=path.name, severity="warning", found=what, remedy="finish it, rename it to one of the names above, or remove it"
            )


def _whole(folder: Path) -> FileFinding:
    """Open the folder as training does."""
    try:
        data = open_ave(folder, AveOptions(check=False))
    except DataError as exc:
        return FileFinding(
            file="", severity="error", found=f"training cannot use it: {exc}", remedy="do what is said above, then check again"
        )
    sizes = f"{len(data.train)} training, {len(data.val)} validation and {len(data.test)} test clips"
    exact = (len(data.train), len(data.val), len(data.test)) == (AVE_COUNTS["train"], AVE_COUNTS["val"], AVE_COUNTS["test"])
    exact = exact and len(data.classes) == len(AVE_CLASSES)
    told = f"training can use it: {sizes}, {len(data.classes)} classes; " + (
        "these are AVE's splits" if exact else "AVE has 3339, 402 and 402"
    )
    return FileFinding(file="", severity="ok" if exact else "note", found=told)


def _shape(path: Path) -> tuple[int, ...] | None:
    try:
        with h5py.File(path, "r") as file:
            shapes = [file[name].shape for name in ("avadataset", "dataset", "order") if isinstance(file.get(name), h5py.Dataset)]
    except OSError:
        return None
    return tuple(shapes[0]) if shapes else None


def _without_path(error: DataError, path: Path) -> str:
    return str(error).replace(f"{path}, ", "").replace(f"{path} ", "").replace(str(path), path.name)
