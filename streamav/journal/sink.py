"""The sink that writes the journal, in a thread of its own, about once a second.

It never blocks the run: what cannot be written is dropped and counted.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from streamav.clock import SteadyClock
from streamav.database import is_damage
from streamav.errors import reason_of
from streamav.journal.history import History
from streamav.publish.message import describe

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from streamav.config import JournalSettings
    from streamav.publish.message import EventMessage, ModelEntry
    from streamav.types import Event, FinalScores, SourceState, Telemetry

__all__ = ["JournalSink"]

WRITE_S: Final = 1.0
"""Time between two writes, seconds (our choice)."""
THIN_S: Final = 600.0
"""Time between two removals of old content, seconds (our choice)."""
MOST_WAITING: Final = 20_000
"""Most scores and messages that wait for the disk; the oldest are dropped and counted (our choice: five minutes of 64 sources)."""
_DAY_S: Final = 86_400.0
_MB: Final = 1_000_000

_log = logging.getLogger(__name__)


class JournalSink:
    """Writes events and scores into the journal; implements protocols.Sink."""

    def __init__(self, path: Path, settings: JournalSettings, model: Callable[[], ModelEntry]) -> None:
        """Store where to write, how long to keep it, and what computes."""
        self._path = path
        self._settings = settings
        self._model = model
        self._events: deque[EventMessage] = deque(maxlen=MOST_WAITING)
        self._scores: deque[tuple[str, FinalScores]] = deque(maxlen=MOST_WAITING)
        self._history: History | None = None
        self._thread = ThreadPoolExecutor(1, "journal")
        self._task: asyncio.Task[None] | None = None
        self._thinned_s = float("-inf")
        self._steady = SteadyClock()
        self._told = False
        self.lost = 0
        """Events and scores that could not be written."""

    @property
    def path(self) -> Path:
        """The file of the journal."""
        return self._path

    async def start(self) -> None:
        """Open the journal in the background; without it the run goes on."""
        self._task = asyncio.create_task(self._run(), name="journal")

    def event(self, event: Event, latency_s: float) -> None:
        """Take one message about an event; only the last one of an event is kept."""
        self.lost += len(self._events) == MOST_WAITING
        self._events.append(describe(event, self._model(), latency_s))

    def source_state(self, source: str, state: SourceState, reason: str) -> None:
        """Ignore the state."""

    def telemetry(self, source: str, telemetry: Telemetry) -> None:
        """Ignore telemetry."""

    def scores(self, source: str, scores: FinalScores) -> None:
        """Take the final scores of a segment."""
        if self._settings.scores:
            self.lost += len(self._scores) == MOST_WAITING
            self._scores.append((source, scores))

    async def close(self) -> None:
        """Write what is left and close the file."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
            await self._write()
            await asyncio.get_running_loop().run_in_executor(self._thread, self._close)
        self._thread.shutdown(wait=False)
        if self.lost:
            _log.warning("the journal lacks events and scores that could not be written path=%s count=%d", self._path, self.lost)

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(WRITE_S)
            await self._write()

    async def _write(self) -> None:
        events, scores = list(self._events), list(self._scores)
        self._events.clear()
        self._scores.clear()
        work = asyncio.get_running_loop().run_in_executor(self._thread, self._write_now, events, scores)
        await asyncio.shield(work)

    # In the thread of the journal

    def _write_now(self, events: list[EventMessage], scores: list[tuple[str, FinalScores]]) -> None:
        try:
            if self._history is None:
                self._history = History.writing(self._path)
            try:
                self._store(self._history, events, scores)
            except sqlite3.Error as exc:
                if not is_damage(exc):
                    raise
                self._history.replace_damaged(exc)
                self._store(self._history, events, scores)
        except (sqlite3.Error, OSError) as exc:
            self.lost += len(events) + len(scores)
            self._close()
            if not self._told:
                _log.warning(
                    "the journal cannot be written, the run goes on without it path=%s reason=%s; make room there, or set state_dir to a "
                    "folder that this user can write",
                    self._path,
                    reason_of(exc),
                )
            self._told = True
        else:
            self._told = False

    def _store(self, history: History, events: list[EventMessage], scores: list[tuple[str, FinalScores]]) -> None:
        if events or scores:
            history.write(events, scores)
        steady = self._steady.lasts(time.time(), time.monotonic())
        if time.monotonic() - self._thinned_s >= THIN_S:
            self._thinned_s = time.monotonic()
            history.thin(time.time() - self._settings.days * _DAY_S if steady else None, self._settings.megabytes * _MB)

    def _close(self) -> None:
        history, self._history = self._history, None
        if history is not None:
            history.close()
