"""Runs the live stages over recordings, as fast as possible: exact segments, the final scores of every segment, and the events.

It uses no truth. Events come from the tracker of a live run; several latencies share one pass of the networks.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from streamav.aggregation import Aggregation
from streamav.capture.address import is_network
from streamav.capture.open import open_source
from streamav.config import CaptureSettings, SourceSettings
from streamav.engines import open_engine
from streamav.errors import CaptureError, DataError, MissingModalityError
from streamav.evidence import evidence_of
from streamav.features.extractor import SegmentExtractor
from streamav.files import MEDIA_SUFFIXES
from streamav.localizer import Head, VscgLocalizer
from streamav.redaction import show_address
from streamav.segmenter import Segmenter, SegmenterOptions
from streamav.tracker import Tracker, TrackerOptions
from streamav.types import AudioBlock, EventPhase, SourceContent, VideoFrame
from streamav.window import LEAST_SEGMENTS, WindowRing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from streamav.bundle import Bundle, ModelCard
    from streamav.config import ModelSettings
    from streamav.evidence import LabelEvidence
    from streamav.protocols import Extractor, Localizer
    from streamav.tracker import LabelOptions
    from streamav.types import Event, Segment, SegmentFeatures, SegmentScores, WindowScores

__all__ = ["FoundEvents", "OfflineRun", "check_readable", "find_recordings", "recordings_in", "segments_of"]

_CHECKED = 32
"""Height and width of the pictures that are read only to see whether a recording can be read, pixels."""
_MOST_NAMED = 10
"""Most damaged recordings that an error names."""


def recordings_in(folder: Path) -> list[str]:
    """Return all recordings in a folder and below it, sorted."""
    return sorted(str(file) for file in folder.rglob("*") if file.suffix.lower() in MEDIA_SUFFIXES and file.is_file())


def find_recordings(named: Sequence[str]) -> list[str]:
    """Return the named files and, for each named folder, all recordings in it and below it, sorted.

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
        msg = f"there must be at least one recording ({' '.join(MEDIA_SUFFIXES)}), got none in {', '.join(named)}"
        raise DataError(msg)
    return list(dict.fromkeys(found))


@dataclass(frozen=True, slots=True)
class FoundEvents:
    """The confirmed events of one recording."""

    seconds: int
    """Number of segments."""
    events: dict[int, list[Event]]
    """By latency, in segments: the last message of each event, in the order in which the events ended."""
    scores: dict[int, NDArray[np.float32]]
    """By latency: the final probabilities of every segment, shape (S, columns + 1), background last."""


class OfflineRun:
    """A model that is ready to run over recordings, one after another."""

    def __init__(
        self, bundle: Bundle, settings: ModelSettings, head: Head, latency_segments: int, evidence: LabelEvidence | None = None
    ) -> None:
        """Open the engine.

        Args:
            bundle: the model.
            settings: engine, threads and the folder of the encoders that the bundle does not contain.
            head: which head decides, as in a live run.
            latency_segments: L, as in a live run.
            evidence: evidence of other labels than the model's; None for that of the model's.

        Raises:
            EngineError: when no engine can run the model.
        """
        engine = open_engine(bundle, settings)
        self._card = bundle.card
        self._frames = settings.frames_per_second or bundle.card.visual.frames_per_second
        self._extractor: Extractor = SegmentExtractor(engine, bundle.card)
        self._localizer: Localizer = VscgLocalizer(engine, head, evidence or evidence_of(bundle))
        self._latency = latency_segments

    def scores(self, path: str, on_features: Callable[[SegmentFeatures], object] | None = None) -> NDArray[np.float32]:
        """Return the final probabilities of every segment of a file, shape (S, columns + 1), background last.

        Args:
            path: the file.
            on_features: receives the features of each segment in order; None for no receiver.

        Raises:
            CaptureError: when the file cannot be read, or has no sound or no picture.
        """
        aggregation = Aggregation(self._latency)
        rows: list[NDArray[np.float32]] = []

        def keep(scores: Sequence[SegmentScores]) -> None:
            rows.extend(one.class_probabilities for one in scores if one.final)

        for window in self._windows(path, on_features):
            keep(aggregation.push(window))
        keep(aggregation.close())
        return _stacked(rows, self._card)

    def events(
        self,
        path: str,
        labels: Sequence[LabelOptions],
        latencies: Sequence[int],
        on_features: Callable[[SegmentFeatures], object] | None = None,
    ) -> FoundEvents:
        """Return the confirmed events that a live run reports, at each of several latencies; the networks run once.

        Args:
            path: the file.
            labels: how each label becomes events, as in a live run.
            latencies: values of L, 1 to 10; they replace the latency of this run.
            on_features: receives the features of each segment; None for no receiver.

        Raises:
            CaptureError: when the file cannot be read, or has no sound or no picture.
            ShapeError: when a latency is out of range.
        """
        options = TrackerOptions(source="recording", session=path, labels=tuple(labels))
        followers = {latency: _Follower(Aggregation(latency), Tracker(options)) for latency in latencies}
        seconds = 0
        for window in self._windows(path, on_features):
            seconds = window.first_index + len(window.levels_dbfs)
            for follower in followers.values():
                follower.push(window)
        events = {latency: follower.close() for latency, follower in followers.items()}
        return FoundEvents(seconds, events, {latency: _stacked(one.rows, self._card) for latency, one in followers.items()})

    def _windows(self, path: str, on_features: Callable[[SegmentFeatures], object] | None = None) -> Iterator[WindowScores]:
        """Yield the scores of every window of a file, and of the short windows at its beginning, as in a live run."""
        ring = WindowRing(LEAST_SEGMENTS)
        for segment in segments_of(path, self._card, self._frames):
            features = self._extractor.extract([segment])[0]
            if on_features is not None:
                on_features(features)
            window = ring.push(features)
            if window is not None:
                yield self._localizer.localize([window])[0]
        if (short := ring.close()) is not None:
            yield self._localizer.localize([short])[0]


