"""Opens a folder of AVE-shaped HDF5 features: finds the files under their published names, checks them, and returns the splits.

Features are read for the check only and are not copied (except with `AveOptions.float16`). Row = line of Annotations.txt; a folder
may hold any number of clips.

Source of names and contents: YapengTian/AVE-ECCV18, jasongief/PSP_CVPR_2021 and Bravo5542/VSCG (dataloader.py).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from streamav.bundle.card import ClassEntry
from streamav.bundle.classes import AVE_CLASSES
from streamav.errors import DataError, reason_of
from streamav.files import class_slugs
from streamav.training.data.annotations import Annotation, labels_of, other_classes, read_annotations, tags_of
from streamav.training.data.feature_set import FeatureSet, StackedRows
from streamav.training.data.hdf5 import find_non_finite, in_memory, open_rows, read_whole
from streamav.training.data.presence import Presence, read_presence

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from streamav.training.data.feature_set import FeatureRows
    from streamav.training.data.hdf5 import FileRows, Hdf5Rows

__all__ = ["FILE_NAMES", "AveData", "AveOptions", "is_ave_folder", "open_ave"]

FILE_NAMES: dict[str, tuple[str, ...]] = {
    "visual": ("visual_feature.h5", "visual_features.h5"),
    "audio": ("audio_feature.h5", "audio_features.h5"),
    "labels": ("right_labels.h5", "right_label.h5", "labels.h5"),
    "tags": ("mil_labels.h5", "mil_label.h5"),
    "visual_noisy": ("visual_feature_noisy.h5", "visual_features_noisy.h5"),
    "audio_noisy": ("audio_feature_noisy.h5", "audio_features_noisy.h5"),
    "train": ("train_order.h5",),
    "val": ("val_order.h5",),
    "test": ("test_order.h5",),
    "annotations": ("Annotations.txt", "annotations.txt"),
    "classes": ("classes.txt",),
}
"""Names of each file; the first that exists is used. prob_label.h5 and labels_noisy.h5 hold nothing that is not in these files."""
_AUDIO_AXES, _VISUAL_AXES = 3, 5
_MAX_CLASSES_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class AveOptions:
    """How a folder is read; the three switches that clean the data are off, as in the published protocol."""

    float16: bool = False
    """Keep a float16 copy of all features in memory (2.1 GB for AVE) instead of reading rows from disk."""
    check: bool = True
    """Check every row for NaN and infinity before training."""
    drop_empty: bool = False
    """Remove the clips without an event from the training split (AVE has one)."""
    drop_duplicates: bool = False
    """Remove the videos that are also in the test split from the training split (AVE has eight)."""
    multi_label: bool = False
    """Tag a video that is annotated under several classes with all of them (AVE has 45 such videos)."""


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class AveData:
    """The splits of a folder; all splits share their arrays."""

    train: FeatureSet
    val: FeatureSet
    test: FeatureSet
    background: FeatureSet | None
    """Background-only clips (the *_noisy files), for weak training and streams; None when the folder has none."""
    classes: tuple[ClassEntry, ...]
    repeated: NDArray[np.int64]
    """Test rows whose video is also in the training split, under another class (AVE has eight); test streams do not use them."""
    presence: Presence | None = None
    """The class heard and the class seen in each segment, if the folder holds heard.h5 and seen.h5; otherwise None."""

    @property
    def fingerprint(self) -> str:
        """Hash of labels, tags, splits and shapes; processes compare it to make sure that they have the same data."""
        whole = hashlib.sha256(repr((self.train.audio.shape, self.train.visual.shape)).encode())
        for array in (self.train.labels, self.train.tags, self.train.rows, self.val.rows, self.test.rows):
            whole.update(np.ascontiguousarray(array).tobytes())
        return whole.hexdigest()

    def lacking(self, part: Literal["train", "val", "test"]) -> tuple[str, ...]:
        """Return the slugs of the classes that no segment of a split has."""
        split: FeatureSet = getattr(self, part)
        there = set(np.unique(split.labels[split.rows]).tolist())
        return tuple(entry.slug for number, entry in enumerate(self.classes) if number not in there)

    @property
    def weak_train(self) -> FeatureSet:
        """The weakly supervised training set: the training clips and the background-only clips."""
        if self.background is None:
            return self.train
        return self.train.select(np.concatenate([self.train.rows, self.background.rows]), "train and background clips")


def is_ave_folder(folder: Path) -> bool:
    """Return whether *folder* holds visual features under a published name."""
    return _find(folder, "visual") is not None


def open_ave(folder: Path, options: AveOptions | None = None) -> AveData:
    """Open and check a folder.

    Raises:
        DataError: when a file is missing, damaged, of a wrong shape, or contradicts another file; the message names file and row.
    """
    options = AveOptions() if options is None else options
    visual_path, audio_path = _need(folder, "visual"), _need(folder, "audio")
    visual, audio = open_rows(visual_path), open_rows(audio_path)
    _check_shapes(visual, visual_path, audio, audio_path)
    clips, segments = visual.shape[:2]
    annotations = _annotations(folder, clips, segments)
    labels, source = _labels(folder, clips, segments, annotations)
    classes = _classes(folder, int(labels.max(initial=0)), source, annotations)
    tags = _tags(folder, labels, len(classes), annotations)
    if options.multi_label and annotations is not None:
        for row, others in other_classes(annotations).items():
            tags[row, list(others)] = 1.0
    splits = {name: _order(_need(folder, name), clips) for name in ("train", "val", "test")}
    _check_apart(splits)
    splits["train"] = _cleaned(splits, labels, len(classes), annotations, options)
    quiet = _noisy(folder, visual, audio)
    parts = [(visual, visual_path, audio, audio_path)] + ([] if quiet is None else [quiet])
    whole = _stacked(parts, labels, tags, len(classes), options)
    background = whole.select(np.arange(clips, len(whole.labels)), f"{folder}, background clips") if quiet else None
    named = {name: whole.select(rows, f"{folder}, {name} split") for name, rows in splits.items()}
    repeated = np.empty(0, dtype=np.int64)
    if annotations is not None:
        seen = {annotations[row].video for row in splits["train"]}
        repeated = np.array([row for row in splits["test"] if annotations[row].video in seen], dtype=np.int64)
    presence = read_presence(folder, whole.labels, len(classes))
    return AveData(**named, background=background, classes=classes, repeated=repeated, presence=presence)


def _find(folder: Path, kind: str) -> Path | None:
    return next((folder / name for name in FILE_NAMES[kind] if (folder / name).is_file()), None)


def _need(folder: Path, kind: str) -> Path:
    path = _find(folder, kind)
    if not folder.is_dir():
        msg = f"the data must be a folder of features, got {folder}, which is no folder; check the path"
        raise DataError(msg)
    if path is None:
        msg = f"{folder} must hold {' or '.join(FILE_NAMES[kind])}, but does not; docs/training.md lists the files of such a folder"
        raise DataError(msg)
    return path


def _check_shapes(visual: FileRows | Hdf5Rows, visual_path: Path, audio: FileRows | Hdf5Rows, audio_path: Path) -> None:
    v, a = visual.shape, audio.shape
    if len(v) != _VISUAL_AXES or v[2] != v[3] or min(v) < 1:
        msg = f"{visual_path} must be (clips, segments, grid, grid, size), got {v}"
        raise DataError(msg)
    if len(a) != _AUDIO_AXES or min(a) < 1:
        msg = f"{audio_path} must be (clips, segments, size), got {a}"
        raise DataError(msg)
    if v[:2] != a[:2]:
        msg = f"{audio_path} must have {v[0]} clips of {v[1]} segments, as {visual_path} has, got {a[0]} of {a[1]}"
        raise DataError(msg)


def _annotations(folder: Path, clips: int, segments: int) -> list[Annotation] | None:
    path = _find(folder, "annotations")
    if path is None:
        return None
    rows = read_annotations(path, segments)
    if len(rows) != clips:
        msg = f"{path} must have one row for each of the {clips} clips, got {len(rows)}"
        raise DataError(msg)
    return rows


def _labels(folder: Path, clips: int, segments: int, annotations: list[Annotation] | None) -> tuple[NDArray[np.int64], Path | None]:
    """Read the one-hot label file, or rebuild the labels from the annotations; if both exist, they must agree."""
    path = _find(folder, "labels")
    rebuilt = None if annotations is None else labels_of(annotations, segments)
    if path is None:
        if rebuilt is None:
            msg = f"{folder} must hold {' or '.join(FILE_NAMES['labels'])}, or Annotations.txt to rebuild the labels, but holds neither"
            raise DataError(msg)
        return rebuilt, None
    labels = _from_one_hot(path, clips, segments)
    if rebuilt is not None:
        _raise_at(path, (labels != rebuilt).any(axis=1), "must agree with Annotations.txt", labels)
    return labels, path


def _from_one_hot(path: Path, clips: int, segments: int) -> NDArray[np.int64]:
    hot = np.asarray(read_whole(path))
    if hot.ndim != 3 or hot.shape[:2] != (clips, segments) or hot.shape[2] < 2:  # noqa: PLR2004 - clips, segments, classes and background
        msg = f"{path} must be ({clips}, {segments}, classes + 1), got {hot.shape}"
        raise DataError(msg)
    wrong = ~(((hot == 0) | (hot == 1)).all(axis=2) & (hot.sum(axis=2) == 1)).all(axis=1)
    _raise_at(path, wrong, "must have exactly one 1 in every segment", hot.sum(axis=2))
    labels: NDArray[np.int64] = hot.argmax(axis=2).astype(np.int64)
    return labels


def _raise_at(path: Path, wrong: NDArray[np.bool_], demand: str, shown: NDArray[np.generic]) -> None:
    """Raise DataError if *wrong* holds for any row; the message names the first such row."""
    rows = np.flatnonzero(wrong)
    if rows.size:
        msg = f"{path}, row {rows[0]}: it {demand}, got {shown[rows[0]].tolist()}"
        raise DataError(msg)


def _classes(folder: Path, highest: int, source: Path | None, annotations: list[Annotation] | None) -> tuple[ClassEntry, ...]:
    """Return the classes: AVE's 28, or those of classes.txt (one name per line) for another data set of the same form."""
    path = _find(folder, "classes")
    size = len(AVE_CLASSES) if source is None else int(read_whole(source).shape[2]) - 1
    if path is None or annotations is not None:
        if size == len(AVE_CLASSES):
            return AVE_CLASSES
        msg = f"{source} has {size} classes, not AVE's {len(AVE_CLASSES)}: write their names, one per line, into {folder / 'classes.txt'}"
        raise DataError(msg)
    names = _class_names(path)
    labels = class_slugs(path, names)
    if len(names) != size or highest > size:
        msg = f"{path} must name {size} classes, got {len(names)}"
        raise DataError(msg)
    return tuple(ClassEntry(slug=label, name=name) for label, (_, name) in zip(labels, names, strict=True))


