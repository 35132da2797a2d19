"""Renders training examples of the embedded scene, so that a model of photos also knows its drawings and synthesized sounds.

It takes everything from `streamav.capture.scene` and knows no file and no network.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from streamav.capture.scene import KINDS, Cue, Script, render_frame, synthesize
from streamav.capture.synthesis import ambience
from streamav.types import SAMPLES_PER_SEGMENT

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

__all__ = ["KINDS", "drawn_second", "drawn_view"]


def drawn_view(kind: str | None, rng: np.random.Generator, side: int) -> Tensor:
    """Draw one moment of a scene, shape (3, side, side) uint8; None draws the empty scene."""
    size = float(rng.uniform(0.4, 1.0))
    place = (float(rng.uniform(0.25, 0.75)), float(rng.uniform(0.35, 0.7)))
    cues = () if kind is None else (Cue(kind=kind, picture=(0.0, 60.0), place=place, size=size),)
    script = Script(seconds=60.0, cues=cues, seed=int(rng.integers(1 << 31)))
    frame = render_frame(script, float(rng.uniform(0.0, 30.0)), (side, side))
    return torch.from_numpy(np.ascontiguousarray(frame)).permute(2, 0, 1)


def drawn_second(kind: str | None, rng: np.random.Generator) -> NDArray[np.float32]:
    """Synthesize one second of a scene's sound, RMS near 1; None gives its murmur alone."""
    murmur = ambience(1.0, rng)
    if kind is None:
        return murmur
    wave = synthesize(kind, 3.0, rng)
    start = int(rng.integers(0, len(wave) - SAMPLES_PER_SEGMENT))
    part = wave[start : start + SAMPLES_PER_SEGMENT] / 0.1
    return np.asarray(part + murmur * 10.0 ** (rng.uniform(-50, -10) / 20.0), dtype=np.float32)
