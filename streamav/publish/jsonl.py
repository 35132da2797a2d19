"""Writes events as JSON lines, each flushed at once, to a file or to standard output.

It writes nothing but events. A reader that is slow makes the run wait, as in any pipe; one that is gone ends the writing, not the run.
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
    """A sink of `streamav.event/1` objects, one a line."""

    def __init__(self, target: str | Path, model: Callable[[], ModelEntry], on_gone: Callable[[], None] | None = None) -> None:
        """Open the target.

        Args:
            target: file to append to, or "-" for standard output. A new file can be read by its owner alone (mode 0600).
            model: says what computes at the moment of an event.
            on_gone: called once when nobody reads any more, or the disk is full; None to only say so in the log.

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
            # A new file is for its owner alone: events tell who was at home. One that is there keeps its mode.
            return open(target, "ab", opener=lambda path, flags: os.open(path, flags, PRIVATE_FILE))
        except OSError as exc:
            msg = f"the file for events, {target}, cannot be written: {exc.strerror}"
            raise SettingsError(msg) from exc

    async def start(self) -> None:
        """Do nothing: the target is open."""

    def event(self, event: Event, latency_s: float) -> None:
        """Write one line."""
        if self._stream is None:
            return
        try:
            self._stream.write(encode(event, self._model(), latency_s) + b"\n")
            self._stream.flush()
            self.written += 1
        except OSError as exc:
            self._give_up(exc)

    def source_state(self, source: str, state: SourceState, reason: str) -> None:
        """Ignore it: the file holds events only."""

    def telemetry(self, source: str, telemetry: Telemetry) -> None:
        """Ignore it: the file holds events only."""

    def scores(self, source: str, scores: FinalScores) -> None:
        """Ignore them: the file holds events only."""

    async def close(self) -> None:
        """Close the file; standard output stays open."""
        stream, self._stream = self._stream, None
        if stream is None or self._standard:
            return
        try:
            stream.close()
        except OSError as exc:
            _log.warning("events file not closed properly target=%s reason=%s", self._target, exc)

    def _give_up(self, exc: OSError) -> None:
        """Stop writing; what Python still holds for standard output goes to /dev/null, else it would complain at exit."""
        self._stream = None
        _log.warning("events are no longer written target=%s reason=%s", self._target, exc.strerror or exc)
        if self._standard:
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, sys.stdout.fileno())
            os.close(null)
        if self._on_gone is not None:
            self._on_gone()
