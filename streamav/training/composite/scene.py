"""Writes the manifest of composite scenes: what is shown and played when, drawn from one seed, and the truth that follows.

It knows which material there is, and no pixels or samples; `render` makes those from a manifest.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streamav.training.composite.material import Item, Material

__all__ = ["Played", "Scene", "Shown", "draw_scene", "parse_scenes", "write_scenes"]

# What a stretch of a scene holds, and how often.
_STRETCHES = {"matched": 0.48, "sound_only": 0.12, "picture_only": 0.12, "mismatch": 0.15, "nothing": 0.13}


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
    """A sound being played, again and again until its offset where it is shorter."""

    path: str
    label: int
    onset_s: float
    offset_s: float
    snr_db: float
    """Level of its audible part above the ambience."""
    pause_s: float
    """Silence before it is played again."""
    repeated: bool
    """False: played once, however long the stretch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """Everything that makes one scene; equal scenes render equally."""

    seed: int
    """Of all that only changes looks and sound: camera path, light, rooms, noise."""
    seconds: int
    backdrop: str
    ambience: str
    """Path; empty for synthetic noise."""
    ambience_dbfs: float
    shown: tuple[Shown, ...]
    played: tuple[Played, ...]
    plain: bool = False
    """True: no rooms, filters, night, blur, grain or softness; only what pans, zooms and shakes, and ambience."""


def draw_scene(material: Material, seed: int, seconds: int = 20) -> Scene:
    """Draw a scene: stretches with matching sound and picture, with only one of them, with two that disagree, with nothing.

    Args:
        material: one split.
        seed: of everything.
        seconds: length, at least 4.
    """
    rng = np.random.default_rng(seed)
    shown: list[Shown] = []
    played: list[Played] = []
    # Without a first pause a scene may begin in the middle of an event, as a stream does.
    at = float(rng.uniform(-3.0, 4.0))
    while at < seconds - 1.0:
        kind = str(rng.choice(list(_STRETCHES), p=list(_STRETCHES.values())))
        length = float(np.clip(rng.lognormal(1.4, 0.6), 1.0, 12.0))
        _add_stretch(material, rng, kind, (at, at + length), (shown, played))
        cut = rng.random() < 0.3  # noqa: PLR2004
        at += length + (0.0 if cut else float(rng.uniform(0.3, 5.0)))
    backdrops, ambients = material.of("backdrop"), material.of("ambient")
    ambience = "" if rng.random() < 0.12 else ambients[int(rng.integers(len(ambients)))].path  # noqa: PLR2004
    return Scene(
        seed=int(rng.integers(1 << 31)),
        seconds=seconds,
        backdrop=backdrops[int(rng.integers(len(backdrops)))].path,
        ambience=ambience,
        ambience_dbfs=float(rng.uniform(-56.0, -27.0)),
        shown=tuple(shown),
        played=tuple(played),
    )


def _add_stretch(
    material: Material, rng: np.random.Generator, kind: str, span: tuple[float, float], into: tuple[list[Shown], list[Played]]
) -> None:
    """Add what one stretch shows and plays."""
    first, second = (int(n) for n in rng.choice(len(material.labels), 2, replace=False))
    shown, played = into
    # Often both begin and end together; else each has ends of its own.
    apart = 0.0 if rng.random() < 0.4 else 1.5  # noqa: PLR2004
    lag = [float(x) for x in rng.uniform(-apart, apart, 2)]
    if kind in {"matched", "sound_only", "mismatch"}:
        played.append(_played(material, rng, first, span))
    if kind in {"matched", "picture_only", "mismatch"}:
        label = second if kind == "mismatch" else first
        onset = span[0] + lag[0]
        shown.append(_shown(material, rng, label, (onset, max(onset + 0.8, span[1] + lag[1]))))


def _one(rng: np.random.Generator, items: Sequence[Item]) -> Item:
    return items[int(rng.integers(len(items)))]


def _shown(material: Material, rng: np.random.Generator, label: int, span: tuple[float, float]) -> Shown:
    box = None
    if rng.random() < 0.5:  # noqa: PLR2004
        height = float(rng.uniform(0.45, 0.95))
        width = float(np.clip(height * np.exp(rng.uniform(-0.4, 0.3)), 0.4, 0.95))
        box = (float(rng.uniform(0, 1 - height)), float(rng.uniform(0, 1 - width)), height, width)
    item = _one(rng, material.of("photo", material.labels[label]))
    return Shown(path=item.path, label=label, onset_s=span[0], offset_s=span[1], box=box)


def _played(material: Material, rng: np.random.Generator, label: int, span: tuple[float, float]) -> Played:
    item = _one(rng, material.of("sound", material.labels[label]))
    return Played(
        path=item.path,
        label=label,
        onset_s=span[0],
        offset_s=span[1],
        snr_db=float(rng.uniform(3.0, 30.0)),
        pause_s=float(rng.choice([0.0, rng.uniform(0.0, 0.6)])),
        repeated=bool(rng.random() < 0.85),  # noqa: PLR2004
    )


def write_scenes(scenes: Sequence[Scene]) -> str:
    """Give the manifest as JSON lines, one scene a line."""
    return "".join(json.dumps(asdict(scene)) + "\n" for scene in scenes)


def parse_scenes(text: str) -> list[Scene]:
    """Read a manifest that `write_scenes` gave."""
    return [_parsed(json.loads(line)) for line in text.splitlines() if line]


def _parsed(tree: dict[str, object]) -> Scene:
    shown = tuple(
        Shown(**{**one, "box": None if one["box"] is None else tuple(one["box"])})
        for one in tree["shown"]  # type: ignore[attr-defined]
    )
    played = tuple(Played(**one) for one in tree["played"])  # type: ignore[attr-defined]
    return Scene(**{**tree, "shown": shown, "played": played})  # type: ignore[arg-type]
