"""Keeps rendered scenes on disk as what the encoders take: log-mel patches and small pictures, with their truth.

It knows no network. Arrays are memory-mapped: thousands of scenes need not fit into memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np

from streamav.capture.scene import Script, make_script, render_backdrop, render_frame, render_sound
from streamav.features.logmel import LogMelOptions, log_mel
from streamav.training.composite.render import Renderer
from streamav.training.composite.scene import draw_scene, write_scenes
from streamav.types import SAMPLES_PER_SEGMENT

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from streamav.training.composite.material import Material

__all__ = ["StoredScenes", "render_drawn", "render_scenes"]

_NAMES = ("patches", "pictures", "labels", "heard", "seen")


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class StoredScenes:
    """n scenes of T seconds, T the same for all."""

    patches: NDArray[np.float16]
    """Shape (n, T, 96, 64): log-mel, offset 0.001."""
    pictures: NDArray[np.uint8]
    """Shape (n, T, F, side, side, 3), RGB."""
    labels: NDArray[np.int64]
    """Shape (n, T), 0 to C; C is background."""
    heard: NDArray[np.int64]
    """Shape (n, T): class that is audible, C for none."""
    seen: NDArray[np.int64]
    """Shape (n, T): class on display, C for none."""

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Map what `render_scenes` or `render_drawn` wrote."""
        return cls(**{name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in _NAMES})


def render_scenes(material: Material, seeds: Sequence[int], folder: Path, *, seconds: int = 20, side: int = 112, frames: int = 2) -> None:
    """Render one scene for each seed into *folder*, with the manifest beside the arrays (scenes.jsonl)."""
    folder.mkdir(parents=True, exist_ok=True)
    scenes = [draw_scene(material, seed, seconds) for seed in seeds]
    (folder / "scenes.jsonl").write_text(write_scenes(scenes), encoding="utf-8")
    renderer = Renderer(material, side, frames)
    rendered = (renderer.render(scene) for scene in scenes)
    _write(folder, ((r.samples, r.pictures, r.labels, r.heard, r.seen) for r in rendered), len(scenes), (seconds, frames, side))


def render_drawn(labels: list[str], seeds: Sequence[int], folder: Path, *, seconds: int = 20, side: int = 112, frames: int = 2) -> None:
    """Render embedded scenes, whose levels also vary, in the form of `render_scenes`."""
    folder.mkdir(parents=True, exist_ok=True)
    scenes = (_drawn(labels, make_script(float(seconds + 8), seed), seconds, side, frames) for seed in seeds)
    _write(folder, scenes, len(seeds), (seconds, frames, side))


_Row = tuple["NDArray[np.float32]", "NDArray[np.uint8]", "NDArray[np.int64]", "NDArray[np.int64]", "NDArray[np.int64]"]


def _write(folder: Path, scenes: Iterator[_Row], count: int, sizes: tuple[int, int, int]) -> None:
    seconds, frames, side = sizes
    shapes = {"patches": (seconds, 96, 64), "pictures": (seconds, frames, side, side, 3)}
    types = {"patches": np.float16, "pictures": np.uint8}
    arrays = {
        name: np.lib.format.open_memmap(
            folder / f"{name}.npy", "w+", dtype=types.get(name, np.int64), shape=(count, *shapes.get(name, (seconds,)))
        )
        for name in _NAMES
    }
    options = LogMelOptions(offset=0.001)
    for number, (samples, *others) in enumerate(scenes):
        arrays["patches"][number] = np.stack([log_mel(second, options) for second in samples])
        for name, values in zip(_NAMES[1:], others, strict=True):
            arrays[name][number] = values
    for array in arrays.values():
        array.flush()


def _drawn(labels: list[str], script: Script, seconds: int, side: int, frames: int) -> _Row:
    """Render seconds of a script from a random start, as loud as a microphone may hear it."""
    rng = np.random.default_rng([script.seed, 9])
    first = int(rng.integers(0, 9))
    none = len(labels)
    sound = render_sound(script)[first * SAMPLES_PER_SEGMENT :][: seconds * SAMPLES_PER_SEGMENT]
    samples = np.clip(sound * 10.0 ** (rng.uniform(-20, 4) / 20.0), -1.0, 1.0).astype(np.float32)
    backdrop = render_backdrop(script, (side, side))
    times = first + (np.arange(seconds * frames) + 0.5) / frames
    pictures = np.stack([render_frame(script, float(t), (side, side), backdrop) for t in times])

    def during(spans: list[tuple[str, float, float]]) -> NDArray[np.int64]:
        out = np.full(seconds, none, np.int64)
        for kind, onset, offset in spans:
            starts = first + np.arange(seconds)
            out[np.minimum(starts + 1, offset) - np.maximum(starts, onset) >= 0.5] = labels.index(kind)  # noqa: PLR2004
        return out

    heard = during([(cue.kind, *cue.sound) for cue in script.cues if cue.sound is not None])
    seen = during([(cue.kind, *cue.picture) for cue in script.cues if cue.picture is not None])
    shape = (seconds, frames, side, side, 3)
    return samples.reshape(seconds, -1), pictures.reshape(shape), during(script.truth), heard, seen