def _class_names(path: Path) -> list[tuple[int, str]]:
    """Return the non-empty lines of classes.txt, each with its line number from 1."""
    try:
        if path.stat().st_size > _MAX_CLASSES_BYTES:
            msg = f"{path} must be at most {_MAX_CLASSES_BYTES} bytes, got {path.stat().st_size}"
            raise DataError(msg)
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as exc:
        msg = f"{path} must be a readable UTF-8 text file with one class per line: {reason_of(exc)}"
        raise DataError(msg) from exc
    return [(number, line.strip()) for number, line in enumerate(lines, start=1) if line.strip()]


def _tags(folder: Path, labels: NDArray[np.int64], classes: int, annotations: list[Annotation] | None) -> NDArray[np.float32]:
    """Read the clip tags, or make them from annotations or labels; tags must include every class of a clip's segments."""
    path = _find(folder, "tags")
    present = np.zeros((len(labels), classes + 1), dtype=np.float32)
    present[np.arange(len(labels))[:, None], labels] = 1.0
    events = present[:, :classes].any(axis=1)
    present[:, classes] = ~events
    if path is None:
        return present if annotations is None else tags_of(annotations)
    tags = np.asarray(read_whole(path), dtype=np.float32)
    if tags.shape != present.shape:
        msg = f"{path} must be {present.shape}, got {tags.shape}"
        raise DataError(msg)
    plain = np.logical_or(tags == 0, tags == 1).all(axis=1) & (tags.sum(axis=1) >= 1)
    _raise_at(path, np.logical_not(plain), "must be 0 or 1 with at least one 1", tags)
    # One clip of AVE has an empty event. It keeps its tag, because no segment contradicts it.
    lacking = np.asarray(tags[:, :classes] < present[:, :classes]).any(axis=1)
    _raise_at(path, np.asarray(events & lacking), "must hold every class of the clip's segments", tags)
    return tags


