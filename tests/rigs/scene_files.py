"""Writes the rendered scene as a media file, for tests that need events in a file."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np

from streamav.capture.scene import make_script, render_backdrop, render_frame, render_sound

__all__ = ["write_scene"]

PICTURE = (112, 160)
RATE = 4
HZ = 16_000


def write_scene(path: Path, seconds: float) -> None:
    """Write the rendered scene as an MP4 with H.264 and AAC."""
    script = make_script(seconds)
    backdrop, sound = render_backdrop(script, PICTURE), render_sound(script)
    with av.open(str(path), "w") as file:
        video = file.add_stream("libx264", rate=RATE, options={"preset": "ultrafast", "g": str(2 * RATE)})
        audio = file.add_stream("aac", rate=HZ, layout="mono")
        video.height, video.width = PICTURE
        video.pix_fmt = "yuv420p"
        for second in range(round(seconds)):
            for number in range(RATE * second, RATE * (second + 1)):
                frame = av.VideoFrame.from_ndarray(render_frame(script, number / RATE, PICTURE, backdrop), format="rgb24")
                file.mux(video.encode(frame))
            block = np.ascontiguousarray(sound[None, HZ * second : HZ * (second + 1)])
            heard = av.AudioFrame.from_ndarray(block, format="fltp", layout="mono")
            heard.sample_rate, heard.pts = HZ, HZ * second
            file.mux(audio.encode(heard))
        file.mux(video.encode())
        file.mux(audio.encode())
