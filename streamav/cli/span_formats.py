"""Writes events of recordings in the formats of other programs: a table of labels, subtitles, Audacity's labels, RTTM.

It reads no media. Times are seconds from the start of the recording.
"""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from streamav.types import Box

__all__ = ["FORMATS", "SUFFIXES", "FoundEvent", "SpanFormat"]

SpanFormat = Literal["csv", "vtt", "audacity", "rttm"]
SUFFIXES: Final[Mapping[SpanFormat, str]] = {"csv": ".csv", "vtt": ".vtt", "audacity": ".txt", "rttm": ".rttm"}


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundEvent:
    """One confirmed event of a recording."""

    file: str
    label: str
    label_name: str
    onset_s: float
    offset_s: float
    score: float
    """Best score of its segments, 0 to 1."""
    peak: tuple[float, float] | None
    """x, y of the strongest place in the picture, 0 to 1 from the top left corner."""
    box: Box | None
    """Part of the picture around this place."""


def _csv(events: Sequence[FoundEvent]) -> str:
    """Return a table with the columns of labels.csv, which `streamav recordings` and `streamav train` read, and the score."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("file", "class_slug", "onset_s", "offset_s", "score"))
    writer.writerows((one.file, one.label, f"{one.onset_s:g}", f"{one.offset_s:g}", f"{one.score:.4f}") for one in events)
    return text.getvalue()


def _vtt(events: Sequence[FoundEvent]) -> str:
    """Return subtitles. Source: W3C WebVTT, section 4 (cues; & and < must be escaped)."""
    cues = [
        f"{_clock(one.onset_s)} --> {_clock(one.offset_s)}\n{_plain(one.label_name)} ({one.score:.2f})\n"
        for one in sorted(events, key=lambda one: (one.onset_s, one.offset_s))
    ]
    return "\n".join(["WEBVTT\n", *cues])


def _audacity(events: Sequence[FoundEvent]) -> str:
    """Return a label track. Source: Audacity's manual, "Importing and Exporting Labels": begin, end and text, separated by tabs."""
    return "".join(f"{one.onset_s:.6f}\t{one.offset_s:.6f}\t{' '.join(one.label_name.split())}\n" for one in events)


def _rttm(events: Sequence[FoundEvent]) -> str:
    """Return rich transcription time marks. Source: NIST RT-09 evaluation plan, appendix A; a name must not hold white space."""
    return "".join(
        f"SPEAKER {'_'.join(one.file.split())} 1 {one.onset_s:.3f} {one.offset_s - one.onset_s:.3f} "
        f"<NA> <NA> {one.label} {one.score:.4f} <NA>\n"
        for one in events
    )


FORMATS: Final[Mapping[SpanFormat, Callable[[Sequence[FoundEvent]], str]]] = {
    "csv": _csv,
    "vtt": _vtt,
    "audacity": _audacity,
    "rttm": _rttm,
}
"""How each format is written."""


def _clock(seconds: float) -> str:
    whole, milliseconds = divmod(round(seconds * 1000), 1000)
    return f"{whole // 3600:02d}:{whole // 60 % 60:02d}:{whole % 60:02d}.{milliseconds:03d}"


def _plain(text: str) -> str:
    return " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
