"""Runs frozen encoders over stored scenes, and cuts windows at any phase for the localizer.

It knows the encoders only as functions of arrays, and no localizer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from streamav.training.feature_set import Batch, FeatureSet, epoch_generator
from streamav.types import WINDOW_SEGMENTS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from streamav.training.composite.store import StoredScenes

__all__ = ["SceneFeatures", "WindowOptions", "Windows", "encode", "stacked", "stream_windows", "window_set"]

T = WINDOW_SEGMENTS


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class SceneFeatures:
    """Features of n scenes of S seconds."""

    audio: NDArray[np.float32]
    """Shape (n, S, A)."""
    visual: NDArray[np.float16]
    """Shape (n, S, G, G, V): mean over the frames of a second."""
    labels: NDArray[np.int64]
    """Shape (n, S), 0 to C; C is background."""
    heard: NDArray[np.int64]
    """Shape (n, S): class that is audible, C for none."""
    seen: NDArray[np.int64]
    """Shape (n, S): class on display, C for none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowOptions:
    """How training windows are drawn and disturbed."""

    batch: int = 48
    steps: int = 120
    """Batches of an epoch."""
    seed: int = 0
    noise: float = 0.15
    """Standard deviation of the noise on features, as a share of each modality's own."""
    swap: float = 0.1
    """Share of windows that hear one scene and see another: background wherever the classes disagree."""


def encode(
    scenes: StoredScenes,
    audio: Callable[[NDArray[np.float32]], NDArray[np.float32]],
    visual: Callable[[NDArray[np.uint8]], NDArray[np.float32]],
) -> SceneFeatures:
    """Run both encoders over every second of *scenes*."""
    heard, seen = [], []
    for number in range(len(scenes.labels)):
        heard.append(audio(scenes.patches[number].astype(np.float32)))
        pictures = scenes.pictures[number]  # (S, F, side, side, 3)
        grids = visual(pictures.reshape(-1, *pictures.shape[2:]))
        seen.append(grids.reshape(*pictures.shape[:2], *grids.shape[1:]).mean(axis=1).astype(np.float16))
    return SceneFeatures(
        audio=np.stack(heard),
        visual=np.stack(seen),
        labels=np.array(scenes.labels),
        heard=np.array(scenes.heard),
        seen=np.array(scenes.seen),
    )


def stacked(parts: Sequence[SceneFeatures]) -> SceneFeatures:
    """Join feature sets of scenes of one length."""
    names = ("audio", "visual", "labels", "heard", "seen")
    return SceneFeatures(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in names})


class Windows:
    """Batches of random windows, the same for the same epoch number; fills the trainer's role EpochBatches."""

    def __init__(self, features: SceneFeatures, classes: int, options: WindowOptions) -> None:
        """Take scenes of at least ten seconds."""
        self._features, self._classes, self._options = features, classes, options
        self._audio_noise = options.noise * float(features.audio.std())
        self._visual_noise = options.noise * float(features.visual[::8].astype(np.float32).std())

    def __call__(self, epoch: int) -> Iterator[Batch]:
        """Give the batches of one epoch."""
        rng = epoch_generator(self._options.seed, epoch)
        for _ in range(self._options.steps):
            yield self._batch(rng)

    def _batch(self, rng: np.random.Generator) -> Batch:
        found, size = self._features, self._options.batch
        count, length = found.labels.shape
        rows = rng.integers(0, count, size)
        other = np.where(rng.random(size) < self._options.swap, rng.integers(0, count, size), rows)
        places = rng.integers(0, length - T + 1, size)[:, None] + np.arange(T)
        labels = found.labels[rows[:, None], places]
        # Where the picture is another scene's, a second is an event only if by chance the classes agree.
        swapped = np.where(
            found.heard[rows[:, None], places] == found.seen[other[:, None], places], found.heard[rows[:, None], places], self._classes
        )
        labels = np.where((other == rows)[:, None], labels, swapped)
        audio = found.audio[rows[:, None], places]
        visual = found.visual[other[:, None], places].astype(np.float32)
        audio = audio + rng.standard_normal(audio.shape, dtype=np.float32) * np.float32(self._audio_noise)
        # Noise of the grid is drawn once a second and channel: noise on single cells would average out.
        visual += rng.standard_normal((size, T, 1, 1, visual.shape[-1]), dtype=np.float32) * np.float32(self._visual_noise)
        return Batch(
            audio=torch.from_numpy(audio.astype(np.float32)),
            visual=torch.from_numpy(visual),
            labels=torch.from_numpy(labels.astype(np.int64)),
            tags=torch.from_numpy(_tags(labels, self._classes)),
        )


def _tags(labels: NDArray[np.int64], classes: int) -> NDArray[np.float32]:
    tags = np.zeros((len(labels), classes + 1), np.float32)
    tags[np.arange(len(labels))[:, None], labels] = 1.0
    tags[:, classes] = (labels == classes).all(axis=1)
    return tags


def window_set(features: SceneFeatures, classes: int, stride: int = 5) -> FeatureSet:
    """Give every window of the scenes at a stride, for selection."""
    starts = range(0, features.labels.shape[1] - T + 1, stride)
    audio, visual, labels = (
        np.concatenate([array[:, start : start + T] for start in starts]) for array in (features.audio, features.visual, features.labels)
    )
    tags = _tags(labels, classes)
    return FeatureSet(audio=audio, visual=visual, labels=labels, tags=tags, rows=np.arange(len(labels)), name="composite scenes")


def stream_windows(
    features: SceneFeatures,
    encode_segment: Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, ...]],
    localize: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
) -> NDArray[np.float32]:
    """Say what every window of the scenes, joined to one stream, is: shape (n S - 9, 10, C + 1), rows sum to 1.

    Args:
        features: n scenes.
        encode_segment: of a VSCG network.
        localize: gives segment logits (B, T, C + 1) of encoded seconds.
    """
    audio = torch.from_numpy(features.audio).flatten(0, 1)
    visual = torch.from_numpy(features.visual).flatten(0, 1)
    with torch.inference_mode():
        parts = [encode_segment(audio[n : n + 256], visual[n : n + 256].float())[:2] for n in range(0, len(audio), 256)]
        heard, seen = (torch.cat([part[side] for part in parts]) for side in (0, 1))
        windows = [torch.arange(start, start + T) for start in range(len(heard) - T + 1)]
        said = []
        for n in range(0, len(windows), 128):
            places = torch.stack(windows[n : n + 128])
            said.append(torch.softmax(localize(heard[places], seen[places]), dim=-1))
    return torch.cat(said).numpy()