class _Follower:
    """Aggregation and tracker of one latency, as in a live run."""

    def __init__(self, aggregation: Aggregation, tracker: Tracker) -> None:
        self._aggregation = aggregation
        self._tracker = tracker
        self._ended: list[Event] = []
        self.rows: list[NDArray[np.float32]] = []
        """Final probabilities of the segments so far."""

    def push(self, window: WindowScores) -> None:
        scores = self._aggregation.push(window)
        self._keep(scores, self._tracker.push(scores))

    def close(self) -> list[Event]:
        """End all events and return the confirmed ones."""
        scores = self._aggregation.close()
        self._keep(scores, self._tracker.close(scores))
        return self._ended

    def _keep(self, scores: Sequence[SegmentScores], events: Sequence[Event]) -> None:
        self.rows += [one.class_probabilities for one in scores if one.final]
        self._ended += [event for event in events if event.phase is EventPhase.END and event.confirmed]


def _stacked(rows: Sequence[NDArray[np.float32]], card: ModelCard) -> NDArray[np.float32]:
    return np.stack(rows) if rows else np.zeros((0, len(card.classes) + 1), dtype=np.float32)


def check_readable(files: Sequence[Path]) -> None:
    """Open each recording and read its beginning, so that a damaged one ends a long piece of work before it starts.

    Raises:
        CaptureError: when one cannot be read; the message names the first ten.
    """
    problems = []
    for file in files:
        source = open_source(
            SourceSettings(uri=str(file), speed="max"), CaptureSettings(), picture=(_CHECKED, _CHECKED), frames_per_second=1
        )
        try:
            next(iter(source.items()), None)
        except CaptureError as exc:
            problems.append(str(exc))
        finally:
            source.close()
    if problems:
        more = "" if len(problems) <= _MOST_NAMED else f"; and {len(problems) - _MOST_NAMED} more"
        raise CaptureError("; ".join(problems[:_MOST_NAMED]) + more)


def segments_of(uri: str, card: ModelCard, frames_per_second: int) -> Iterator[Segment]:
    """Yield the segments of a medium as a live run cuts them, as fast as possible.

    Args:
        uri: an address as `streamav run --source` takes it.
        card: model card; its picture size is used.
        frames_per_second: F.

    Raises:
        CaptureError: when it cannot be read.
        MissingModalityError: when it has no sound or no picture.
    """
    picture = card.visual.picture
    source = open_source(SourceSettings(uri=uri, speed="max"), CaptureSettings(), picture=picture, frames_per_second=frames_per_second)
    segmenter = Segmenter(SegmenterOptions(frames_per_second=frames_per_second, picture=picture))
    try:
        for item in source.items():
            if isinstance(item, SourceContent) and item.lacks:
                msg = f"{show_address(uri)} has no {item.lacks}, and training and evaluation need sound and picture together: leave it out"
                raise MissingModalityError(msg)
            if isinstance(item, (AudioBlock, VideoFrame)):
                yield from segmenter.push(item)
        yield from segmenter.close()
    finally:
        source.close()
