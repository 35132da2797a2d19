"""Describes which pictures of a source the later stages use."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Look"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """Which pictures are used, and their size."""

    picture: tuple[int, int]
    """Height and width, pixels."""
    frames_per_second: int
    """F: instants of a second whose pictures are used."""
