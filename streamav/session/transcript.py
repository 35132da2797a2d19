"""Keeps the messages of a replay as lines, and knows which of them belong to the end of a recording that was cut off."""

from __future__ import annotations

from typing import TYPE_CHECKING

from streamav.publish.message import encode

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from streamav.pipeline.turns import TurnRecord
    from streamav.publish.message import ModelEntry
    from streamav.types import Event, FinalScores, SourceState, Telemetry

__all__ = ["Transcript"]


class Transcript:
    """A sink, and the book of the turns."""

    def __init__(self, turns: int) -> None:
        """Start empty; `model` must be set before the first event. *turns* is how many turns were recorded."""
        self._left = turns
        self.model: Callable[[], ModelEntry] | None = None
        self._lines: list[bytes] = []
        self._told = 0
        self._before_end: int | None = None

    def content(self, *, cut: bool) -> bytes:
        """Return the lines; of a recording that was cut off, those of recorded turns before the first source ended."""
        return b"".join(self._lines[: self._before_end] if cut else self._lines)

    def note(self, turn: Sequence[TurnRecord]) -> None:
        """Take note of the messages so far."""
        self._left -= 1
        if self._before_end is None and (self._left < 0 or any(record.item == "finished" for record in turn)):
            self._before_end = self._told
        self._told = len(self._lines)

    async def start(self) -> None:
        """Do nothing."""

    def event(self, event: Event, latency_s: float) -> None:
        """Keep one message, as JsonlSink writes it."""
        if self.model is not None:
            self._lines.append(encode(event, self.model(), latency_s) + b"\n")

    def source_state(self, source: str, state: SourceState, reason: str) -> None:
        """Ignore the state."""

    def telemetry(self, source: str, telemetry: Telemetry) -> None:
        """Ignore telemetry."""

    def scores(self, source: str, scores: FinalScores) -> None:
        """Ignore the scores."""

    async def close(self) -> None:
        """Do nothing."""
