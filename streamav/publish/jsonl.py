"""Writes events as JSON lines to a file or to standard output; each line is flushed at once.

It writes events only. A slow reader makes the run wait, as in any pipe. When the reader has closed the pipe, the writing stops but
the run goes on.
"""

from __future__ import annotations

import logging
import os
import sys
from typing import TYPE_CHECKING, BinaryIO

from streamav.errors import SettingsError
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
            on_gone: called once when writing fails (the reader is gone, the disk is full); None to log it only.

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

    def _open(self, target: str | Path) -> BinaryIO:
        if self._standard:
            return sys.stdout.buffer
        try:
            # Only the owner can read a new file, because events show who was at home. An existing file keeps its mode.
            return open(target, "ab", opener=lambda path, flags: os.open(path, flags, PRIVATE_FILE))
        except OSError as exc:
            msg = f"the file for events must be writable, got {target}: {exc.strerror}"
            raise SettingsError(msg) from exc

    async def start(self) -> None:
        """Do nothing: the target is already open."""

    def event(self, event: Event, latency_s: float) -> None:
        """Write one message as one line."""
        if self._stream is None:
            return
        try:
            self._stream.write(encode(event, self._model(), latency_s) + b"\n")
            self._stream.flush()
            self.written += 1
        except OSError as exc:
            self._give_up(exc)

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
            _log.warning("the events file could not be closed properly target=%s reason=%s", self._target, exc)

    def _give_up(self, exc: OSError) -> None:
        """Stop writing; point standard output at /dev/null, because Python reports an error at exit for what it has not flushed."""
        self._stream = None
        _log.warning("events are no longer written target=%s reason=%s", self._target, exc.strerror or exc)
        if self._standard:
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, sys.stdout.fileno())
            os.close(null)
        if self._on_gone is not None:
            self._on_gone()
