"""Defines composite scenes (what is shown and played at which time), and writes and reads their manifest.

It handles no material, pixels or samples: `clips` draws scenes, `render` makes pixels and samples from them.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Played", "Scene", "Shown", "parse_scenes", "write_scenes"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A photo on display."""

    path: str
    label: int
    """0 to C - 1; C for a picture of no class."""
    onset_s: float
    offset_s: float
    box: tuple[float, float, float, float] | None
    """Top, left, height and width as shares of the picture; None for full frame."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Played:
    """A sound that is played; a repeated sound is played again and again until the offset."""

    path: str
    label: int
    onset_s: float
    offset_s: float
    snr_db: float
    """Level of the sound's audible part above the ambience."""
    pause_s: float
    """Silence before the sound is played again."""
    repeated: bool
    """False: the sound is played once, for any length of the stretch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """All data of one scene; equal scenes give equal samples and pictures."""

    seed: int
    """Seed of all that changes only the look and the sound: camera path, light, rooms, noise."""
    seconds: int
    backdrop: str
    ambience: str
    """Path of the recording; empty for synthetic noise."""
    ambience_dbfs: float
    shown: tuple[Shown, ...]
    played: tuple[Played, ...]
    plain: bool = False
    """True: no rooms, filters, night, blur, grain or softness; only pan, zoom, shake and ambience."""


def write_scenes(scenes: Sequence[Scene]) -> str:
    """Return the manifest as JSON lines, one scene in each line."""
    return "".join(json.dumps(asdict(scene)) + "\n" for scene in scenes)


def parse_scenes(text: str) -> list[Scene]:
    """Read a manifest of `write_scenes`."""
    return [_parsed(json.loads(line)) for line in text.splitlines() if line]


def _parsed(tree: dict[str, object]) -> Scene:
    shown = tuple(
        Shown(**{**one, "box": None if one["box"] is None else tuple(one["box"])})
        for one in tree["shown"]  # type: ignore[attr-defined]
    )
    played = tuple(Played(**one) for one in tree["played"])  # type: ignore[attr-defined]
    return Scene(**{**tree, "shown": shown, "played": played})  # type: ignore[arg-type]
