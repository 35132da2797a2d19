"""Renders composite scenes segment by segment: samples, pictures, and the class that is both heard and seen.

It takes scenes and material and runs no network. It also decides the truth of a scene, because the samples decide what is audible.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional

from streamav.training.composite.picture import scale, soften, to_tensor
from streamav.training.composite.sound import FRAME_SAMPLES, activity, colour, noise, repeat, reverberate, rms, to_level
from streamav.types import SAMPLE_RATE_HZ, SAMPLES_PER_SEGMENT

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from streamav.training.composite.material import Item, Material
    from streamav.training.composite.scene import Played, Scene, Shown

__all__ = ["RenderedScene", "Renderer"]

AUDIBLE_SHARE = 0.2
"""A class is heard in a segment if its sound is audible in at least this share of the segment."""
VISIBLE_SHARE = 0.5
"""A class is seen in a segment if its photo is on display for at least this share of the segment."""
LOUDEST_DBFS = -8.0
"""Highest level of a sound, dBFS, so that hardly a sample is clipped."""


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class RenderedScene:
    """T segments of a scene."""

    samples: NDArray[np.float32]
    """Shape (T, 16000), range [-1, 1]."""
    pictures: NDArray[np.uint8]
    """Shape (T, F, side, side, 3), RGB."""
    labels: NDArray[np.int64]
    """Shape (T,), 0 to C; C is background."""
    heard: NDArray[np.int64]
    """Shape (T,): class that is audible, C for none."""
    seen: NDArray[np.int64]
    """Shape (T,): class on display for at least half of the segment, C for none."""


class Renderer:
    """Renders scenes from the material of one split."""

    def __init__(self, material: Material, side: int = 112, frames_per_second: int = 2) -> None:
        """Set the side of the pictures in pixels, and the number of pictures in each segment."""
        self._material = material
        self._items: dict[str, Item] = {item.path: item for item in material.items}
        self._side, self._frames = side, frames_per_second

    def render(self, scene: Scene) -> RenderedScene:
        """Render one scene."""
        samples, heard = self._sound(scene, np.random.default_rng([scene.seed, 1]))
        pictures, seen = self._pictures(scene, np.random.default_rng([scene.seed, 2]))
        none = len(self._material.labels)
        # One class for each segment: of two that are heard and seen, the one that is seen for longer.
        both = (heard >= AUDIBLE_SHARE) & (seen >= VISIBLE_SHARE)
        labels = np.where(both.any(axis=1), np.argmax(both * seen, axis=1), none)
        return RenderedScene(
            samples=samples,
            pictures=pictures,
            labels=labels.astype(np.int64),
            heard=np.where((heard >= AUDIBLE_SHARE).any(axis=1), heard.argmax(axis=1), none).astype(np.int64),
            seen=np.where((seen >= VISIBLE_SHARE).any(axis=1), seen.argmax(axis=1), none).astype(np.int64),
        )

    def _sound(self, scene: Scene, rng: np.random.Generator) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        """Return samples (T, 16000), and the share of each segment in which each class is audible (T, C)."""
        count = scene.seconds * SAMPLES_PER_SEGMENT
        mixed = self._ambience(scene, rng, count)
        heard = np.zeros((scene.seconds, len(self._material.labels)))
        room = rng.random() < 0.3 and not scene.plain  # noqa: PLR2004
        for played in scene.played:
            start = round(played.onset_s * SAMPLE_RATE_HZ)
            wave = self._wave(played, rng, plain=scene.plain)
            audible = np.repeat(activity(wave), FRAME_SAMPLES)[: len(wave)]
            wave = reverberate(wave, rng) if room else wave
            left, right = max(0, start), min(count, start + len(wave))
            if left >= right:
                continue
            level = min(LOUDEST_DBFS, scene.ambience_dbfs + played.snr_db)
            mixed[left:right] += to_level(wave, level)[left - start : right - start]
            flags = np.zeros(count, np.bool_)
            flags[left:right] = audible[left - start : right - start]
            share = flags.reshape(scene.seconds, -1).mean(axis=1)
            heard[:, played.label] = np.maximum(heard[:, played.label], share)
        mixed = colour(mixed, rng, 5.0) if rng.random() < 0.4 and not scene.plain else mixed  # noqa: PLR2004
        return np.clip(mixed, -1.0, 1.0).reshape(scene.seconds, -1).astype(np.float32), heard

    def _ambience(self, scene: Scene, rng: np.random.Generator, count: int) -> NDArray[np.float32]:
        wave = noise(count, rng) if not scene.ambience else self._material.sound(self._items[scene.ambience])
        if len(wave) < count:
            wave = repeat(wave, count)
        start = int(rng.integers(0, len(wave) - count + 1))
        part = wave[start : start + count]
        return (part * np.float32(10.0 ** (scene.ambience_dbfs / 20.0) / max(rms(part), 1e-4))).astype(np.float32)

    def _wave(self, played: Played, rng: np.random.Generator, *, plain: bool) -> NDArray[np.float32]:
        wave = self._material.sound(self._items[played.path])
        length = max(1, round((played.offset_s - played.onset_s) * SAMPLE_RATE_HZ))
        wave = repeat(wave, length, round(played.pause_s * SAMPLE_RATE_HZ)) if played.repeated else wave[:length]
        return colour(wave, rng) if rng.random() < 0.5 and not plain else wave  # noqa: PLR2004

    def _pictures(self, scene: Scene, rng: np.random.Generator) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
        """Return pictures (T, F, side, side, 3), and the share of each segment for which each class is on display (T, C)."""
        softness = (0.0, 0.0) if scene.plain else (0.4, 0.6)
        backdrop = soften(to_tensor(self._material.picture(self._items[scene.backdrop])), rng, softness[0])
        photos = [soften(to_tensor(self._material.picture(self._items[one.path])), rng, softness[1]) for one in scene.shown]
        camera = _Camera(rng)
        moves = [_Camera(rng) for _ in photos]
        frames = []
        for number in range(scene.seconds * self._frames):
            time_s = (number + 0.5) / self._frames
            frame = scale(camera.cut(backdrop, time_s, 0.6), self._side, self._side)
            for shown, photo, move in zip(scene.shown, photos, moves, strict=True):
                if shown.onset_s <= time_s < shown.offset_s:
                    frame = self._show(frame, move.cut(photo, time_s, 0.85), shown, camera.shift(time_s))
            frames.append(frame)
        seen_light = torch.stack(frames) if scene.plain else _light(torch.stack(frames).float(), rng).to(torch.uint8)
        looked = seen_light.permute(0, 2, 3, 1)
        seen = np.zeros((scene.seconds, len(self._material.labels)))
        starts = np.arange(scene.seconds)
        for shown in scene.shown:
            share = np.clip(np.minimum(starts + 1, shown.offset_s) - np.maximum(starts, shown.onset_s), 0.0, 1.0)
            seen[:, shown.label] = np.maximum(seen[:, shown.label], share)
        return looked.reshape(scene.seconds, self._frames, self._side, self._side, 3).numpy(), seen

    def _show(self, frame: Tensor, photo: Tensor, shown: Shown, shift: tuple[float, float]) -> Tensor:
        if shown.box is None:
            return scale(photo, self._side, self._side)
        top, left, height, width = shown.box
        top, left = (float(np.clip(a + b, 0.0, 1.0 - c)) for a, b, c in zip((top, left), shift, (height, width), strict=True))
        rows, columns = (max(8, round(share * self._side)) for share in (height, width))
        y, x = (min(round(share * self._side), self._side - n) for share, n in ((top, rows), (left, columns)))
        out = frame.clone()
        out[:, y : y + rows, x : x + columns] = scale(photo, rows, columns)
        return out


class _Camera:
    """A slow pan and zoom with some jitter: a moving part that is cut out of a picture."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._mirror = rng.random() < 0.5  # noqa: PLR2004
        self._squash = float(np.exp(rng.uniform(-0.35, 0.35)))
        self._start, self._drift = rng.uniform(0, 1, 3), rng.uniform(-0.05, 0.05, 3)
        self._jitter = float(rng.choice([0.0, rng.uniform(0.0, 0.04)]))
        self._seed = int(rng.integers(1 << 31))

    def shift(self, time_s: float) -> tuple[float, float]:
        """Return the jitter at one time, down and right, as shares of the picture."""
        rng = np.random.default_rng([self._seed, round(time_s * 100)])
        return (self._jitter * float(rng.uniform(-1, 1)), self._jitter * float(rng.uniform(-1, 1)))

    def cut(self, picture: Tensor, time_s: float, least: float) -> Tensor:
        """Cut out the visible part: *least* to 1 of each side, changed by the camera's squash."""
        down, right, zoom = (float(abs((x + 1.0) % 2.0 - 1.0)) for x in self._start + self._drift * time_s)
        keep = least + (1.0 - least) * zoom
        height = max(8, int(picture.shape[1] * min(1.0, keep * self._squash)))
        width = max(8, int(picture.shape[2] * min(1.0, keep / self._squash)))
        jitter = self.shift(time_s)
        top = int(np.clip((down + jitter[0]) * (picture.shape[1] - height), 0, picture.shape[1] - height))
        left = int(np.clip((right + jitter[1]) * (picture.shape[2] - width), 0, picture.shape[2] - width))
        part = picture[:, top : top + height, left : left + width]
        return part.flip(2) if self._mirror else part