def _order(path: Path, clips: int) -> NDArray[np.int64]:
    values = np.asarray(read_whole(path))
    if values.ndim != 1 or not np.issubdtype(values.dtype, np.integer) or values.size == 0:
        msg = f"{path} must be a list of whole row numbers, got {values.dtype} {values.shape}"
        raise DataError(msg)
    order = values.astype(np.int64)
    outside = np.flatnonzero((order < 0) | (order >= clips))
    if outside.size:
        msg = f"{path}, entry {outside[0]}: row numbers must lie in 0 to {clips - 1}, got {order[outside[0]]}"
        raise DataError(msg)
    rows, counts = np.unique(order, return_counts=True)
    if (counts > 1).any():
        msg = f"{path} must name each row once, got row {rows[counts > 1][0]} {counts[counts > 1][0]} times"
        raise DataError(msg)
    return order


def _check_apart(splits: dict[str, NDArray[np.int64]]) -> None:
    for first, second in (("train", "val"), ("train", "test"), ("val", "test")):
        both = np.intersect1d(splits[first], splits[second])
        if both.size:
            msg = f"{first}_order.h5 and {second}_order.h5 must not share rows, got row {both[0]} in both"
            raise DataError(msg)


def _cleaned(
    splits: dict[str, NDArray[np.int64]],
    labels: NDArray[np.int64],
    classes: int,
    annotations: list[Annotation] | None,
    options: AveOptions,
) -> NDArray[np.int64]:
    """Return the training rows without those that `drop_empty` and `drop_duplicates` remove."""
    rows = splits["train"]
    if options.drop_empty:
        rows = rows[(labels[rows] < classes).any(axis=1)]
    if options.drop_duplicates and annotations is not None:
        tested = {annotations[row].video for row in splits["test"]}
        rows = np.array([row for row in rows if annotations[row].video not in tested], dtype=np.int64)
    return rows


