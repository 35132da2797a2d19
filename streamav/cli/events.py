"""`streamav events`: asks the journal what happened.

It reads the journal only; no run is needed.
"""

from __future__ import annotations

import csv
import io
import json
import sqlite3
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from streamav.cli.span_formats import FORMATS, FoundEvent
from streamav.cli.wording import counted
from streamav.config_loading import load_settings
from streamav.errors import SettingsError, reason_of
from streamav.journal import EventQuery, History, journal_path, read_time

__all__ = ["events"]

_COLUMNS = ("id", "source", "label", "start_time", "end_time", "duration_s", "top_score", "confirmed", "end_reason", "media_start_s")


def events(
    since: Annotated[
        str | None,
        typer.Option(
            "--since",
            help="Only events that began at this time or later: 2026-09-14T10:00Z, 10:30, yesterday, seconds since 1970, or an age "
            "such as 90m, 2h, 7d.",
        ),
    ] = None,
    until: Annotated[str | None, typer.Option("--until", help="Only events that began before this time; as --since.")] = None,
    source: Annotated[str | None, typer.Option("--source", help="Only events of the source with this id.")] = None,
    label: Annotated[str | None, typer.Option("--label", help="Only events of this class.")] = None,
    raw: Annotated[bool, typer.Option("--json", help="The same as --format json.")] = False,
    form: Annotated[
        Literal["table", "json", "csv", "vtt", "audacity"],
        typer.Option("--format", help="json: an array of event messages. vtt (WebVTT) and audacity (labels): in the source's own time."),
    ] = "table",
    config: Annotated[Path | None, typer.Option("--config", help="TOML file; only state_dir is used.")] = None,
    settings: Annotated[list[str] | None, typer.Option("--set", help="state_dir=FOLDER; repeatable.")] = None,
) -> None:
    """Print the events that the journal holds, oldest first.

    A run writes each event and the scores of each segment into the journal (journal.enabled). Retracted events are not in it.

    Exit status: 0 done, also without an event; 2 a time or setting is wrong, or the journal cannot be read.
    """
    path = journal_path(load_settings(config, settings or ()).state_dir)
    now_s = time.time()
    begin, end = read_time("--since", since, now_s), read_time("--until", until, now_s)
    try:
        with History.reading(path) as history:
            found = history.find(EventQuery(since=begin or 0.0, until=end, source=source, label=label))
            hint = None if found else _why_nothing(history, path, (begin, end), source, label)
    except (sqlite3.Error, OSError) as exc:
        msg = f"the journal {path} must be a file that this streamav and this user can read, got: {reason_of(exc)}; see docs/journal.md"
        raise SettingsError(msg) from None
    if hint is not None:
        typer.echo(hint, err=True)
    typer.echo(_FORMS["json" if raw else form](found), nl=False)


def _why_nothing(
    history: History, path: Path, span: tuple[float | None, float | None], source: str | None, label: str | None
) -> str | None:
    """Return why no event was found, as far as the question itself is the reason; None where there was none."""
    begin, end = span
    if not history.began:
        return (
            f"there is no journal at {path}: no run has written one there; name the run's state_dir (--config, or --set state_dir=FOLDER)"
        )
    known = history.sources()
    if source is not None and source not in known:
        return f"the journal has no source {source!a}; it has {', '.join(known) or 'none yet'}"
    if label is not None and label not in (labels := history.labels()):
        return f"the journal has no event of the label {label!a}; it has {', '.join(labels) or 'none yet'}"
    if begin is not None and end is not None and begin >= end:
        return "--until is not after --since, so no event can be between them"
    return None


def _json(found: Sequence[dict[str, Any]]) -> str:
    return json.dumps(found, ensure_ascii=False, allow_nan=False, indent=1) + "\n"


def _csv(found: Sequence[dict[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, _COLUMNS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(found)
    return text.getvalue()


def _table(found: Sequence[dict[str, Any]]) -> str:
    lines = [
        f"{one['start_time'][:19].replace('T', ' ')}Z  {one['source']:<12}  {one['label']:<16}  {one['duration_s']:>6.0f} s  "
        f"score {one['top_score']:.2f}  {one['end_reason'] or 'open'}"
        for one in found
    ]
    return "".join(f"{line}\n" for line in [*lines, counted(len(found), "event")])


def _span(one: dict[str, Any]) -> tuple[float, float]:
    start: float = one["media_start_s"]
    return start, start + one["duration_s"]


def _vtt(found: Sequence[dict[str, Any]]) -> str:
    return FORMATS["vtt"]([_as_found(one) for one in found])


def _as_found(one: dict[str, Any]) -> FoundEvent:
    onset_s, offset_s = _span(one)
    return FoundEvent(
        file=one["source"],
        label=one["label"],
        label_name=one["label_name"],
        onset_s=onset_s,
        offset_s=offset_s,
        score=one["top_score"],
        peak=None,
        box=None,
    )


def _audacity(found: Sequence[dict[str, Any]]) -> str:
    return "".join(f"{_span(one)[0]:.3f}\t{_span(one)[1]:.3f}\t{one['label']}\n" for one in found)


_FORMS: dict[str, Callable[[Sequence[dict[str, Any]]], str]] = {
    "table": _table,
    "json": _json,
    "csv": _csv,
    "vtt": _vtt,
    "audacity": _audacity,
}
