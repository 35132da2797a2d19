"""Extracts features from AVE's media into AVE-named files: every annotated clip, with the encoders of a model, resumable clip by clip.

It uses the same capture, segmenter and extractor as a live run, so the features are the same as in a live run. The segments of a clip are
the first ten seconds of its file. AVE's own script divided the frames of a file into ten parts instead; the results differ if a file
does not last exactly ten seconds.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import h5py
import numpy as np

from streamav.engines import open_engine
from streamav.errors import DataError
from streamav.files import MEDIA_SUFFIXES, whole_file, write_whole
from streamav.training.clips.encode import LocalWorker, MediaEncoder, MediaTask
from streamav.training.data.annotations import labels_of, read_annotations
from streamav.training.experiments.export import ENCODERS_FILE, save_encoder_weights
from streamav.types import WINDOW_SEGMENTS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from streamav.bundle import Bundle, ModelCard
    from streamav.config import ModelSettings
    from streamav.training.clips.encode import MediaResult, MediaWorker
    from streamav.training.data.annotations import Annotation

__all__ = ["Extraction", "extract_folder", "find_media", "local_worker"]

_DONE = "extracted.txt"
"""Lists the rows that are complete in both files, one on each line; a row is added after its features are on disk."""


@dataclass(frozen=True, slots=True)
class Extraction:
    """The result of an extraction."""

    done: int
    """Number of clips with features in the files, including those of earlier calls."""
    failed: dict[int, str]
    """The reason why a row has no features, by row."""


def local_worker(bundle: Bundle, settings: ModelSettings, tick: Callable[[int, int], None] | None = None) -> MediaWorker:
    """Make a worker in this process; it opens the engine when there is work. *tick* takes the file's key and the segments done so far."""

    def work(tasks: Sequence[MediaTask]) -> Iterator[MediaResult]:
        if tasks:
            encoder = MediaEncoder(open_engine(bundle, settings), bundle.card)
            yield from LocalWorker(encoder, tick)(tasks)

    return work


def extract_folder(
    media: Path,
    annotations: Path,
    out: Path,
    bundle: Bundle,
    settings: ModelSettings,
    progress: Callable[[int, int], None] | None = None,
    worker: MediaWorker | None = None,
) -> Extraction:
    """Extract every annotated clip that is not yet in *out*.

    Args:
        media: folder with one file for each video id.
        annotations: Annotations.txt; the line is the row of the features.
        out: folder of the feature files; labels, annotations and the encoders (card and weights) are written beside them.
        bundle: the model whose encoders are used.
        settings: engine and threads.
        progress: called with the number of rows done and of all rows.
        worker: encodes the files; None for a worker in this process. This function alone writes the results.

    Raises:
        DataError: when the annotations are wrong or *out* holds features of other encoders or clips.
    """
    rows = read_annotations(annotations, WINDOW_SEGMENTS)
    card = bundle.card
    _prepare(out, card, annotations, labels_of(rows, WINDOW_SEGMENTS))
    save_encoder_weights(out, bundle)
    files = {
        "audio": (len(rows), WINDOW_SEGMENTS, card.audio.size),
        "visual": (len(rows), WINDOW_SEGMENTS, *2 * (card.visual.grid,), card.visual.size),
    }
    whole = [_is_whole(out / f"{name}_feature.h5", shape, out) for name, shape in files.items()]
    if not all(whole):
        (out / _DONE).unlink(missing_ok=True)  # before the files are made again: the list must not name rows that they do not hold
        for name, shape in files.items():
            _make_dataset(out / f"{name}_feature.h5", shape)
    done = _read_done(out)
    tasks, failed = _tasks(media, rows, done)
    work = local_worker(bundle, settings) if worker is None else worker
    with h5py.File(out / "audio_feature.h5", "r+") as heard, h5py.File(out / "visual_feature.h5", "r+") as seen:
        for result in work(tasks):
            if result.features is None:
                failed[result.key] = result.reason
            else:
                heard["avadataset"][result.key] = result.features.audio
                seen["avadataset"][result.key] = result.features.visual
                heard.flush()
                seen.flush()
                with (out / _DONE).open("a", encoding="utf-8") as file:
                    file.write(f"{result.key}\n")
                done.add(result.key)
            if progress is not None:
                progress(len(done) + len(failed), len(rows))
    return Extraction(len(done), failed)


def _tasks(media: Path, rows: Sequence[Annotation], done: set[int]) -> tuple[list[MediaTask], dict[int, str]]:
    """Return the tasks of the rows that are not done, and the reasons for rows without a file."""
    tasks, failed = [], {}
    for row, annotation in enumerate(rows):
        if row not in done:
            try:
                tasks.append(MediaTask(row, find_media(media, annotation.video), WINDOW_SEGMENTS))
            except DataError as exc:
                failed[row] = str(exc)
    return tasks, failed


def find_media(folder: Path, video: str) -> Path:
    """Find the file of a video id.

    Raises:
        DataError: when there is none.
    """
    for suffix in MEDIA_SUFFIXES:
        path = folder / f"{video}{suffix}"
        if path.is_file():
            return path
    msg = f"{folder} must hold {video} with one of the endings {' '.join(MEDIA_SUFFIXES)}, got no such file"
    raise DataError(msg)


def _prepare(out: Path, card: ModelCard, annotations: Path, labels: np.ndarray[tuple[int, int], np.dtype[np.int64]]) -> None:
    """Write encoders, annotations and labels beside the features; raise DataError if the folder holds others: it takes one kind only."""
    out.mkdir(parents=True, exist_ok=True)
    encoders = json.dumps({"audio": card.audio.model_dump(mode="json"), "visual": card.visual.model_dump(mode="json")}, indent=1) + "\n"
    wanted = {ENCODERS_FILE: encoders, "Annotations.txt": annotations.read_text(encoding="utf-8")}
    for name, text in wanted.items():
        path = out / name
        if path.is_file() and path.read_text(encoding="utf-8") != text:
            msg = f"{path} must belong to this extraction, got one of another extraction; choose another --out"
            raise DataError(msg)
        write_whole(path, text)
    with whole_file(out / "right_labels.h5", alone=True) as part, h5py.File(part, "w") as file:
        file["avadataset"] = np.eye(int(labels.max(initial=28)) + 1, dtype=np.float32)[labels]


def _read_done(out: Path) -> set[int]:
    path = out / _DONE
    if not path.is_file():
        return set()
    return {int(line) for line in path.read_text(encoding="utf-8").split() if line.isdigit()}


def _is_whole(path: Path, shape: tuple[int, ...], out: Path) -> bool:
    """Return whether a feature file is complete to its last byte; a half-written file of a killed run is not.

    Raises:
        DataError: when it holds features of another shape.
    """
    try:
        with h5py.File(path, "r") as file:
            dataset = file["avadataset"]
            found, offset, size = dataset.shape, dataset.id.get_offset(), dataset.id.get_storage_size()
    except (OSError, KeyError):
        return False
    if found != shape:
        msg = f"{out} must hold features of shape {shape}, got {found}; choose another --out"
        raise DataError(msg)
    return offset is not None and path.stat().st_size >= offset + size > 0


def _make_dataset(path: Path, shape: tuple[int, ...]) -> None:
    """Make a contiguous float32 dataset and allocate its space in the file at once.

    Rows that are written later do not change the structure of the file, so a kill between two writes cannot make it unreadable.
    """
    plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plan.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    with whole_file(path, alone=True) as part, h5py.File(part, "w") as file:
        file.create_dataset("avadataset", shape, dtype="float32", dcpl=plan)