def _noisy(
    folder: Path, visual: FileRows | Hdf5Rows, audio: FileRows | Hdf5Rows
) -> tuple[FileRows | Hdf5Rows, Path, FileRows | Hdf5Rows, Path] | None:
    """Open the background-only clips; return None unless both of their files exist."""
    visual_path, audio_path = _find(folder, "visual_noisy"), _find(folder, "audio_noisy")
    if visual_path is None or audio_path is None:
        return None
    seen, heard = open_rows(visual_path), open_rows(audio_path)
    for rows, path, like in ((seen, visual_path, visual), (heard, audio_path, audio)):
        if rows.shape[1:] != like.shape[1:]:
            msg = f"{path} must be (clips, {', '.join(map(str, like.shape[1:]))}), got {rows.shape}"
            raise DataError(msg)
    if seen.shape[0] != heard.shape[0]:
        msg = f"{audio_path} must have {seen.shape[0]} clips, as {visual_path} has, got {heard.shape[0]}"
        raise DataError(msg)
    return seen, visual_path, heard, audio_path


def _stacked(
    parts: list[tuple[FileRows | Hdf5Rows, Path, FileRows | Hdf5Rows, Path]],
    labels: NDArray[np.int64],
    tags: NDArray[np.float32],
    classes: int,
    options: AveOptions,
) -> FeatureSet:
    """Join clips and background clips into one set, without a copy unless `options.float16` asks for one."""
    visual: list[FeatureRows] = []
    audio: list[FeatureRows] = []
    for seen, visual_path, heard, audio_path in parts:
        for rows, path, into in ((seen, visual_path, visual), (heard, audio_path, audio)):
            into.append(_checked(rows, path, options))
    quiet = sum(part.shape[0] for part in visual) - len(labels)
    still = np.zeros((quiet, classes + 1), dtype=np.float32)
    still[:, classes] = 1.0
    return FeatureSet(
        audio=audio[0] if len(audio) == 1 else StackedRows(audio),
        visual=visual[0] if len(visual) == 1 else StackedRows(visual),
        labels=np.concatenate([labels, np.full((quiet, labels.shape[1]), classes, dtype=np.int64)]),
        tags=np.concatenate([tags, still]),
        rows=np.arange(len(labels) + quiet),
    )


def _checked(rows: FileRows | Hdf5Rows, path: Path, options: AveOptions) -> FeatureRows:
    if options.float16:
        return in_memory(rows, path)
    if options.check:
        bad = find_non_finite(rows)
        if bad is not None:
            msg = f"{path}, row {bad}: features must be finite, got NaN or infinity; extract that clip again"
            raise DataError(msg)
    return rows