def _light(frames: Tensor, rng: np.random.Generator) -> Tensor:
    """Change all frames of a scene (n, 3, S, S) to one light, colour and sharpness, and add noise to each; range 0 to 255."""
    side = frames.shape[2]
    x = frames
    if rng.random() < 0.3:  # noqa: PLR2004
        small = int(rng.integers(side * 3 // 8, side * 7 // 8))
        coarse = functional.interpolate(x, (small, small), mode="bilinear", antialias=True)
        x = functional.interpolate(coarse, (side, side), mode="bilinear")
    grey = x.mean(dim=1, keepdim=True)
    x = grey + (x - grey) * (0.0 if rng.random() < 0.08 else float(rng.uniform(0.6, 1.35)))  # noqa: PLR2004
    gains = torch.from_numpy(np.exp(rng.uniform(-0.15, 0.15, (1, 3, 1, 1))).astype(np.float32))
    light = rng.uniform(0.12, 0.5) if rng.random() < 0.12 else rng.uniform(0.7, 1.2)  # noqa: PLR2004
    x = ((x - 116.0) * float(rng.uniform(0.7, 1.25)) + 116.0) * gains * float(light)
    sigma = float(rng.choice([0.0, rng.uniform(0.0, 12.0)]))
    grain = torch.from_numpy(rng.standard_normal((1, *x.shape[1:]), dtype=np.float32))
    # One noise pattern, shifted for each frame: new noise for each frame costs more than the frames.
    x = torch.stack([frame + sigma * grain[0].roll(7 * n, 2) for n, frame in enumerate(x)]) if sigma > 0.5 else x  # noqa: PLR2004
    return x.clamp(0.0, 255.0).round()
