"""Writes the events of a source into a table of your own, beside all other outputs: python examples/own_sink.py SOURCE TABLE.csv.

A sink is a class with the methods of `streamav.protocols.Sink`. They are called in the loop of the run, so they must return at once:
hand long work to a thread.
"""

from __future__ import annotations

import asyncio
import csv
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from streamav import app
from streamav.config_loading import load_settings
from streamav.errors import StreamavError
from streamav.types import EventPhase

if TYPE_CHECKING:
    from streamav.types import Event, FinalScores, SourceState, Telemetry


class TableSink:
    """Appends one row for each confirmed event that has ended."""

    def __init__(self, path: Path) -> None:
        """Begin the table."""
        self.file = path.open("w", newline="", encoding="utf-8")
        self.table = csv.writer(self.file)
        self.table.writerow(["source", "label", "onset_s", "offset_s", "score", "heard_and_seen"])

    async def start(self) -> None:
        """Begin; a sink that connects to something would start to do so here."""

    def event(self, event: Event, latency_s: float) -> None:  # noqa: ARG002 - the protocol requires it
        """Take one message about an event: new, update or end."""
        if event.phase is EventPhase.END and event.confirmed and event.end_ns is not None:
            times = f"{event.start_ns / 1e9:.0f}", f"{event.end_ns / 1e9:.0f}"
            self.table.writerow([event.source, event.label, *times, f"{event.top_score:.2f}", len(event.modalities) > 1])

    def source_state(self, source: str, state: SourceState, reason: str) -> None:
        """Take a change of the source: online, degraded, lost."""
        print(f"{source}: {state.value} ({reason})", file=sys.stderr)

    def telemetry(self, source: str, telemetry: Telemetry) -> None:
        """Take figures, every ten seconds."""

    def scores(self, source: str, scores: FinalScores) -> None:
        """Take the final scores of each second."""

    async def close(self) -> None:
        """Finish, within a bounded time."""
        self.file.close()


if __name__ == "__main__":
    try:
        settings = load_settings(options={"source": {"uri": sys.argv[1], "speed": "max"}})
        asyncio.run(app.run(app.build(settings, [TableSink(Path(sys.argv[2]))])))
    except IndexError:
        sys.exit("usage: python examples/own_sink.py SOURCE TABLE.csv")
    except StreamavError as exc:
        sys.exit(f"streamav: {exc}")
