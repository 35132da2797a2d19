"""Shows a run to the person at the terminal: log lines and events, all on standard error.

It steers nothing: it is a sink among others.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from rich.console import Console
from rich.logging import RichHandler
from rich.markup import escape

from streamav.cli.place import words_of_place
from streamav.redaction import redact
from streamav.types import EventPhase

if TYPE_CHECKING:
    from streamav.types import Event, FinalScores, SourceState, Telemetry

__all__ = ["ConsoleSink", "set_up_logging"]

_STYLES = {EventPhase.NEW: "bold green", EventPhase.UPDATE: "dim", EventPhase.END: "bold"}


def set_up_logging(*, verbose: bool) -> Console:
    """Send log lines to standard error: warnings, or everything from INFO on when *verbose*; give the console they go to."""
    console = Console(stderr=True, soft_wrap=True)
    handler = RichHandler(console=console, show_path=False, markup=False, rich_tracebacks=False, log_time_format="%H:%M:%S")
    handler.setFormatter(_Redacting("%(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("streamav").setLevel(logging.INFO if verbose else logging.WARNING)
    return console


class _Redacting(logging.Formatter):
    """Takes what may be secret out of every line, whoever wrote it: libraries name addresses too."""

    def format(self, record: logging.LogRecord) -> str:
        return redact(super().format(record))


class ConsoleSink:
    """Prints one line for each message about an event, and for each change of a source."""

    def __init__(self, console: Console, *, updates: bool) -> None:
        """Take the console; *updates* false leaves out messages that only go on with an event."""
        self._console = console
        self._updates = updates
        self._confirmed: set[str] = set()

    async def start(self) -> None:
        """Do nothing."""

    def event(self, event: Event, latency_s: float) -> None:
        """Print one line: begin, confirmation, end; updates only when they were asked for."""
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
        self._console.print(
            f"{begin:%H:%M:%S}Z {escape(event.source)} [{_STYLES[event.phase]}]{escape(event.label):<14} {what:<11}[/] "
            f"{seconds:4.0f} s  score {event.score:.2f}  {words_of_place(event.location):<13} {latency_s:5.2f} s late",
            highlight=False,
        )

    def source_state(self, source: str, state: SourceState, reason: str) -> None:
        """Print the state and why."""
        self._console.print(f"{escape(source)}: {state.value.replace('_', ' ')} ({escape(redact(reason))})", highlight=False, style="cyan")

    def telemetry(self, source: str, telemetry: Telemetry) -> None:
        """Ignore it: the summary at the end says as much."""

    def scores(self, source: str, scores: FinalScores) -> None:
        """Ignore them: a line a second would hide the events."""

    async def close(self) -> None:
        """Do nothing."""
