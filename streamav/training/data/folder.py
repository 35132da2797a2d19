"""Opens a folder of AVE-shaped HDF5 features: checks that its files fit together, and returns the splits.

Features are read for the check only and are not copied (except with `AveOptions.float16`). Row = line of Annotations.txt; a folder
may hold any number of clips.

Source of names and contents: YapengTian/AVE-ECCV18, jasongief/PSP_CVPR_2021 and Bravo5542/VSCG (dataloader.py).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from streamav.errors import DataError
from streamav.training.data.annotations import other_classes
from streamav.training.data.feature_set import FeatureSet, StackedRows
from streamav.training.data.file_names import find_file, needed_file
from streamav.training.data.hdf5 import find_non_finite, in_memory, open_rows
from streamav.training.data.presence import Presence, read_presence
from streamav.training.data.splits import read_splits
from streamav.training.data.truth import read_classes, read_folder_annotations, read_labels, read_tags

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from streamav.bundle.card import ClassEntry
    from streamav.training.data.annotations import Annotation
    from streamav.training.data.feature_set import FeatureRows
    from streamav.training.data.hdf5 import FileRows, Hdf5Rows

__all__ = ["AveData", "AveOptions", "is_ave_folder", "open_ave"]

_AUDIO_AXES, _VISUAL_AXES = 3, 5


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
    return find_file(folder, "visual") is not None


def open_ave(folder: Path, options: AveOptions | None = None) -> AveData:
    """Open and check a folder.

    Raises:
        DataError: when a file is missing, damaged, of a wrong shape, or contradicts another file; the message names file and row.
    """
    options = AveOptions() if options is None else options
    visual_path, audio_path = needed_file(folder, "visual"), needed_file(folder, "audio")
    visual, audio = open_rows(visual_path), open_rows(audio_path)
    _check_shapes(visual, visual_path, audio, audio_path)
    clips, segments = visual.shape[:2]
    annotations = read_folder_annotations(folder, clips, segments)
    labels, source = read_labels(folder, clips, segments, annotations)
    classes = read_classes(folder, int(labels.max(initial=0)), source, annotations)
    tags = read_tags(folder, labels, len(classes), annotations)
    if options.multi_label and annotations is not None:
        for row, others in other_classes(annotations).items():
            tags[row, list(others)] = 1.0
    splits = read_splits(folder, clips)
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
    visual_path, audio_path = find_file(folder, "visual_noisy"), find_file(folder, "audio_noisy")
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
