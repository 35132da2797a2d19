"""Writes a tiny folder with the names, shapes and structure of the public AVE features, for tests and benchmarks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import h5py
import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

SEGMENTS, GRID, VISUAL, AUDIO, CLASSES = 10, 7, 512, 128, 28
NAMES = (
    "Church bell", "Male speech, man speaking", "Bark", "Fixed-wing aircraft, airplane", "Race car, auto racing",
    "Female speech, woman speaking", "Helicopter", "Violin, fiddle", "Flute", "Ukulele", "Frying (food)", "Truck", "Shofar",
    "Motorcycle", "Acoustic guitar", "Train horn", "Clock", "Banjo", "Goat", "Baby cry, infant cry", "Bus", "Chainsaw", "Cat", "Horse",
    "Toilet flush", "Rodents, rats, mice", "Accordion", "Mandolin",
)  # fmt: skip


@dataclass(frozen=True)
class Clips:
    """The features, labels and splits of the folder."""

    audio: NDArray[np.float32]
    visual: NDArray[np.float32]
    labels: NDArray[np.int64]
    train: NDArray[np.int64]
    val: NDArray[np.int64]
    test: NDArray[np.int64]


def make_clips(clips: int, seed: int = 0, classes: int = 4) -> Clips:
    """Draw separable features: an event adds its class's direction in both modalities; background has it in the picture only."""
    random = np.random.default_rng(seed)
    voices = np.maximum(random.normal(size=(CLASSES, AUDIO)), 0).astype(np.float32)
    looks = np.maximum(random.normal(size=(CLASSES, VISUAL)), 0).astype(np.float32)
    labels = np.full((clips, SEGMENTS), CLASSES, dtype=np.int64)
    audio = (0.2 * np.maximum(random.normal(size=(clips, SEGMENTS, AUDIO)), 0)).astype(np.float32)
    visual = (0.2 * np.maximum(random.normal(size=(clips, SEGMENTS, GRID, GRID, VISUAL)), 0)).astype(np.float32)
    for clip in range(clips):
        label, start = clip % classes, int(random.integers(0, 5))
        stop = int(random.integers(start + 2, SEGMENTS + 1))
        labels[clip, start:stop] = label
        audio[clip, start:stop] += voices[label]
        row, column = random.integers(0, GRID, size=2)
        visual[clip, :, row, column] += 2.0 * looks[label]
    order = random.permutation(clips).astype(np.int64)
    cut, end = max(1, int(clips * 0.6)), max(2, int(clips * 0.8))
    return Clips(audio=audio, visual=visual, labels=labels, train=order[:cut], val=order[cut:end], test=order[end:])


def write_dataset(path: Path, values: NDArray[np.generic], key: str = "avadataset", *, chunked: bool = False) -> None:
    """Write one HDF5 file with one dataset."""
    with h5py.File(path, "w") as file:
        file.create_dataset(key, data=values, chunks=(1, *values.shape[1:]) if chunked else None)


def write_ave_folder(
    folder: Path,
    clips: int = 20,
    *,
    seed: int = 0,
    dtype: str = "float32",
    noisy: int = 3,
    labels: str = "right_labels.h5",
    chunked: bool = False,
) -> Clips:
    """Write a complete folder and return its content."""
    made = make_clips(clips, seed)
    folder.mkdir(parents=True, exist_ok=True)
    write_dataset(folder / "audio_feature.h5", made.audio.astype(dtype), chunked=chunked)
    write_dataset(folder / "visual_feature.h5", made.visual.astype(dtype), chunked=chunked)
    hot = np.eye(CLASSES + 1, dtype=np.float32)[made.labels]
    if labels:
        write_dataset(folder / labels, hot)
    tags = np.zeros((clips, CLASSES + 1), dtype=np.float32)
    tags[np.arange(clips), made.labels.min(axis=1)] = 1.0
    write_dataset(folder / "mil_labels.h5", tags)
    write_dataset(folder / "prob_label.h5", hot.mean(axis=1))
    for name in ("train", "val", "test"):
        write_dataset(folder / f"{name}_order.h5", getattr(made, name), "order")
    if noisy:
        quiet = make_clips(noisy, seed + 1)
        write_dataset(folder / "audio_feature_noisy.h5", (0.2 * quiet.audio).astype(dtype), chunked=chunked)
        write_dataset(folder / "visual_feature_noisy.h5", (0.2 * quiet.visual).astype(dtype), chunked=chunked)
        none = np.zeros((noisy, CLASSES + 1), dtype=np.float32)
        none[:, CLASSES] = 1.0
        write_dataset(folder / "labels_noisy.h5", none)
    lines = []
    for clip in range(clips):
        event = np.flatnonzero(made.labels[clip] < CLASSES)
        lines.append(f"{NAMES[made.labels[clip].min()]}&video{clip:03d}&good&{event[0]}&{event[-1] + 1}")
    (folder / "Annotations.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return made
