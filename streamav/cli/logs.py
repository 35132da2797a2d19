"""Writes the log: as text, as JSON lines, or with the priorities of systemd's journal.

Every form removes secrets, also from lines of libraries.
"""

from __future__ import annotations

import io
import json
import logging
import math
import os
import re
import sys
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, TextIO

from streamav.redaction import RedactingFormatter, redact
from streamav.types import EventPhase, has_failed

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

    from streamav.output_settings import LogForm
    from streamav.types import Event, FinalScores, SourceState, Telemetry

__all__ = [
    "JournalFormatter",
    "JsonFormatter",
    "JsonLines",
    "LogSink",
    "chosen_form",
    "json_line",
    "report_crashes",
]

_PLACEHOLDER: Final = re.compile(r"(?:(\w+)=)?%(?:[-#0 +]*\d*(?:\.\d+)?)([diouxXeEfFgGcrsa%])")
_PRIORITIES: Final = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6), (logging.NOTSET, 7))
"""Level -> priority of syslog, as sd-daemon(3) wants it before a line."""


def chosen_form(form: LogForm, environment: Mapping[str, str], stream: TextIO) -> LogForm:
    """Return text, json or journal: "auto" is journal where the stream goes to systemd's journal (JOURNAL_STREAM), else text."""
    if form != "auto":
        return form
    try:
        found = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return "text"
    return "journal" if environment.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}" else "text"


class JournalFormatter(RedactingFormatter):
    """Text with the priority of syslog before each line, and without the time, which the journal adds."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the lines of a record."""
        priority = next(number for level, number in _PRIORITIES if record.levelno >= level)
        return "\n".join(f"<{priority}>{line}" for line in super().format(record).splitlines())


class JsonFormatter(logging.Formatter):
    """One JSON object a record: time, level, logger, message, what the message names as key=value, and the traceback of an error."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a record."""
        more = dict(_named(record)) | getattr(record, "fields", {})
        if record.exc_info:
            more["traceback"] = redact(self.formatException(record.exc_info))
        return json_line(record.levelname.lower(), record.name, record.getMessage(), record.created, more)


def json_line(level: str, logger: str, message: str, epoch_s: float, fields: Mapping[str, Any] | None = None) -> str:
    """Return one line of a JSON log, without secrets."""
    when = datetime.fromtimestamp(epoch_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return json.dumps({"time": when, "level": level, "logger": logger, "message": redact(message)} | dict(fields or {}))


def _named(record: logging.LogRecord) -> list[tuple[str, Any]]:
    """Return what a message names as key=value, with the values as they were given."""
    if not isinstance(record.args, tuple) or not isinstance(record.msg, str):
        return []
    given = iter(record.args)
    found = []
    for name, kind in _PLACEHOLDER.findall(record.msg):
        if kind == "%":
            continue
        value = next(given, None)
        if name and name not in {"time", "level", "logger", "message"}:
            found.append((name, _plain(value)))
    return found


def _plain(value: object) -> object:
    """Return a value as JSON has it."""
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return redact(str(value))


class JsonLines(io.TextIOBase):
    """A file that turns each line of text written to it into a line of a JSON log."""

    def __init__(self, stream: TextIO) -> None:
        """Write to *stream*."""
        self._stream = stream
        self._part = ""

    def write(self, text: str) -> int:
        """Take text; write the lines that it completes."""
        *lines, self._part = (self._part + text).split("\n")
        for line in lines:
            if line.strip():
                self._stream.write(json_line("info", "streamav.run", line, time.time()) + "\n")
        self._stream.flush()
        return len(text)


class LogSink:
    """Logs each message about an event and each change of a source's state as a record with fields, for JSON logs."""

    def __init__(self, *, updates: bool) -> None:
        """Log; with *updates* false, updates are left out, except the one that confirms an event."""
        self._updates = updates
        self._confirmed: set[str] = set()
        self._log = logging.getLogger("streamav.events")

    async def start(self) -> None:
        """Do nothing."""

    def event(self, event: Event, latency_s: float) -> None:
        """Log begin, confirmation and end of an event, and updates if they were asked for."""
        news = event.confirmed and event.id not in self._confirmed
        if event.phase is EventPhase.UPDATE and not (news or self._updates):
            return
        if event.phase is EventPhase.END:
            self._confirmed.discard(event.id)
        elif event.confirmed:
            self._confirmed.add(event.id)
        what = "confirmed" if news and event.phase is EventPhase.UPDATE else event.phase.value
        fields = {
            "event": event.id,
            "type": event.phase.value,
            "source": event.source,
            "label": event.label,
            "score": round(event.score, 4),
            "confirmed": event.confirmed,
            "start_ts": (event.epoch_ns + event.start_ns) // 1_000_000 / 1000,
            "duration_s": ((event.end_ns or event.newest_end_ns) - event.start_ns) / 1e9,
            "end_reason": None if event.end_reason is None else event.end_reason.value,
            "latency_s": round(latency_s, 3),
        }
        self._log.info("%s %s", event.label, what, extra={"fields": fields})

    def source_state(self, source: str, state: SourceState, reason: str) -> None:
        """Log the state and the reason."""
        fields = {"source": source, "state": state.value, "reason": redact(reason)}
        words = "has failed" if has_failed(state, reason) else f"is {state.value.replace('_', ' ')}"
        self._log.info("%s %s", source, words, extra={"fields": fields})

    def telemetry(self, source: str, telemetry: Telemetry) -> None:
        """Ignore it."""

    def scores(self, source: str, scores: FinalScores) -> None:
        """Ignore them."""

    async def close(self) -> None:
        """Do nothing."""


def report_crashes() -> None:
    """Write the traceback of an error in streamav as one line of the log instead of as text."""

    def log(kind: type[BaseException], exc: BaseException, place: TracebackType | None) -> None:
        logging.getLogger("streamav").critical("an error in streamav ended the program", exc_info=(kind, exc, place))

    sys.excepthook = log
