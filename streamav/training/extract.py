"""Makes AVE-named feature files of media: every annotated clip through the encoders of a model, resumable clip by clip.

It uses the same capture, segmenter and extractor as a live run, so features are what a live run would compute. Seconds of a file are
its first ones; AVE's own script took tenths of the file's frames instead, which differs where a file is not exactly ten seconds.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import h5py
import numpy as np

from streamav.capture.open import open_source
from streamav.config import CaptureSettings, ModelSettings, SourceSettings
from streamav.engines import open_engine
from streamav.errors import CaptureError, DataError
from streamav.features.extractor import SegmentExtractor
from streamav.segmenter import Segmenter, SegmenterOptions
from streamav.training.annotations import labels_of, read_annotations
from streamav.training.export import ENCODERS_FILE, save_encoder_weights
from streamav.types import AudioBlock, VideoFrame

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from streamav.bundle import Bundle, ModelCard
    from streamav.types import Segment

__all__ = ["Extraction", "extract_folder", "find_media"]

SEGMENTS = 10
"""T: seconds of a clip."""
SUFFIXES = (".mp4", ".mkv", ".webm", ".mov", ".avi", ".flv", ".ts")
_DONE = "extracted.txt"
"""Rows that are whole in both files, one a line; written after the features are on disk."""


@dataclass(frozen=True, slots=True)
class Extraction:
    """What came of it."""

    done: int
    """Clips whose features are in the files, those of earlier calls included."""
    failed: dict[int, str]
    """Why a row has none, by row."""


def extract_folder(
    media: Path,
    annotations: Path,
    out: Path,
    bundle: Bundle,
    settings: ModelSettings,
    progress: Callable[[int, int], None] | None = None,
) -> Extraction:
    """Extract every annotated clip that is not yet in *out*.

    Args:
        media: folder with one file for each video id.
        annotations: Annotations.txt; row = line.
        out: folder of the feature files; labels, annotations and the encoders (card and weights) are put beside them.
        bundle: whose encoders are used.
        settings: engine and threads.
        progress: told rows done and rows in all.

    Raises:
        DataError: when the annotations are wrong or *out* holds features of other encoders or clips.
    """
    rows = read_annotations(annotations, SEGMENTS)
    card = bundle.card
    _prepare(out, card, annotations, labels_of(rows, SEGMENTS))
    save_encoder_weights(out, bundle)
    done = _read_done(out)
    failed: dict[int, str] = {}
    extractor = SegmentExtractor(open_engine(bundle, settings), card, settings.frames_per_second)
    files = {"audio": (len(rows), SEGMENTS, card.audio.size), "visual": (len(rows), SEGMENTS, *2 * (card.visual.grid,), card.visual.size)}
    with h5py.File(out / "audio_feature.h5", "a") as heard, h5py.File(out / "visual_feature.h5", "a") as seen:
        audio, visual = _dataset(heard, files["audio"], out), _dataset(seen, files["visual"], out)
        for row, annotation in enumerate(rows):
            if row not in done:
                try:
                    segments = first_segments(find_media(media, annotation.video), card)
                    features = extractor.extract(segments)
                except (CaptureError, DataError) as exc:
                    failed[row] = str(exc)
                    continue
                audio[row] = np.stack([one.audio for one in features])
                visual[row] = np.stack([one.visual for one in features])
                heard.flush()
                seen.flush()
                with (out / _DONE).open("a", encoding="utf-8") as file:
                    file.write(f"{row}\n")
                done.add(row)
            if progress is not None:
                progress(len(done) + len(failed), len(rows))
    return Extraction(len(done), failed)


def find_media(folder: Path, video: str) -> Path:
    """Find the file of a video id.

    Raises:
        DataError: when there is none.
    """
    for suffix in SUFFIXES:
        path = folder / f"{video}{suffix}"
        if path.is_file():
            return path
    msg = f"{folder} must hold {video} with one of the endings {' '.join(SUFFIXES)}, and does not"
    raise DataError(msg)


def first_segments(path: Path, card: ModelCard) -> list[Segment]:
    """Read the first ten seconds of a file.

    Raises:
        DataError: when it is shorter.
        CaptureError: when it cannot be read.
    """
    found: list[Segment] = []
    for segment in _segments(path, card):
        found.append(segment)
        if len(found) == SEGMENTS:
            return found
    msg = f"{path} must have {SEGMENTS} seconds of sound and picture, got {len(found)}"
    raise DataError(msg)


def _segments(path: Path, card: ModelCard) -> Iterator[Segment]:
    height, width = card.visual.picture
    frames = card.visual.frames_per_second
    source = open_source(SourceSettings(uri=str(path), speed="max"), CaptureSettings(), picture=(height, width), frames_per_second=frames)
    segmenter = Segmenter(SegmenterOptions(frames_per_second=frames, picture=(height, width)))
    try:
        for item in source.items():
            if isinstance(item, (AudioBlock, VideoFrame)):
                yield from segmenter.push(item)
        yield from segmenter.close()
    finally:
        source.close()


def _prepare(out: Path, card: ModelCard, annotations: Path, labels: np.ndarray[tuple[int, int], np.dtype[np.int64]]) -> None:
    """Write what belongs beside the features, or check it when it is there: a folder holds features of one kind."""
    out.mkdir(parents=True, exist_ok=True)
    encoders = json.dumps({"audio": card.audio.model_dump(mode="json"), "visual": card.visual.model_dump(mode="json")}, indent=1) + "\n"
    wanted = {ENCODERS_FILE: encoders, "Annotations.txt": annotations.read_text(encoding="utf-8")}
    for name, text in wanted.items():
        path = out / name
        if path.is_file() and path.read_text(encoding="utf-8") != text:
            msg = f"{path} must be that of this extraction, and belongs to another; choose another --out"
            raise DataError(msg)
        path.write_text(text, encoding="utf-8")
    with h5py.File(out / "right_labels.h5", "w") as file:
        file["avadataset"] = np.eye(int(labels.max(initial=28)) + 1, dtype=np.float32)[labels]


def _read_done(out: Path) -> set[int]:
    path = out / _DONE
    if not path.is_file():
        return set()
    return {int(line) for line in path.read_text(encoding="utf-8").split() if line.isdigit()}


def _dataset(file: h5py.File, shape: tuple[int, ...], out: Path) -> h5py.Dataset:
    """Open or make a contiguous float32 dataset."""
    if "avadataset" not in file:
        return file.create_dataset("avadataset", shape, dtype="float32")
    dataset = file["avadataset"]
    if dataset.shape != shape:
        msg = f"{out} must hold features of shape {shape}, got {dataset.shape}; choose another --out"
        raise DataError(msg)
    return dataset
