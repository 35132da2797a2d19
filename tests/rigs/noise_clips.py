"""Writes small recordings of noise and grey pictures."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np

__all__ = ["write_noise"]


def write_noise(path: Path, seconds: int, seed: int = 0) -> Path:
    """Write a small file of noise that grows and falls."""
    random = np.random.default_rng(seed)
    with av.open(str(path), "w") as out:
        video, audio = out.add_stream("mpeg4", rate=4), out.add_stream("pcm_s16le", rate=16_000, layout="mono")
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        for _ in range(4 * seconds):
            picture = np.full((48, 64, 3), random.integers(0, 256), np.uint8)
            out.mux(video.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
        out.mux(video.encode())
        loudness = np.repeat(random.random(seconds), 16_000)
        sound = av.AudioFrame.from_ndarray((20_000 * loudness * random.uniform(-1, 1, len(loudness))).astype(np.int16)[None], "s16", "mono")
        sound.sample_rate = 16_000
        out.mux(audio.encode(sound))
        out.mux(audio.encode())
    return path
