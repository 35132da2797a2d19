"""Writes events as JSON lines to a file or to standard output; each line is flushed at once.

It writes events only. A slow reader makes the run wait, as in any pipe. When the reader of standard output is gone, the writing stops.
A file never holds half a line: an event that a full disk refuses is taken back and counted, and the next one is tried again.
"""

from __future__ import annotations

import logging
import os
import sys
from typing import TYPE_CHECKING, BinaryIO

from streamav.errors import SettingsError, reason_of
from streamav.files import PRIVATE_FILE
from streamav.publish.message import encode

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from streamav.publish.message import ModelEntry
    from streamav.types import Event, FinalScores, SourceState, Telemetry

__all__ = ["JsonlSink"]

_log = logging.getLogger(__name__)


class JsonlSink:
    """Writes `streamav.event/1` objects, one per line."""

    def __init__(self, target: str | Path, model: Callable[[], ModelEntry], on_gone: Callable[[], None] | None = None) -> None:
        """Open the target.

        Args:
            target: file to append to, or "-" for standard output. Only the owner can read a new file (mode 0600).
            model: returns which model and backend compute at the moment of an event.
            on_gone: called once when the reader of standard output is gone; None to log it only.

        Raises:
            SettingsError: when the file cannot be opened for writing.
        """
        self._model = model
        self._on_gone = on_gone
        self._standard = str(target) == "-"
        self._target = "standard output" if self._standard else str(target)
        self._stream: BinaryIO | None = self._open(target)
        self.written = 0
        """Lines written since the start."""
        self._lost = 0
        self._why = ""

    @property
    def shortfall(self) -> str | None:
        """Which events are missing in the file, as a sentence; None when all were written."""
        return f"{self._lost} events were not written to {self._target} ({self._why})" if self._lost else None

    def _open(self, target: str | Path) -> BinaryIO:
        if self._standard:
            return sys.stdout.buffer
        try:
            # Only the owner can read a new file, because events show who was at home. An existing file keeps its mode.
            return open(target, "ab", buffering=0, opener=lambda path, flags: os.open(path, flags, PRIVATE_FILE))
        except OSError as exc:
            msg = f"the file for events must be writable, got {target}: {reason_of(exc)}"
            raise SettingsError(msg) from exc

    async def start(self) -> None:
        """Do nothing: the target is already open."""

    def event(self, event: Event, latency_s: float) -> None:
        """Write one message as one line."""
        if self._stream is None:
            return
        line = encode(event, self._model(), latency_s) + b"\n"
        try:
            if self._standard:
                self._stream.write(line)
                self._stream.flush()
            else:
                _append(self._stream.fileno(), line)
            self.written += 1
        except OSError as exc:
            if self._standard:
                self._give_up(exc)
            else:
                self._count_lost(exc)

    def source_state(self, source: str, state: SourceState, reason: str) -> None:
        """Ignore the state: the file holds events only."""

    def telemetry(self, source: str, telemetry: Telemetry) -> None:
        """Ignore telemetry: the file holds events only."""

    def scores(self, source: str, scores: FinalScores) -> None:
        """Ignore the scores: the file holds events only."""

    async def close(self) -> None:
        """Close the file; leave standard output open."""
        stream, self._stream = self._stream, None
        if stream is None or self._standard:
            return
        try:
            stream.close()
        except OSError as exc:
            _log.warning("the events file could not be closed properly target=%s reason=%s", self._target, reason_of(exc))

    def _count_lost(self, exc: OSError) -> None:
        """Count an event that the file did not take; say it once."""
        self._why = reason_of(exc)
        if not self._lost:
            _log.warning(
                "an event was not written target=%s reason=%s; free some space, later events are tried again", self._target, self._why
            )
        self._lost += 1

    def _give_up(self, exc: OSError) -> None:
        """Stop writing; point standard output at /dev/null, because Python reports an error at exit for what it has not flushed."""
        self._stream = None
        _log.warning("events are no longer written target=%s reason=%s", self._target, reason_of(exc))
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)
        if self._on_gone is not None:
            self._on_gone()


def _append(file: int, line: bytes) -> None:
    """Append a whole line to an open file, or nothing.

    Raises:
        OSError: when the file does not take it.
    """
    before, done = os.fstat(file).st_size, 0
    try:
        while done < len(line):
            done += os.write(file, line[done:])
    except OSError:
        if done and os.fstat(file).st_size == before + done:  # a pipe, or a file that another process appends to, stays as it is
            os.ftruncate(file, before)
        raise
