"""Writes small media files and defines an engine with simple formulas as encoders, for tests of feature extraction."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
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


def write_flashes(path: Path, seconds: float, *, pictures: bool = True, sound: bool = True) -> Path:
    """Write a clip in which every second begins with 0.4 s of a white picture and a beep of 1 kHz; the rest is black and quiet.

    H.264 with 25 pictures a second of 64 x 48 and AAC at 48 kHz; either may be left out. The suffix of the name chooses the container.
    """
    rate = 48_000
    with av.open(str(path), "w") as out:
        video = out.add_stream("libx264", rate=25, options={"preset": "ultrafast", "g": "25", "bf": "0"}) if pictures else None
        audio = out.add_stream("aac", rate=rate, layout="mono") if sound else None
        if video is not None:
            video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        for number in range(round(seconds * 25)):
            if video is not None:
                shade = 235 if number % 25 < 10 else 16
                frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), shade, np.uint8), format="rgb24")
                frame.pts, frame.time_base = number, Fraction(1, 25)
                out.mux(video.encode(frame))
            if audio is not None:
                time_s = (np.arange(rate // 25) + number * rate // 25) / rate
                samples = (12_000 * np.sin(2 * np.pi * 1_000 * time_s) * (time_s % 1.0 < 0.4)).astype(np.int16)
                part = av.AudioFrame.from_ndarray(samples[None, :], format="s16", layout="mono")
                part.sample_rate, part.time_base, part.pts = rate, Fraction(1, rate), number * rate // 25
                out.mux(audio.encode(part))
        for stream in (video, audio):
            if stream is not None:
                out.mux(stream.encode(None))
    return path
