"""Defines which events of the journal are wanted; the command line and the HTTP API use the same filter."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["EventQuery"]


@dataclass(frozen=True, slots=True, kw_only=True)
class EventQuery:
    """Which events are wanted. An event belongs to the span in which it began."""

    since: float = 0.0
    """UTC, seconds since 1970."""
    until: float | None = None
    source: str | None = None
    label: str | None = None
    limit: int | None = None
    """Most events; None for all."""
    after: tuple[float, str] | None = None
    """Start (UTC, seconds since 1970) and id of the last event of the page before; None for the first page."""
    newest_first: bool = False
