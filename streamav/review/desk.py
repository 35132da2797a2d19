"""Answers a viewer of the live page, from the journal, the clips and the newest seconds. It knows no request and no address.

Its methods read disks and encode clips, so they run in a few threads beside the page's own; each is bounded in time or size.
"""

from __future__ import annotations

import sqlite3
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from streamav.clips.retention import find_clip
from streamav.errors import StreamavError, reason_of
from streamav.evaluation.counting import said_events
from streamav.journal import History
from streamav.journal.inquiry import DRIFT_NS
from streamav.privacy_modes import privacy_word, stricter
from streamav.view.moments import BEFORE_S, small_mp4

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from streamav.review.saved import Reviewed, Verdict
    from streamav.thresholds import Thresholds
    from streamav.types import FinalScores
    from streamav.view.moments import Second

__all__ = ["Answers", "Desk", "RefusedError"]

_HOUR_S: Final = 3600.0
_LONGEST_S: Final = 5.0
"""Longest time of one question to the journal, s."""
_MOST_SPANS: Final = 200
_TEN_S: Final = 10
_NS: Final = 1_000_000_000


class RefusedError(StreamavError):
    """Something that a viewer asks for is not there, or not allowed; the text says what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """What the desk answers from."""

    thresholds: Callable[[str], Mapping[str, Thresholds]]
    """Returns the thresholds of each enabled label of a source as they are now."""
    why: Callable[[History, str, float], dict[str, Any]]
    """Returns why the second at a UTC time (s) of a source did or did not become an event."""
    reviewed: Reviewed
    journal: Path | None = None
    """None where the journal is off."""
    clips: Path | None = None
    """Folder of the clips; None where there are none."""
    change: Callable[[str, Mapping[str, object]], object] | None = None
    """Changes a part of the section detection of a source, or raises a SettingsError; None where nothing can be changed."""
    zones: Callable[[str], Mapping[str, Sequence[Sequence[float]]]] | None = None
    """Returns the zones of a source: name -> corners; None where there are none."""
    broker: Callable[[], dict[str, Any] | None] = lambda: None
    """Returns the state of the broker with what to do, or None without a broker."""


class Desk:
    """Answers questions; every method may be called from any thread."""

    def __init__(self, answers: Answers) -> None:
        """Store what it answers from."""
        self._given = answers

    @property
    def given(self) -> Answers:
        """What it answers from."""
        return self._given

    def why(self, source: str, at_s: float) -> dict[str, Any]:
        """Return the explanation of the second at a UTC time.

        Raises:
            RefusedError: when the journal is off or cannot be read.
            SettingsError: when the journal has nothing about it.
        """
        found: dict[str, Any] = self._ask(lambda history: self._given.why(history, source, at_s))
        return found

    def what_if(self, source: str, label: str, wanted: Thresholds, now_s: float | None = None) -> dict[str, Any]:
        """Return the events of the last hour with the thresholds of now and with others, from the final scores in the journal.

        Raises:
            RefusedError: when the journal cannot be read, or the source has no such label.
        """
        until_s = time.time() + 1.0 if now_s is None else now_s
        current = self._given.thresholds(source).get(label)
        if current is None:
            msg = f"{source} has no label {label}, or it is switched off"
            raise RefusedError(msg)
        scores = self._ask(lambda history: history.scores(source, until_s - _HOUR_S, until_s))
        runs = _stretches(scores, label)
        return {
            "source": source,
            "label": label,
            "until": until_s,
            "seconds": sum(len(values) for _, values in runs),
            "now": _spans(runs, current),
            "then": _spans(runs, wanted),
        }

    def clip(self, identifier: str, seconds: Sequence[Second]) -> bytes | Path:
        """Return the clip of an event: the file that was written, else one of the seconds that the page still has.

        Raises:
            RefusedError: when there is neither.
        """
        folder = self._given.clips
        found = None if folder is None else find_clip(folder, identifier, ".mp4")
        if found is not None:
            return found
        if not seconds:
            msg = "the clip of this event is gone; set clips.dir to keep clips of all events (docs/clips.md)"
            raise RefusedError(msg)
        return small_mp4(seconds)

    def say(
        self, verdict: Verdict, seconds: Sequence[Second], *, source: str, label: str, span_s: tuple[float, float], epoch_ms: int
    ) -> str:
        """Save ten seconds and their label; return the path of the clip.

        Args:
            verdict: what was said.
            seconds: of the source, without a gap, at most ten.
            source: its id.
            label: of the event that is right or wrong, or that was missed.
            span_s: begin and end of the event, media time, s.
            epoch_ms: UTC, ms since 1970, of the media clock's zero.

        Raises:
            RefusedError: when the seconds are gone, or people are hidden in them.
            SettingsError: when the folder is full.
            OSError: when it cannot be written.
        """
        if not seconds:
            msg = (
                "these seconds are gone: the page keeps the newest minute of a source only, and nothing while its privacy is metadata_only"
            )
            raise RefusedError(msg)
        hidden = stricter(*(one.privacy for one in seconds))
        if hidden:
            msg = (
                f"people are hidden in these seconds (detection.privacy {privacy_word(hidden)}), so a model would learn from what it "
                "does not see and hear; set privacy off for seconds that you want to keep"
            )
            raise RefusedError(msg)
        first, last = seconds[0].index, seconds[-1].index + 1
        span = max(span_s[0], first) - first, min(span_s[1], last) - first
        if verdict != "wrong" and not span[0] < span[1]:
            msg = "the event is not within the seconds that the page still has"
            raise RefusedError(msg)
        utc = datetime.fromtimestamp(epoch_ms / 1000 + first, UTC).strftime("%Y%m%dT%H%M%SZ")
        return self._given.reviewed.save(verdict, small_mp4(seconds), name=f"{source}-{utc}-{label}", label=label, span=span, group=source)

    def change(self, source: str, patch: Mapping[str, object]) -> None:
        """Change what a source detects.

        Raises:
            RefusedError: when nothing can be changed.
            SettingsError: when the change is wrong.
        """
        if self._given.change is None:
            msg = "this run takes no changes"
            raise RefusedError(msg)
        self._given.change(source, patch)

    def _ask(self, question: Callable[[History], Any]) -> Any:  # noqa: ANN401 - what the question returns
        if self._given.journal is None:
            msg = "the journal is off; set journal.enabled = true"
            raise RefusedError(msg)
        try:
            with History.reading(self._given.journal) as history:
                history.limit_time(_LONGEST_S)
                return question(history)
        except (sqlite3.Error, OSError) as exc:
            msg = f"the journal cannot be read now: {reason_of(exc)}; ask again"
            raise RefusedError(msg) from exc


def ten_seconds(span_s: tuple[float, float]) -> tuple[int, int]:
    """Return the first second and the one after the last of the ten that are saved about an event: it, and what was before it."""
    first = max(0, int(span_s[0]) - BEFORE_S)
    return first, first + _TEN_S


def _stretches(scores: Sequence[FinalScores], label: str) -> list[tuple[float, np.ndarray[Any, np.dtype[np.float64]]]]:
    """Return the runs of consecutive segments: UTC of the first one (s), and the label's probabilities."""
    found: list[tuple[float, list[float]]] = []
    before: FinalScores | None = None
    for one in scores:
        if label not in one.labels:
            before = None
            continue
        if before is None or one.start_ns != before.start_ns + _NS or abs(one.epoch_ns - before.epoch_ns) > DRIFT_NS:
            found.append(((one.epoch_ns + one.start_ns) / _NS, []))
        found[-1][1].append(one.labels[label])
        before = one
    return [(begin, np.array(values)) for begin, values in found]


def _spans(runs: Sequence[tuple[float, np.ndarray[Any, np.dtype[np.float64]]]], thresholds: Thresholds) -> dict[str, Any]:
    """Return how many events there are, how many seconds they last, and the newest of them as UTC begin and end."""
    spans: list[tuple[float, float]] = []
    for begin, values in runs:
        columns = np.stack([values, 1.0 - values], axis=1)
        spans += [(begin + event.start, begin + event.end) for event in said_events(columns, thresholds)]
    shown = [[round(one[0], 1), round(one[1], 1)] for one in spans[-_MOST_SPANS:]]
    return {"events": len(spans), "seconds": round(sum(end - start for start, end in spans)), "spans": shown}
