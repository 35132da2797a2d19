"""Draws the scenes of composite clips: ten seconds with one event, like AVE's clips, or with none.

It chooses from the material but handles no pixels or samples; `render` makes those from the scenes.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from streamav.training.composite.scene import Played, Scene, Shown
from streamav.types import WINDOW_SEGMENTS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streamav.training.composite.material import Item, Material

__all__ = ["draw_clips", "draw_event", "draw_quiet"]

T = WINDOW_SEGMENTS
WHOLE_SHARE = 0.3
"""Share of clips whose event lasts from the first segment to the last; in AVE it is more than half."""
TOGETHER_SHARE = 0.35
"""Share of the other clips in which sound and picture begin and end at the same times."""


def draw_clips(material: Material, events: int, quiet: int, seed: int, *, plain: bool = False) -> tuple[list[Scene], list[Scene]]:
    """Draw clips with an event, with the classes in turn, and clips with backdrop and ambience only.

    Args:
        material: one split, or a half of one.
        events: number of clips with an event.
        quiet: number of clips without an event.
        seed: seed of all random choices.
        plain: True for clips without rooms, filters, night, blur, grain and softness (see `Scene.plain`).
    """
    classes = len(material.labels)
    with_event = [draw_event(material, number % classes, np.random.default_rng([seed, 0, number])) for number in range(events)]
    without = [draw_quiet(material, np.random.default_rng([seed, 1, number])) for number in range(quiet)]
    return [replace(scene, plain=plain) for scene in with_event], [replace(scene, plain=plain) for scene in without]


def draw_event(material: Material, label: int, rng: np.random.Generator) -> Scene:
    """Draw a clip in which a class is heard over one stretch of time and seen over another; both share at least two seconds."""
    shown, played = _shown(material, rng, label), _played(material, rng, label)
    if rng.random() < WHOLE_SHARE:
        seen = heard = (0.0, float(T))
    else:
        seen = _stretch(rng)
        heard = seen if rng.random() < TOGETHER_SHARE else _stretch(rng, seen)
    return _scene(material, rng, (_during(shown, *seen),), (_heard(played, *heard),))


def draw_quiet(material: Material, rng: np.random.Generator) -> Scene:
    """Draw a clip without any class."""
    return _scene(material, rng, (), ())


def _stretch(rng: np.random.Generator, other: tuple[float, float] | None = None) -> tuple[float, float]:
    """Draw a stretch of 2.5 to 10 s that shares at least 2 s with *other*; its part before or after the clip is cut off."""
    while True:
        length = float(np.clip(rng.lognormal(1.55, 0.5), 2.5, T))
        onset = float(rng.uniform(-0.25 * length, T - 0.75 * length))
        inside = (max(onset, 0.0), min(onset + length, float(T)))
        shared = inside if other is None else (max(inside[0], other[0]), min(inside[1], other[1]))
        if shared[1] - shared[0] >= 2.0:  # noqa: PLR2004
            return inside


def _scene(material: Material, rng: np.random.Generator, shown: tuple[Shown, ...], played: tuple[Played, ...]) -> Scene:
    ambients = material.of("ambient")
    return Scene(
        seed=int(rng.integers(1 << 31)),
        seconds=T,
        backdrop=_one(rng, material.of("backdrop")).path,
        ambience="" if rng.random() < 0.12 else _one(rng, ambients).path,  # noqa: PLR2004
        ambience_dbfs=float(rng.uniform(-56.0, -27.0)),
        shown=shown,
        played=played,
    )


def _one(rng: np.random.Generator, items: Sequence[Item]) -> Item:
    return items[int(rng.integers(len(items)))]


def _shown(material: Material, rng: np.random.Generator, label: int) -> Shown:
    box = None
    if rng.random() < 0.5:  # noqa: PLR2004
        height = float(rng.uniform(0.35, 0.95))
        width = float(np.clip(height * np.exp(rng.uniform(-0.4, 0.3)), 0.35, 0.95))
        box = (float(rng.uniform(0, 1 - height)), float(rng.uniform(0, 1 - width)), height, width)
    return Shown(path=_one(rng, material.of("photo", material.labels[label])).path, label=label, onset_s=0.0, offset_s=1.0, box=box)


def _played(material: Material, rng: np.random.Generator, label: int) -> Played:
    return Played(
        path=_one(rng, material.of("sound", material.labels[label])).path,
        label=label,
        onset_s=0.0,
        offset_s=1.0,
        snr_db=float(rng.uniform(3.0, 30.0)),
        pause_s=float(rng.choice([0.0, rng.uniform(0.0, 0.6)])),
        repeated=bool(rng.random() < 0.9),  # noqa: PLR2004
    )


def _during(shown: Shown, onset_s: float, offset_s: float) -> Shown:
    return Shown(path=shown.path, label=shown.label, onset_s=onset_s, offset_s=offset_s, box=shown.box)


def _heard(played: Played, onset_s: float, offset_s: float) -> Played:
    return Played(
        **{name: getattr(played, name) for name in ("path", "label", "snr_db", "pause_s", "repeated")}, onset_s=onset_s, offset_s=offset_s
    )
