"""Describes what of a source the later stages use."""

from __future__ import annotations

from dataclasses import dataclass, field

from streamav.types import SourceContent

__all__ = ["Look"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What is used: which pictures, their size, and whether sound and pictures are wanted at all."""

    picture: tuple[int, int]
    """Height and width, pixels."""
    frames_per_second: int
    """F: instants of a second whose pictures are used."""
    wanted: SourceContent = field(default_factory=SourceContent)
    """Sound or pictures that are not wanted are not read."""
    sound_track: int | None = None
    """Which sound of several is used, counted from 1; None for the best one."""
    picture_track: int | None = None
    """Which pictures of several are used, counted from 1; None for the best ones."""
