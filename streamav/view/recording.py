"""Keeps what a report about one recording shows: a picture of each second, the sound, the final scores, and the events.

Memory is bounded: a long recording keeps fewer pictures and a coarser spectrogram. It writes nothing.
"""

from __future__ import annotations

from base64 import b64encode
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from streamav.types import SEGMENT_NS, EventPhase
from streamav.view.messages import event_message
from streamav.view.pictures import PictureEncoder, mel_bytes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from streamav.types import Event, Observation, Segment, SegmentScores
    from streamav.view.page import Subject

__all__ = ["MOST_EVENT_PICTURES", "MOST_PICTURES", "ReportRecorder"]

MOST_PICTURES = 600
"""Most pictures of the seconds: one for each second of ten minutes; a longer recording keeps every second, fourth ... one (our choice)."""
MOST_EVENT_PICTURES = 400
"""Events after this many have no picture (our choice)."""
_COLUMNS = 24
"""Columns of the spectrogram for each second of a short recording."""
_MOST_COLUMNS = _COLUMNS * MOST_PICTURES
_RECENT = 60
"""Newest seconds of which every picture is kept, because an event may be about them."""


@dataclass(slots=True)
class _Best:
    """The best second of an event so far."""

    score: float = -1.0
    picture: str | None = None


@dataclass(slots=True)
class _Pictures:
    """JPEG pictures in base64 by second, thinned as they become too many."""

    step: int = 1
    kept: dict[int, str] = field(default_factory=dict)
    recent: OrderedDict[int, str] = field(default_factory=OrderedDict)

    def add(self, index: int, picture: str) -> None:
        self.recent[index] = picture
        while len(self.recent) > _RECENT:
            self.recent.popitem(last=False)
        if index % self.step == 0:
            self.kept[index] = picture
        if len(self.kept) > MOST_PICTURES:
            self.step *= 2
            self.kept = {second: one for second, one in self.kept.items() if second % self.step == 0}


class ReportRecorder:
    """Keeps the content of a report: fills the role Observer for one source, and takes its events."""

    def __init__(self, subject: Subject) -> None:
        """Start empty."""
        self.subject = subject
        self._encoder = PictureEncoder()
        self._pictures = _Pictures()
        self._mel: list[NDArray[np.uint8]] = []
        self._columns = _COLUMNS
        self._missing: dict[int, str] = {}
        self._scores: list[list[int]] = []
        self._attention: list[NDArray[np.uint8]] = []
        self._grid = (1, 1)
        self._first_scored = 0
        self._best: dict[str, _Best] = {}
        self._events: list[dict[str, Any]] = []

    def observe(self, source: str, observation: Observation) -> None:  # noqa: ARG002 - the protocol requires it
        """Take what one turn did: the segment, and the scores that became final."""
        if observation.segment is not None:
            self._take_segment(observation.segment)
        self._take_scores(observation.scores)

    def event(self, event: Event) -> None:
        """Take one message about an event; confirmed events are kept when they end."""
        best = self._best.setdefault(event.id, _Best())
        for one in event.segments:
            picture = self._pictures.recent.get(one.start_ns // SEGMENT_NS)
            if picture is not None and one.score > best.score:
                best.score, best.picture = one.score, picture
        if event.phase is not EventPhase.END:
            return
        del self._best[event.id]
        if event.confirmed:
            message = event_message(event, 0.0, best.picture if len(self._events) < MOST_EVENT_PICTURES else None)
            self._events.append(message | {"score": round(float(event.top_score), 4)})

    @property
    def seconds(self) -> int:
        """Number of segments so far."""
        return len(self._mel)

    @property
    def picture(self) -> str | None:
        """The picture of the first event, or of the middle of the recording: JPEG in base64; None when there is none."""
        of_events = [one["thumbnail"] for one in self._events if one["thumbnail"]]
        of_seconds = list(self._pictures.kept.values())
        return of_events[0] if of_events else of_seconds[len(of_seconds) // 2] if of_seconds else None

    def tree(self) -> dict[str, Any]:
        """Return everything as the report's script reads it: plain values; arrays as base64."""
        return {
            "seconds": self.seconds,
            "labels": [
                {
                    "label": one.label,
                    "name": one.name,
                    "thresholds": None if one.thresholds is None else {"on": one.thresholds.on, "off": one.thresholds.off},
                }
                for one in self.subject.labels
            ],
            "latency_segments": self.subject.latency_segments,
            "step": self._pictures.step,
            "pictures": {str(index): picture for index, picture in self._pictures.kept.items()},
            "columns": self._columns,
            "mel": _text(self._mel),
            "missing": {str(index): what for index, what in self._missing.items()},
            "first_scored": self._first_scored,
            "scores": self._scores,
            "grid": list(self._grid),
            "attention": _text(self._attention),
            "events": sorted(self._events, key=lambda one: (one["start_s"], one["end_s"], one["label"])),
        }

    def _take_segment(self, segment: Segment) -> None:
        middle = segment.looked_at(1).frames[0]
        self._pictures.add(segment.index, b64encode(self._encoder.jpeg(middle)).decode("ascii"))
        self._mel.append(_pooled(mel_bytes(segment.audio, self.subject.front_end), self._columns))
        if len(self._mel) * self._columns > _MOST_COLUMNS and self._columns % 2 == 0:
            self._columns //= 2
            self._mel = [_pooled(one, self._columns) for one in self._mel]
        missing = ("s" if segment.quality.sound_missing else "") + ("p" if segment.quality.picture_missing else "")
        if missing:
            self._missing[segment.index] = missing

    def _take_scores(self, scores: Sequence[SegmentScores]) -> None:
        chosen = [*self.subject.columns, -1]
        for one in scores:
            if not one.final:
                continue
            if not self._scores:
                self._first_scored = one.index
            classes = one.class_probabilities[chosen].astype(np.float64)
            self._scores.append([round(1000 * value) for value in (one.relevance, one.agreement, *classes.tolist())])
            self._grid = (one.attention.shape[0], one.attention.shape[1])
            self._attention.append(np.rint(255.0 * one.attention / max(float(one.attention.max()), 1e-12)).astype(np.uint8))


def _pooled(patch: NDArray[np.uint8], columns: int) -> NDArray[np.uint8]:
    """Return a patch, shape (n, bands), as the loudest of equal parts: shape (columns, bands); *columns* divides n."""
    pooled: NDArray[np.uint8] = patch.reshape(columns, -1, patch.shape[1]).max(axis=1)
    return pooled


def _text(arrays: Sequence[NDArray[np.uint8]]) -> str:
    return b64encode(b"".join(one.tobytes() for one in arrays)).decode("ascii")
