"""Reads what a folder of features says is true: annotations, labels of segments, tags of clips, and names of classes.

All of them are checked, and must not contradict each other. Row = line of Annotations.txt.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from streamav.bundle.card import ClassEntry
from streamav.bundle.classes import AVE_CLASSES
from streamav.errors import DataError, reason_of
from streamav.slugs import class_slugs
from streamav.training.data.annotations import Annotation, labels_of, read_annotations, tags_of
from streamav.training.data.file_names import FILE_NAMES, find_file
from streamav.training.data.hdf5 import read_whole

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["read_classes", "read_folder_annotations", "read_labels", "read_tags"]

_MAX_CLASSES_BYTES = 1 << 20


def read_folder_annotations(folder: Path, clips: int, segments: int) -> list[Annotation] | None:
    """Return the rows of Annotations.txt, one for each clip, or None when the folder has no such file.

    Raises:
        DataError: when it cannot be read, or has another number of rows.
    """
    path = find_file(folder, "annotations")
    if path is None:
        return None
    rows = read_annotations(path, segments)
    if len(rows) != clips:
        msg = f"{path} must have one row for each of the {clips} clips, got {len(rows)}"
        raise DataError(msg)
    return rows


def read_labels(folder: Path, clips: int, segments: int, annotations: list[Annotation] | None) -> tuple[NDArray[np.int64], Path | None]:
    """Read the one-hot label file, or rebuild the labels from the annotations; if both exist, they must agree.

    Args:
        folder: folder of features.
        clips: number of its clips.
        segments: T, segments of a clip.
        annotations: rows of Annotations.txt, or None.

    Returns:
        The class of each segment, (clips, T), C for background; and the label file, or None when there is none.

    Raises:
        DataError: when there is neither file, or the label file is damaged or contradicts the annotations.
    """
    path = find_file(folder, "labels")
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


def read_classes(folder: Path, highest: int, source: Path | None, annotations: list[Annotation] | None) -> tuple[ClassEntry, ...]:
    """Return the classes: AVE's 28, or those of classes.txt (one name per line) for another data set of the same form.

    Args:
        folder: folder of features.
        highest: highest class in the labels.
        source: the label file, or None when the labels were rebuilt.
        annotations: rows of Annotations.txt, or None.

    Raises:
        DataError: when the names are missing, wrong, or not as many as the labels have classes.
    """
    path = find_file(folder, "classes")
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


def read_tags(folder: Path, labels: NDArray[np.int64], classes: int, annotations: list[Annotation] | None) -> NDArray[np.float32]:
    """Read the clip tags, or make them from annotations or labels; tags must include every class of a clip's segments.

    Args:
        folder: folder of features.
        labels: class of each segment, (clips, T), C for background.
        classes: C.
        annotations: rows of Annotations.txt, or None.

    Returns:
        1 for each class of a clip, otherwise 0, (clips, C + 1), background last.

    Raises:
        DataError: when the file is damaged, or lacks a class of a clip's segments.
    """
    path = find_file(folder, "tags")
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


def _raise_at(path: Path, wrong: NDArray[np.bool_], demand: str, shown: NDArray[np.generic]) -> None:
    """Raise DataError if *wrong* holds for any row; the message names the first such row."""
    rows = np.flatnonzero(wrong)
    if rows.size:
        msg = f"{path}, row {rows[0]}: it {demand}, got {shown[rows[0]].tolist()}"
        raise DataError(msg)
