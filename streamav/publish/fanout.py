"""Passes every call on to several sinks or observers; an error in one does not affect the others.

It does not depend on their types.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from streamav.protocols import Observer, Sink
    from streamav.types import Event, FinalScores, Observation, SourceState, Telemetry

__all__ = ["FanOut", "ObserverFanOut"]

_log = logging.getLogger(__name__)


class FanOut:
    """A sink that passes every call on to several sinks."""

    def __init__(self, sinks: Sequence[Sink]) -> None:
        """Store the sinks, in the order in which they are called."""
        self._sinks = tuple(sinks)
        self._blamed: set[int] = set()
        self.failures = 0
        """How many calls of a sink raised an error since the start."""

    async def start(self) -> None:
        """Start all sinks; an error in one does not stop the others from starting."""
        results = await asyncio.gather(*(sink.start() for sink in self._sinks), return_exceptions=True)
        self._note(dict(enumerate(results)))

    def event(self, event: Event, latency_s: float) -> None:
        """Pass a message about an event on to all sinks."""
        self._each(lambda sink: sink.event(event, latency_s))

    def source_state(self, source: str, state: SourceState, reason: str) -> None:
        """Pass a change of a source's state on to all sinks."""
        self._each(lambda sink: sink.source_state(source, state, reason))

    def telemetry(self, source: str, telemetry: Telemetry) -> None:
        """Pass telemetry on to all sinks."""
        self._each(lambda sink: sink.telemetry(source, telemetry))

    def scores(self, source: str, scores: FinalScores) -> None:
        """Pass the final scores of a segment on to all sinks."""
        self._each(lambda sink: sink.scores(source, scores))

    async def close(self) -> None:
        """Close the sinks that tell others something at their end, then all others; those of one group at the same time."""
        for first in (True, False):
            group = {place: sink for place, sink in enumerate(self._sinks) if getattr(sink, "closes_first", False) is first}
            results = await asyncio.gather(*(sink.close() for sink in group.values()), return_exceptions=True)
            self._note(dict(zip(group, results, strict=True)))

    def _each(self, call: Callable[[Sink], None]) -> None:
        for position, sink in enumerate(self._sinks):
            try:
                call(sink)
            except Exception as exc:  # noqa: BLE001 - a broken sink must not stop the others, or the loop
                self._blame(position, exc)

    def _note(self, results: Mapping[int, object]) -> None:
        for position, result in results.items():
            if isinstance(result, Exception):
                self._blame(position, result)
            elif isinstance(result, BaseException):
                raise result

    def _blame(self, position: int, exc: Exception) -> None:
        """Count a failure, and log the first one of each sink."""
        self.failures += 1
        if position not in self._blamed:
            self._blamed.add(position)
            _log.error(
                "sink failed, its further failures are counted but not logged sink=%s", type(self._sinks[position]).__name__, exc_info=exc
            )


class ObserverFanOut:
    """An observer that passes what the loop computes on to several observers; an error in one does not affect the others."""

    def __init__(self, observers: Sequence[Observer]) -> None:
        """Store the observers, in the order in which they are called."""
        self._observers = tuple(observers)
        self._blamed: set[int] = set()

    def observe(self, source: str, observation: Observation) -> None:
        """Pass what one turn did for a source on to all observers."""
        for position, observer in enumerate(self._observers):
            try:
                observer.observe(source, observation)
            except Exception as exc:  # noqa: BLE001 - a broken observer must not stop the loop
                if position not in self._blamed:
                    self._blamed.add(position)
                    _log.error("observer failed, further failures are not logged observer=%s", type(observer).__name__, exc_info=exc)
