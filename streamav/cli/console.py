"""Prints log lines and the events of a run to standard error, for a person at the terminal.

It is one sink among others and does not influence the run.
"""

from __future__ import annotations

import logging
import os
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TextIO, cast

from rich.console import Console
from rich.logging import RichHandler
from rich.markup import escape
from rich.text import Text

from streamav.cli.folding import fold
from streamav.cli.logs import JournalFormatter, JsonFormatter, JsonLines, chosen_form, report_crashes
from streamav.cli.place import words_of_place
from streamav.redaction import RedactingFormatter, redact
from streamav.types import EventPhase, has_failed

if TYPE_CHECKING:
    from streamav.output_settings import LogForm
    from streamav.types import Event, FinalScores, SourceState, Telemetry

__all__ = ["ConsoleSink", "say", "set_up_logging"]

_WIDE = 10_000
"""Width of the console of a JSON log: a line is not broken."""
_INDENT = 10
"""Columns before the second line of an event on a narrow terminal: the width of its time."""
_ALWAYS_TOLD = (
    "streamav.app.reload",
    "streamav.cluster.scheduler",
    "streamav.cluster.supervisor",
    "streamav.engines.making",
    "streamav.events",
)
"""Loggers whose lines always appear: events, reloads, which workers a cluster has and where each source runs, and the building of an
engine, which is slow at the first start."""
_STYLES = {EventPhase.NEW: "bold green", EventPhase.UPDATE: "dim", EventPhase.END: "bold"}


def set_up_logging(*, verbose: bool, form: LogForm = "auto") -> Console:
    """Send log lines to standard error, from WARNING on, with *verbose* our own from INFO on; return their console.

    Args:
        verbose: True for more lines.
        form: how a line is written; with "json" also what is printed to the console becomes lines of the log.
    """
    form = chosen_form(form, os.environ, sys.stderr)
    console = (
        Console(file=cast("TextIO", JsonLines(sys.stderr)), width=_WIDE, color_system=None) if form == "json" else Console(stderr=True)
    )
    console.soft_wrap = True
    handler: logging.Handler = logging.StreamHandler(sys.stderr)
    if form == "json":
        handler.setFormatter(JsonFormatter())
        report_crashes()
    elif form == "journal":
        handler.setFormatter(JournalFormatter("%(message)s"))
    elif console.is_terminal:
        handler = RichHandler(console=console, show_path=False, markup=False, rich_tracebacks=False, log_time_format=_utc)
        handler.setFormatter(RedactingFormatter("%(message)s"))
    else:  # a file or a pipe: one line for each record, however long
        handler.setFormatter(RedactingFormatter("%(asctime)sZ %(levelname)-8s %(message)s", datefmt="%H:%M:%S"))
    level = logging.INFO if verbose else logging.WARNING
    handler.addFilter(lambda record: record.levelno >= level or not record.name.startswith("streamav") or record.name in _ALWAYS_TOLD)
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("streamav").setLevel(level)
    for name in _ALWAYS_TOLD:
        logging.getLogger(name).setLevel(logging.INFO)
    return console


def _utc(time: datetime) -> Text:
    """Return the time of a record in UTC, as the lines about events have it."""
    return Text(time.astimezone(UTC).strftime("%H:%M:%SZ"))


def say(console: Console, text: str) -> None:
    """Print a sentence; at a terminal it is folded between words, and commands in it stay whole."""
    for line in fold(text, console.width) if console.is_terminal else [text]:
        console.print(line, highlight=False, markup=False)


class ConsoleSink:
    """Prints one line for each message about an event and for each change of a source's state."""

    def __init__(self, console: Console, *, updates: bool) -> None:
        """Store the console; with *updates* false, update messages are not printed, except the one that confirms an event."""
        self._console = console
        self._updates = updates
        self._confirmed: set[str] = set()

    async def start(self) -> None:
        """Do nothing."""

    def event(self, event: Event, latency_s: float) -> None:
        """Print one line for begin, confirmation and end of an event, and for updates if they were asked for."""
        news = event.confirmed and event.id not in self._confirmed
        if event.phase is EventPhase.UPDATE and not (news or self._updates):
            return
        if event.confirmed:
            self._confirmed.add(event.id)
        if event.phase is EventPhase.END:
            self._confirmed.discard(event.id)
        what = "confirmed" if news and event.phase is EventPhase.UPDATE else event.phase.value
        if event.end_reason is not None:
            what = event.end_reason.value
        begin = datetime.fromtimestamp((event.epoch_ns + event.start_ns) / 1e9, UTC)
        seconds = ((event.end_ns or event.newest_end_ns) - event.start_ns) / 1e9
        since_s = (event.newest_end_ns - event.start_ns) / 1e9 + latency_s
        head = f"{begin:%H:%M:%S}Z {event.source} {event.label:<14} {what:<11} "
        rest = f"{seconds:4.0f} s  score {event.score:.2f}  {words_of_place(event.location):<13}"
        since = f" {since_s:5.1f} s after its onset"
        if self._console.is_terminal and len(head + rest + since) > self._console.width:
            since = f"\n{'':<{_INDENT}}{since.lstrip()}"
        style = _STYLES[event.phase]
        self._console.print(
            f"{begin:%H:%M:%S}Z {escape(event.source)} [{style}]{escape(event.label):<14} {what:<11}[/] {rest}{since}",
            highlight=False,
            soft_wrap=not self._console.is_terminal,  # a terminal would cut words
        )

    def source_state(self, source: str, state: SourceState, reason: str) -> None:
        """Print the state and the reason; that a source has failed is told by the log, or by the error that ends the run."""
        if has_failed(state, reason):
            return
        text = f"{source}: {state.value.replace('_', ' ')} ({redact(reason)})"
        self._console.print(text, highlight=False, markup=False, style="cyan", soft_wrap=not self._console.is_terminal)

    def telemetry(self, source: str, telemetry: Telemetry) -> None:
        """Ignore it: the summary at the end holds the same figures."""

    def scores(self, source: str, scores: FinalScores) -> None:
        """Ignore them: one line per second would hide the events."""

    async def close(self) -> None:
        """Do nothing."""
