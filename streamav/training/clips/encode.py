"""Runs the encoders of a model over whole media files: the same capture, segmenter and extractor as a live run, second by second.

It knows no labels, rows and feature files. What reads many files is a worker: one in this process here, Ray's in `ray_extraction`.
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
    from streamav.types import Segment

__all__ = ["LONGEST_SECONDS", "LocalWorker", "MediaEncoder", "MediaFeatures", "MediaResult", "MediaTask", "MediaWorker", "media_seconds"]

LONGEST_SECONDS = 7200
"""Longest file, so that memory is bounded: the maps of VGG-19 of two hours take 0.7 GB."""
_BATCH = 10
"""Seconds that go through the encoders at once."""


@dataclass(frozen=True, slots=True)
class MediaTask:
    """One file to be encoded."""

    key: int
    """By which the asker knows it again."""
    path: Path
    seconds: int | None = None
    """Its first so many seconds, which it must have; None for all it has."""


@dataclass(frozen=True, eq=False, slots=True)
class MediaFeatures:
    """The features of S consecutive seconds, the first of them at 0."""

    audio: NDArray[np.float32]
    """Shape (S, A)."""
    visual: NDArray[np.float32]
    """Shape (S, G, G, V)."""


@dataclass(frozen=True, eq=False, slots=True)
class MediaResult:
    """What came of a task: features, or the reason why there are none."""

    key: int
    features: MediaFeatures | None
    reason: str = ""


class MediaWorker(Protocol):
    """Encodes files, in any order; a file that cannot be read is a result, an engine that cannot run is an error."""

    def __call__(self, tasks: Sequence[MediaTask], /) -> Iterator[MediaResult]:
        """Give one result for each task."""
        ...


class MediaEncoder:
    """The encoders of one model, ready for file after file."""

    def __init__(self, engine: Engine, card: ModelCard) -> None:
        """Take the encoders of *engine*."""
        self._extractor = SegmentExtractor(engine, card)
        self._card = card

    def encode(self, path: Path, seconds: int | None = None, tick: Callable[[int], None] | None = None) -> MediaFeatures:
        """Encode a file.

        Args:
            path: media with sound and picture.
            seconds: its first so many seconds; None for all.
            tick: told the seconds done so far.

        Raises:
            CaptureError: when it cannot be read.
            DataError: when it is shorter than *seconds*, shorter than half a second, or longer than `LONGEST_SECONDS`.
        """
        audio: list[NDArray[np.float32]] = []
        visual: list[NDArray[np.float32]] = []
        uri = str(path.absolute())  # so that no file name can be taken for an address or a filter graph
        for batch in _batched(segments_of(uri, self._card, self._card.visual.frames_per_second), seconds):
            for one in self._extractor.extract(batch):
                audio.append(one.audio)
                visual.append(one.visual)
            if len(audio) > LONGEST_SECONDS:
                msg = f"{path} must last at most {LONGEST_SECONDS} seconds; cut it into shorter files"
                raise DataError(msg)
            if tick is not None:
                tick(len(audio))
        if len(audio) < (1 if seconds is None else seconds):
            wanted = "at least half a second" if seconds is None else f"{seconds} seconds"
            msg = f"{path} must have {wanted} of sound and picture, got {len(audio)}"
            raise DataError(msg)
        return MediaFeatures(np.stack(audio), np.stack(visual))

    def result(self, task: MediaTask, tick: Callable[[int], None] | None = None) -> MediaResult:
        """Encode the file of a task; what is wrong with the file becomes the result's reason."""
        try:
            return MediaResult(task.key, self.encode(task.path, task.seconds, tick))
        except (CaptureError, DataError) as exc:
            return MediaResult(task.key, None, str(exc))


@dataclass(frozen=True, slots=True)
class LocalWorker:
    """Encodes files one after another in this process."""

    encoder: MediaEncoder
    tick: Callable[[int, int], None] | None = None
    """Told the key of the file in work and its seconds done."""

    def __call__(self, tasks: Sequence[MediaTask]) -> Iterator[MediaResult]:
        """Give one result for each task, in order."""
        for task in tasks:
            yield self.encoder.result(task, self._ticks(task.key))

    def _ticks(self, key: int) -> Callable[[int], None] | None:
        tick = self.tick
        return None if tick is None else lambda seconds: tick(key, seconds)


def media_seconds(path: Path) -> float | None:
    """Read how long a file says that it lasts, s; None when it does not say or cannot be opened. Nothing is decoded."""
    import av

    try:
        with av.open(str(path.absolute()), metadata_errors="replace") as container:
            return None if container.duration is None else float(container.duration) / 1e6
    except (OSError, av.error.FFmpegError):
        return None


def _batched(segments: Iterator[Segment], most: int | None) -> Iterator[list[Segment]]:
    """Group segments by `_BATCH`, and stop after *most*."""
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
