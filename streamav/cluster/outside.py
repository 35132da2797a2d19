"""Defines what the controller of a cluster does at the broker, as a role: `broker` fills it; tests use a stand-in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

__all__ = ["Outside"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outside:
    """What the controller does at the broker."""

    fence: Callable[[str], Awaitable[None]]
    """Makes the broker close the connection of a client id."""
    left_open: Callable[[str], tuple[bytes, ...]]
    """Returns the newest messages of a source's events that have no end."""
    lost: Callable[[str, str], None]
    """Publishes that no worker runs a source, and why."""
    placed: Callable[[str], None]
    """Publishes nothing about a source any more, because a worker does."""
