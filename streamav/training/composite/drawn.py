"""Renders training examples of the embedded scene, so that a model trained on photos also learns drawings and synthesized sounds.

All drawings and sounds come from `streamav.capture.scene`. It reads no files and runs no network.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from streamav.capture.scene import KINDS, Cue, Script, make_script, render_backdrop, render_frame, render_sound, synthesize
from streamav.capture.synthesis import ambience
from streamav.training.composite.render import RenderedScene
from streamav.types import SAMPLES_PER_SEGMENT, WINDOW_SEGMENTS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from torch import Tensor

__all__ = ["KINDS", "drawn_clip", "drawn_segment", "drawn_view"]

_LEAD_S = 8
"""Latest time of the script at which a clip begins, s."""
_PRESENT_S = 0.5
"""A segment has a class if the class is present in it for at least this time, s."""


def drawn_view(kind: str | None, rng: np.random.Generator, side: int) -> Tensor:
    """Draw one picture of a scene, shape (3, side, side) uint8; *kind* None draws the empty scene."""
    size = float(rng.uniform(0.4, 1.0))
    place = (float(rng.uniform(0.25, 0.75)), float(rng.uniform(0.35, 0.7)))
    cues = () if kind is None else (Cue(kind=kind, picture=(0.0, 60.0), place=place, size=size),)
    script = Script(seconds=60.0, cues=cues, seed=int(rng.integers(1 << 31)))
    frame = render_frame(script, float(rng.uniform(0.0, 30.0)), (side, side))
    return torch.from_numpy(np.ascontiguousarray(frame)).permute(2, 0, 1)


def drawn_segment(kind: str | None, rng: np.random.Generator) -> NDArray[np.float32]:
    """Synthesize one segment of a scene's sound, shape (16000,), RMS near 1; for *kind* None only the scene's ambience."""
    murmur = ambience(1.0, rng)
    if kind is None:
        return murmur
    wave = synthesize(kind, 3.0, rng)
    start = int(rng.integers(0, len(wave) - SAMPLES_PER_SEGMENT))
    part = wave[start : start + SAMPLES_PER_SEGMENT] / 0.1
    return np.asarray(part + murmur * 10.0 ** (rng.uniform(-50, -10) / 20.0), dtype=np.float32)


def drawn_clip(labels: Sequence[str], seed: int, side: int, frames: int) -> RenderedScene:
    """Render ten seconds of an embedded scene from a random start, at a random level.

    Args:
        labels: the C classes, with all of `KINDS`.
        seed: seed of script, start and level.
        side: side of the pictures, in pixels.
        frames: pictures in each segment.
    """
    rng = np.random.default_rng([seed, 9])
    first = int(rng.integers(0, _LEAD_S + 1))
    script = make_script(float(WINDOW_SEGMENTS + _LEAD_S), seed)
    sound = render_sound(script)[first * SAMPLES_PER_SEGMENT :][: WINDOW_SEGMENTS * SAMPLES_PER_SEGMENT]
    samples = np.clip(sound * 10.0 ** (rng.uniform(-20, 4) / 20.0), -1.0, 1.0).astype(np.float32)
    backdrop = render_backdrop(script, (side, side))
    times = first + (np.arange(WINDOW_SEGMENTS * frames) + 0.5) / frames
    pictures = np.stack([render_frame(script, float(t), (side, side), backdrop) for t in times])

    def during(spans: Sequence[tuple[str, float, float]]) -> NDArray[np.int64]:
        out = np.full(WINDOW_SEGMENTS, len(labels), np.int64)
        for kind, onset, offset in spans:
            starts = first + np.arange(WINDOW_SEGMENTS)
            out[np.minimum(starts + 1, offset) - np.maximum(starts, onset) >= _PRESENT_S] = labels.index(kind)
        return out

    return RenderedScene(
        samples=samples.reshape(WINDOW_SEGMENTS, -1),
        pictures=pictures.reshape(WINDOW_SEGMENTS, frames, side, side, 3),
        labels=during(script.truth),
        heard=during([(cue.kind, *cue.sound) for cue in script.cues if cue.sound is not None]),
        seen=during([(cue.kind, *cue.picture) for cue in script.cues if cue.picture is not None]),
    )
