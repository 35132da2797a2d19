"""Defines the message that a clip or a snapshot of an event is ready."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from streamav.types import Event

__all__ = ["ReadyMedia"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadyMedia:
    """A file of an event, complete under its name."""

    event_id: str
    source: str
    kind: Literal["clip", "snapshot"]
    jpeg: bytes | None = None
    """The snapshot."""

    @classmethod
    def of(cls, event: Event, kind: Literal["clip", "snapshot"], jpeg: bytes | None = None) -> ReadyMedia:
        """Return the message that the clip or the snapshot of an event is ready."""
        return cls(event_id=event.id, source=event.source, kind=kind, jpeg=jpeg)
