"""Runs a model over recordings as a live run would, up to the final scores of every second; no events are made of them.

It scores nothing and chooses nothing (`streamav.evaluation.tuning.quiet` does).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from streamav.aggregation import Aggregation
from streamav.capture.address import is_network
from streamav.engines import open_engine
from streamav.errors import DataError
from streamav.features.extractor import SegmentExtractor
from streamav.localizer import Head, VscgLocalizer
from streamav.training.clips.encode import segments_of
from streamav.window import WindowRing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from streamav.bundle import Bundle
    from streamav.config import ModelSettings
    from streamav.protocols import Extractor, Localizer
    from streamav.types import SegmentScores

__all__ = ["SUFFIXES", "QuietRun", "find_recordings", "recordings_in"]

SUFFIXES = (".mp4", ".mkv", ".webm", ".mov", ".avi", ".flv", ".ts", ".m4v", ".mpg", ".mpeg")
"""Endings of the files that are taken from a folder; a file that is named itself may have any."""


def recordings_in(folder: Path) -> list[str]:
    """Return all recordings in a folder and below it, sorted."""
    return sorted(str(file) for file in folder.rglob("*") if file.suffix.lower() in SUFFIXES and file.is_file())


def find_recordings(named: Sequence[str]) -> list[str]:
    """Return the files that are named, and of folders all recordings in them and below, sorted.

    Raises:
        DataError: when there is none, or a network stream is named.
    """
    found: list[str] = []
    for one in named:
        if is_network(one):
            msg = f"quiet recordings must be files or folders, got the network stream {one}; record it first"
            raise DataError(msg)
        path = Path(one)
        if path.is_dir():
            found += recordings_in(path)
        else:
            found.append(one)
    if not found:
        msg = f"there must be at least one recording ({' '.join(SUFFIXES)}), got none in {', '.join(named)}"
        raise DataError(msg)
    return list(dict.fromkeys(found))


class QuietRun:
    """A model that is ready to run over recordings, one after another."""

    def __init__(self, bundle: Bundle, settings: ModelSettings, head: Head, latency_segments: int) -> None:
        """Open the engine.

        Args:
            bundle: the model.
            settings: engine, threads and the folder of encoders that the bundle does not hold.
            head: which head decides, as live.
            latency_segments: L, as live.

        Raises:
            EngineError: when no engine can run the model.
        """
        engine = open_engine(bundle, settings)
        self._card = bundle.card
        self._frames = settings.frames_per_second or bundle.card.visual.frames_per_second
        self._extractor: Extractor = SegmentExtractor(engine, bundle.card)
        self._localizer: Localizer = VscgLocalizer(engine, head)
        self._latency = latency_segments

    def scores(self, path: str) -> NDArray[np.float32]:
        """Give the final probabilities of every second of a file, shape (S, C + 1), background last.

        Raises:
            CaptureError: when the file cannot be read, or has no sound or no picture.
        """
        ring, aggregation = WindowRing(), Aggregation(self._latency)
        rows: list[NDArray[np.float32]] = []

        def keep(scores: Sequence[SegmentScores]) -> None:
            rows.extend(one.class_probabilities for one in scores if one.final)

        for segment in segments_of(path, self._card, self._frames):
            window = ring.push(self._extractor.extract([segment])[0])
            if window is not None:
                keep(aggregation.push(self._localizer.localize([window])[0]))
        if (short := ring.close()) is not None:  # shorter than a window
            keep(aggregation.push(self._localizer.localize([short])[0]))
        keep(aggregation.close())
        return np.stack(rows) if rows else np.zeros((0, len(self._card.classes) + 1), dtype=np.float32)
