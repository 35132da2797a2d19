"""Writes small media files and defines an engine with simple formulas as encoders, for tests of feature extraction."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from streamav.bundle import AudioCard, ClassEntry, DetectionCard, LocalizerCard, ModelCard, VisualCard

Array = NDArray[np.generic]
CARD = ModelCard(
    name="formula",
    version="1",
    profile="custom",
    classes=(ClassEntry(slug="bark", name="Bark"),),
    audio=AudioCard(network="compact_audio", log_mel_offset=0.01, size=3),
    visual=VisualCard(network="compact_visual", picture=(14, 14), frames_per_second=2, size=4, grid=7),
    localizer=LocalizerCard(options={}),
    detection=DetectionCard(on=0.6, off=0.4),
    licence_note="none",
)


@dataclass
class Formula:
    """An engine whose encoders return the mean brightness and the mean of the log-mel values."""

    name: str = "formula"
    seconds: int = 0

    def network(self, name: str) -> Callable[..., tuple[NDArray[np.float32]]]:
        return self.visual if name == "visual" else self.audio

    def visual(self, frames: Array) -> tuple[NDArray[np.float32]]:
        return (np.repeat(frames.reshape(len(frames), 7, 2, 7, 2, 3).mean(axis=(2, 4, 5))[..., None], 4, axis=3).astype(np.float32),)

    def audio(self, mel: Array) -> tuple[NDArray[np.float32]]:
        self.seconds += len(mel)
        return (np.repeat(mel.mean(axis=(1, 2))[:, None], 3, axis=1).astype(np.float32),)


def write_clip(path: Path, seconds: float, brightness: int) -> None:
    with av.open(str(path), "w") as file:
        video, audio = file.add_stream("mpeg4", rate=10), file.add_stream("aac", rate=16000, layout="mono")
        video.width = video.height = 32
        video.pix_fmt = "yuv420p"
        for _ in range(round(10 * seconds)):
            file.mux(video.encode(av.VideoFrame.from_ndarray(np.full((32, 32, 3), brightness, dtype=np.uint8), format="rgb24")))
        file.mux(video.encode())
        sound = av.AudioFrame.from_ndarray(np.zeros((1, round(16000 * seconds)), dtype=np.float32), format="fltp", layout="mono")
        sound.sample_rate = 16000
        file.mux(audio.encode(sound))
        file.mux(audio.encode())
