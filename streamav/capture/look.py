"""What the later stages want to see of a source's pictures."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Look"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """Which pictures are wanted, and how large."""

    picture: tuple[int, int]
    """Height and width, pixels."""
    frames_per_second: int
    """F: instants of a second that will be looked at."""
