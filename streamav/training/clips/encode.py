"""Runs the encoders of a model over whole media files, segment by segment, with the capture, segmenter and extractor of a live run.

It handles no labels, rows or feature files. A worker encodes many files: the one here runs in this process, `ray_extraction` has Ray's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from streamav.errors import CaptureError, DataError
from streamav.features.extractor import SegmentExtractor
from streamav.offline import segments_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from streamav.bundle import ModelCard
    from streamav.protocols import Engine
    from streamav.types import Segment, SegmentFeatures

__all__ = [
    "ARRAYS",
    "LONGEST_SECONDS",
    "LocalWorker",
    "MediaEncoder",
    "MediaFeatures",
    "MediaResult",
    "MediaTask",
    "MediaWorker",
    "media_seconds",
]

ARRAYS = ("audio", "visual", "heard", "seen", "motion")
"""Names of the arrays of `MediaFeatures`, also in files."""
LONGEST_SECONDS = 7200
"""Longest file; it bounds the memory: VGG-19's maps of two hours take 0.7 GB."""
_BATCH = 10
"""Segments that go through the encoders in one batch."""


@dataclass(frozen=True, slots=True)
class MediaTask:
    """One file to encode."""

    key: int
    """Number that identifies the task in its result."""
    path: Path
    seconds: int | None = None
    """Number of segments to encode from the file's beginning; a shorter file is an error. None for the whole file."""


@dataclass(frozen=True, eq=False, slots=True)
class MediaFeatures:
    """The features of S consecutive segments; the first begins at 0 s."""

    audio: NDArray[np.float32]
    """Shape (S, A)."""
    visual: NDArray[np.float32]
    """Shape (S, G, G, V)."""
    heard: NDArray[np.float32] | None = None
    """Scores of the classes that the audio encoder was trained on, shape (S, H), 0 to 1; None for encoders that score no classes."""
    seen: NDArray[np.float32] | None = None
    """Scores of the classes that the visual encoder was trained on, shape (S, K), 0 to 1: means over the frames of a segment, as live."""
    motion: NDArray[np.float32] | None = None
    """Motion inside each segment (`streamav.features.motion`), shape (S,); None for encoders that score no classes."""

    def arrays(self) -> dict[str, NDArray[np.float32]]:
        """Return the arrays that are there, by name."""
        found = {name: getattr(self, name) for name in ARRAYS}
        return {name: array for name, array in found.items() if array is not None}


@dataclass(frozen=True, eq=False, slots=True)
class MediaResult:
    """The result of a task: features, or the reason why there are none."""

    key: int
    features: MediaFeatures | None
    reason: str = ""


class MediaWorker(Protocol):
    """Encodes files, in any order; a file that cannot be read gives a result with a reason, an engine that cannot run raises an error."""

    def __call__(self, tasks: Sequence[MediaTask], /) -> Iterator[MediaResult]:
        """Yield one result for each task."""
        ...


class MediaEncoder:
    """The encoders of one model, ready for file after file."""

    def __init__(self, engine: Engine, card: ModelCard) -> None:
        """Use the encoders of *engine*."""
        self._extractor = SegmentExtractor(engine, card)
        self._card = card

    def encode(self, path: Path, seconds: int | None = None, tick: Callable[[int], None] | None = None) -> MediaFeatures:
        """Encode a file.

        Args:
            path: media with sound and picture.
            seconds: number of segments to encode from the file's beginning; None for all.
            tick: called with the number of segments done so far.

        Raises:
            CaptureError: when the file cannot be read.
            DataError: when the file is shorter than *seconds*, shorter than half a second, or longer than `LONGEST_SECONDS`.
        """
        rows: dict[str, list[NDArray[np.float32]]] = {name: [] for name in ARRAYS}
        uri = str(path.absolute())  # absolute, so that no file name is taken for an address or a filter graph
        for batch in _batched(segments_of(uri, self._card, self._card.visual.frames_per_second), seconds):
            for one in self._extractor.extract(batch):
                for name, kept in rows.items():
                    if (array := _row(one, name)) is not None:
                        kept.append(array)
            count = len(rows["audio"])
            if count > LONGEST_SECONDS:
                msg = f"{path} must last at most {LONGEST_SECONDS} seconds; cut it into shorter files"
                raise DataError(msg)
            if tick is not None:
                tick(count)
        if len(rows["audio"]) < (1 if seconds is None else seconds):
            wanted = "at least half a second" if seconds is None else f"{seconds} seconds"
            msg = f"{path} must have {wanted} of sound and picture, got {len(rows['audio'])}"
            raise DataError(msg)
        return MediaFeatures(**{name: np.stack(kept) for name, kept in rows.items() if kept})

    def result(self, task: MediaTask, tick: Callable[[int], None] | None = None) -> MediaResult:
        """Encode the file of a task; an error of the file becomes the reason in the result."""
        try:
            return MediaResult(task.key, self.encode(task.path, task.seconds, tick))
        except (CaptureError, DataError) as exc:
            return MediaResult(task.key, None, str(exc))


@dataclass(frozen=True, slots=True)
class LocalWorker:
    """Encodes files one after another in this process."""

    encoder: MediaEncoder
    tick: Callable[[int, int], None] | None = None
    """Called with the key of the current file and its segments done so far."""

    def __call__(self, tasks: Sequence[MediaTask]) -> Iterator[MediaResult]:
        """Yield one result for each task, in order."""
        for task in tasks:
            yield self.encoder.result(task, self._ticks(task.key))

    def _ticks(self, key: int) -> Callable[[int], None] | None:
        tick = self.tick
        return None if tick is None else lambda seconds: tick(key, seconds)


def media_seconds(path: Path) -> float | None:
    """Read the duration in a file's header, s, without decoding; None if the header has none or the file cannot be opened."""
    import av

    try:
        with av.open(str(path.absolute()), metadata_errors="replace") as container:
            return None if container.duration is None else float(container.duration) / 1e6
    except (OSError, av.error.FFmpegError):
        return None


def _row(features: SegmentFeatures, name: str) -> NDArray[np.float32] | None:
    """Return one of `ARRAYS` of a segment; None when the encoders do not give it."""
    if name == "motion":
        return None if features.seen is None else np.asarray(features.motion, np.float32)
    row: NDArray[np.float32] | None = getattr(features, name)
    return row


def _batched(segments: Iterator[Segment], most: int | None) -> Iterator[list[Segment]]:
    """Yield segments in batches of `_BATCH`, and stop after *most* segments."""
    batch: list[Segment] = []
    for count, segment in enumerate(segments, start=1):
        batch.append(segment)
        if len(batch) == _BATCH or count == most:
            yield batch
            batch = []
        if count == most:
            return
    if batch:
        yield batch
