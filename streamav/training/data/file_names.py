"""Finds the files of a folder of AVE-shaped features under their published names. It opens none of them.

Source of the names: YapengTian/AVE-ECCV18, jasongief/PSP_CVPR_2021 and Bravo5542/VSCG (dataloader.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from streamav.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["FILE_NAMES", "find_file", "needed_file"]

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


def find_file(folder: Path, kind: str) -> Path | None:
    """Return the file of a kind (a key of `FILE_NAMES`), or None when the folder has none."""
    return next((folder / name for name in FILE_NAMES[kind] if (folder / name).is_file()), None)


def needed_file(folder: Path, kind: str) -> Path:
    """Return the file of a kind (a key of `FILE_NAMES`).

    Raises:
        DataError: when there is no such folder, or it has no such file.
    """
    path = find_file(folder, kind)
    if not folder.is_dir():
        msg = f"the data must be a folder of features, got {folder}, which is no folder; check the path"
        raise DataError(msg)
    if path is None:
        msg = f"{folder} must hold {' or '.join(FILE_NAMES[kind])}, but does not; docs/training.md lists the files of such a folder"
        raise DataError(msg)
    return path
