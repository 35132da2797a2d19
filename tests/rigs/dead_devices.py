"""Writes recordings of cameras and microphones that work, and of those that see or hear nothing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import av
import numpy as np
from numpy.typing import NDArray

__all__ = ["Recording", "write_recording"]

_RATE_HZ = 16_000
_FRAMES = 10
_SIZE = (180, 320)

Picture = Literal["moving", "still", "frozen", "frozen with a clock", "black", "covered", "dusk"]
Sound = Literal["voice", "silence", "quiet", "clipped", "offset", "one channel", "two channels"]


@dataclass(frozen=True)
class Recording:
    """What a recording shows and how it is stored."""

    picture: Picture = "moving"
    sound: Sound = "voice"
    codec: Literal["libx264", "mpeg4", "mjpeg"] = "libx264"
    seconds: int = 16
    muted: range = range(0)
    """Seconds in which the microphone is muted."""


def write_recording(path: Path, made: Recording) -> Path:
    """Write the recording as a Matroska file with lossless sound and return its path."""
    options = {"preset": "veryfast", "g": "20"} if made.codec == "libx264" else {}
    sound = _sound(made.sound, made.seconds)
    sound[:, made.muted.start * _RATE_HZ : made.muted.stop * _RATE_HZ] = 0.0
    with av.open(str(path), "w", format="matroska") as file:
        video = file.add_stream(made.codec, rate=_FRAMES, options=options)
        video.width, video.height = _SIZE[1], _SIZE[0]
        video.pix_fmt = "yuvj420p" if made.codec == "mjpeg" else "yuv420p"
        audio = file.add_stream("pcm_s16le", rate=_RATE_HZ, layout="stereo" if len(sound) == 2 else "mono")
        for number in range(made.seconds * _FRAMES):
            file.mux(video.encode(av.VideoFrame.from_ndarray(_picture(made.picture, number), format="rgb24")))
            block = sound[:, number * _RATE_HZ // _FRAMES : (number + 1) * _RATE_HZ // _FRAMES]
            packed = np.ascontiguousarray((np.clip(block, -1.0, 1.0) * 32767).astype(np.int16).T.reshape(1, -1))
            frame = av.AudioFrame.from_ndarray(packed, format="s16", layout="stereo" if len(sound) == 2 else "mono")
            frame.sample_rate = _RATE_HZ
            file.mux(audio.encode(frame))
        file.mux(video.encode())
        file.mux(audio.encode())
    return path


def _scene() -> NDArray[np.float64]:
    """Return a scene: a few surfaces of different brightness with fine texture."""
    random = np.random.default_rng(5)
    coarse = np.kron(random.uniform(40, 200, (6, 8, 3)), np.ones((30, 40, 1)))
    return coarse + random.uniform(-12, 12, (*_SIZE, 3))


_SCENE = _scene()


def _picture(kind: Picture, number: int) -> NDArray[np.uint8]:
    random = np.random.default_rng(number)
    noise = random.normal(0.0, 3.0, (*_SIZE, 3))
    if kind in {"black", "covered", "dusk"}:
        fall = np.linspace(1.0, 0.4, _SIZE[1])[None, :, None]  # light that comes in from one side
        light = {"black": 6.0 + 0.0 * fall, "covered": 90.0 * fall, "dusk": 8.0 + 0.15 * _SCENE}[kind]
        return np.clip(light + noise, 0, 255).astype(np.uint8)
    shown = _SCENE.copy()
    if kind == "moving":
        left = 4 * number % (_SIZE[1] - 60)
        shown[40:120, left : left + 50] = 230
    if kind == "frozen with a clock":
        shown[4:20, 4:100] = 16
        for place in range(8):  # the bits of the seconds
            if number // _FRAMES >> place & 1:
                shown[6:18, 6 + 10 * place : 13 + 10 * place] = 235
    if kind in {"moving", "still"}:
        shown = shown + noise
    return np.clip(shown, 0, 255).astype(np.uint8)


def _sound(kind: Sound, seconds: int) -> NDArray[np.float64]:
    """Return samples, shape (channels, n)."""
    count = seconds * _RATE_HZ
    time_s = np.arange(count) / _RATE_HZ
    noise = np.random.default_rng(9).normal(0.0, 1.0, count)
    voice = 0.2 * np.sin(2 * np.pi * 180 * time_s) * (np.sin(2 * np.pi * 0.7 * time_s) > 0) + 0.002 * noise
    made = {
        "voice": voice,
        "silence": np.zeros(count),
        "quiet": 0.0005 * noise,  # -66 dBFS: a bedroom at night
        "clipped": np.clip(20.0 * voice, -1.0, 1.0),
        "offset": 0.2 + 0.1 * voice,
    }
    if kind == "one channel":
        return np.stack([voice, np.zeros(count)])
    if kind == "two channels":
        return np.stack([voice, 0.3 * voice])
    return made[kind][None]
