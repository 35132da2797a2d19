"""Writes the rendered scene into a media file, for examples, notebooks and tests that need a recording whose truth is known."""

from __future__ import annotations

from typing import TYPE_CHECKING

from streamav.capture.scene import render_backdrop, render_frame, render_sound

if TYPE_CHECKING:
    from pathlib import Path

    from streamav.capture.scene import Script

__all__ = ["write_scene"]

_PICTURE = (112, 160)
"""Height and width; the smallest that the models in the package still tell apart well (our choice)."""
_FRAMES_PER_SECOND = 8
_SAMPLE_RATE = 16_000


def write_scene(path: Path, script: Script) -> None:
    """Write a scene with sound and picture; the file must not be in use.

    Args:
        path: the new file; its suffix names the container, such as .mp4.
        script: what is heard and seen, and when.
    """
    import av

    backdrop = render_backdrop(script, _PICTURE)
    with av.open(str(path), "w") as file:
        video, audio = file.add_stream("mpeg4", rate=_FRAMES_PER_SECOND), file.add_stream("aac", rate=_SAMPLE_RATE, layout="mono")
        video.height, video.width = _PICTURE
        video.pix_fmt, video.bit_rate = "yuv420p", 800_000
        for number in range(round(_FRAMES_PER_SECOND * script.seconds)):
            picture = render_frame(script, number / _FRAMES_PER_SECOND, _PICTURE, backdrop)
            file.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        file.mux(video.encode())
        heard = av.AudioFrame.from_ndarray(render_sound(script)[None], format="fltp", layout="mono")
        heard.sample_rate = _SAMPLE_RATE
        file.mux(audio.encode(heard))
        file.mux(audio.encode())
