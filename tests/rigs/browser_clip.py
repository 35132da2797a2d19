"""Writes a recording that browsers play, for tests of reports."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np

__all__ = ["write_playable"]


def write_playable(path: Path, seconds: int) -> None:
    """Write H.264 with AAC: second k is a grey picture of brightness 20 k with a tone."""
    with av.open(str(path), "w") as file:
        video, audio = file.add_stream("libx264", rate=10), file.add_stream("aac", rate=48_000, layout="mono")
        video.width = video.height = 96
        video.pix_fmt = "yuv420p"
        for number in range(10 * seconds):
            picture = np.full((96, 96, 3), 20 * (number // 10) % 240, np.uint8)
            file.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        file.mux(video.encode())
        tone = 0.3 * np.sin(2 * np.pi * 440.0 * np.arange(48_000 * seconds) / 48_000)
        sound = av.AudioFrame.from_ndarray(tone.astype(np.float32)[None], format="fltp", layout="mono")
        sound.sample_rate = 48_000
        file.mux(audio.encode(sound))
        file.mux(audio.encode())
