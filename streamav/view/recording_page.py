"""Writes the report about one recording, and the index of several, as HTML documents of their own.

All texts that come from outside (names of files, labels, models) are escaped.
"""

from __future__ import annotations

from base64 import b64encode
from collections import Counter
from dataclasses import dataclass, field
from string import Template
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from streamav import __version__
from streamav.view.document import data_text, document, escaped, static_text, table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from streamav.view.player import Media
    from streamav.view.recording import Recorder

__all__ = ["Export", "IndexRow", "ReportModel", "index_page", "recording_page"]

_MINUTE: Final = 60


@dataclass(frozen=True, slots=True)
class ReportModel:
    """What computed the events."""

    name: str
    version: str
    engine: str

    @property
    def words(self) -> str:
        """The model and its engine in words."""
        return f"model {self.name} {self.version} on {self.engine}"


@dataclass(frozen=True, slots=True)
class Export:
    """The events in the format of another program."""

    title: str
    file: str
    """Name of the file that is saved."""
    type: str
    """Media type."""
    text: str


@dataclass(frozen=True, slots=True)
class IndexRow:
    """One recording in the index."""

    name: str
    report: str | None
    """Address of its report relative to the index, in letters that an address may hold; None when the recording could not be read."""
    error: str | None
    seconds: int = 0
    picture: str | None = None
    """JPEG in base64."""
    events: Sequence[Mapping[str, object]] = field(default=())
    """Its events, as in the tree of its recorder."""


def recording_page(name: str, recorder: Recorder, model: ReportModel, media: Media, exports: Sequence[Export]) -> str:
    """Return the report about one recording.

    Args:
        name: of the recording, for the reader.
        recorder: what was seen, heard and decided.
        model: what computed it.
        media: the recording for the player.
        exports: the files that the reader can save.
    """
    tree = recorder.tree()
    plays = bool(media.type)
    data = {
        **tree,
        "model": {"name": model.name, "version": model.version},
        "engine": model.engine,
        "version": __version__,
        "unplayed": _unplayed(media),
    }
    body = Template(static_text("report.html")).substitute(
        model=escaped(model.words),
        name=escaped(name),
        facts="".join(f"<li>{escaped(one)}</li>" for one in _facts(tree)),
        exports=" ".join(_save(one) for one in exports),
        play_hidden="" if plays else " hidden",
        events_hidden="" if tree["events"] else " hidden",
        video=_video(media),
        media_note=escaped(media.note),
        table=_event_table(tree["events"]),
        data=data_text(data),
    )
    if not plays:
        notice, place = f'<p class="notice" data-tone="warn">{escaped(media.note)}</p>', '<div id="focus" class="report">'
        body = body.replace(place, f"{notice}\n{place}", 1)  # above the columns: none of them has a place for it
    return document(f"{name} - streamav", body, script="report.js", sources=media.policy)


def index_page(title: str, rows: Sequence[IndexRow], model: ReportModel | None) -> str:
    """Return the page that lists the reports of several recordings."""
    seconds = sum(one.seconds for one in rows)
    events = [event for one in rows for event in one.events]
    failed = sum(one.error is not None for one in rows)
    facts = [f"{len(rows)} recordings", _length(seconds), _counted(events), *([f"{failed} could not be read"] if failed else [])]
    lines = [_index_line(one) for one in rows]
    body = (
        f'<header><h1>streamav</h1><p id="run" class="dim">{escaped(model.words if model else "")}</p>'
        '<button id="theme" type="button">Theme: automatic</button></header>\n<main>'
        f'<section class="card lead"><h2 class="file">{escaped(title)}</h2><ul class="facts">'
        + "".join(f"<li>{escaped(one)}</li>" for one in facts)
        + '</ul></section>\n<section class="card"><h2>Recordings</h2>'
        + table(("picture", "recording", "length", "events", "when"), lines, numbers=(2,))
        + "</section></main>"
    )
    return document(f"{title} - streamav", body, script="plain.js")


def _facts(tree: Mapping[str, object]) -> list[str]:
    """Return the short facts at the top of a report."""
    seconds, events = tree["seconds"], tree["events"]
    if not isinstance(seconds, int) or not isinstance(events, list):  # what Recorder.tree returns
        return []
    return [_length(seconds), _counted(events), f"final after {tree['latency_segments']} s", f"streamav {__version__}"]


def _length(seconds: int) -> str:
    return f"{seconds} s" if seconds < _MINUTE else f"{seconds // _MINUTE} min {seconds % _MINUTE:02d} s"


def _counted(events: Sequence[Mapping[str, object]]) -> str:
    """Return how many events there are, by name."""
    if not events:
        return "no event"
    names = Counter(str(one["name"] or one["label"]) for one in events)
    return f"{len(events)} event{'s' if len(events) > 1 else ''}: " + ", ".join(f"{name} {count}" for name, count in names.most_common())


def _save(export: Export) -> str:
    content = b64encode(export.text.encode("utf-8", "replace")).decode("ascii")
    return f'<a download="{escaped(export.file)}" href="data:{export.type};base64,{content}">{escaped(export.title)}</a>'


def _video(media: Media) -> str:
    if not media.type:
        return ""
    if media.content is not None:
        return (
            '<video controls preload="auto" playsinline aria-label="The recording"></video>'
            f'<script type="application/octet-stream" id="media" data-type="{media.type}">{media.content}</script>'
        )
    return f'<video controls preload="metadata" playsinline aria-label="The recording" src="{escaped(media.url or "")}"></video>'


def _unplayed(media: Media) -> str:
    """Return what the page says when the browser cannot play the recording after all."""
    if media.content is not None:
        return "This browser cannot play the recording."
    return "The recording was not found at its place beside this report, or this browser cannot play it."


def _event_table(events: Sequence[Mapping[str, object]]) -> str:
    rows = [
        (
            f"{one['start_s']:.0f} s", f"{one['end_s']:.0f} s", escaped(str(one["name"] or one["label"])), escaped(str(one["label"])),
            f"{one['score']:.2f}", "-" if one["peak"] is None else ", ".join(f"{share:.2f}" for share in _pair(one["peak"])),
        )
        for one in events
    ]  # fmt: skip
    return table(("begin", "end", "event", "label", "score", "place x, y"), rows, numbers=(0, 1, 4)) if rows else "<p>No event.</p>"


def _pair(value: object) -> tuple[float, ...]:
    return tuple(float(one) for one in value) if isinstance(value, (tuple, list)) else ()


def _index_line(row: IndexRow) -> tuple[str, ...]:
    name = escaped(row.name)
    if row.report is None:
        return "", name, "", "not read", escaped(row.error or "")  # the last column is the widest
    shown = f'<img class="mini" alt="" src="data:image/jpeg;base64,{row.picture}">' if row.picture else ""
    link = f'<a href="./{escaped(quote(row.report, safe="/"))}">{name}</a>'
    return shown, link, _length(row.seconds), escaped(_counted(row.events)), _strip(row.seconds, row.events)


def _strip(seconds: int, events: Sequence[Mapping[str, object]]) -> str:
    """Return the events of a recording as marks on a line."""
    marks = "".join(
        f'<rect x="{float(str(one["start_s"])):g}" y="0" width="{float(str(one["end_s"])) - float(str(one["start_s"])):g}" height="10"/>'
        for one in events
    )
    return (
        f'<svg class="strip" viewBox="0 0 {max(1, seconds)} 10" preserveAspectRatio="none" aria-hidden="true">'
        f'<rect class="ground" width="{max(1, seconds)}" height="10"/>{marks}</svg>'
    )
