"""Measures how the cost of each stage grows with the number of streams, names the stage that is full first, and draws it.

Each number of streams runs in a separate process (`streamav.bench.stages`). Every stream decodes a camera's small stream: the embedded
scene in H.264, unless a file is given.
"""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from streamav.bench.process import ask
from streamav.bench.stages import STAGES, StageCosts
from streamav.errors import MissingExtraError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from streamav.bench.trial import TrialRequest

__all__ = ["Growth", "draw", "full_first", "measure_growth"]

STREAMS = (1, 4, 16, 64)
"""Numbers of streams that are measured (our choice)."""
CAMERA = (640, 360)
"""Width and height of the stream that each source decodes: the second, small stream of a usual camera."""
CAMERA_RATE = 12
"""Pictures a second of the stream (our choice: usual for such a stream)."""
SCENE_S = 14
"""Length of the file of each source, s: one turn of the embedded scene, which is played in a loop."""
_PATIENCE_S = 240.0
"""Time beyond the measured one after which a measurement has failed, s: for loading and building (our choice)."""
_THREAD = 1.0
"""What one thread can give: seconds in a second."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Growth:
    """The costs at each number of streams, and the stage that is full first."""

    costs: tuple[StageCosts, ...]
    first: str
    """Stage, or "features, window and tracker", which share one thread."""
    streams: float
    """About how many streams the machine carries."""


def measure_growth(request: TrialRequest, told: Callable[[StageCosts], None]) -> Growth:
    """Measure 1, 4, 16 and 64 streams; *told* takes each result.

    Raises:
        StreamavError: when the model, the engine or the file cannot be used.
    """
    costs: list[StageCosts] = []
    with TemporaryDirectory() as folder:
        source = request.source
        if source is None:
            source = str(Path(folder) / "camera.mp4")
            _write_camera(Path(source))
        for streams in STREAMS:
            asked = replace(request, source=source, streams=streams)
            found = ask(
                "streamav.bench.stages",
                asdict(asked),
                what=f"{streams} streams",
                threads=1,
                limit_s=asked.media_s + _PATIENCE_S,
            )
            costs.append(StageCosts(**found))
            told(costs[-1])
    first, streams_at = full_first(costs, len(os.sched_getaffinity(0)))
    return Growth(costs=tuple(costs), first=first, streams=streams_at)


def full_first(costs: Sequence[StageCosts], cores: int) -> tuple[str, float]:
    """Return the stage that is full first when streams are added, and about how many streams the machine carries.

    Decoding may use all cores; the three stages of the inference thread share one; the loop has one. All of them together have the cores.
    The cost of a further stream is the slope between the smallest and the largest number of streams.
    """
    least, most = min(costs, key=lambda one: one.streams), max(costs, key=lambda one: one.streams)

    def slope(*stages: str) -> float:
        more: float = sum(getattr(most, stage) - getattr(least, stage) for stage in stages)
        return max(1e-9, more / (most.streams - least.streams))

    shares = {
        "decode": slope("decode") / cores,
        "features, window and tracker": slope("features", "window", "tracker") / _THREAD,
        "publish": slope("publish") / _THREAD,
    }
    first = max(shares, key=lambda name: shares[name])
    return first, 1.0 / max(shares[first], slope(*STAGES) / cores)


def _write_camera(path: Path) -> None:
    """Write the embedded scene as the stream of a camera."""
    import av
    import numpy as np

    from streamav.capture.scene import make_script, render_backdrop, render_frame, render_sound
    from streamav.types import SAMPLE_RATE_HZ

    script, (width, height) = make_script(float(SCENE_S)), CAMERA
    backdrop, sound = render_backdrop(script, (height, width)), render_sound(script)
    with av.open(str(path), "w") as file:
        video = file.add_stream("libx264", rate=CAMERA_RATE, options={"preset": "veryfast", "g": str(2 * CAMERA_RATE)})
        audio = file.add_stream("aac", rate=SAMPLE_RATE_HZ, layout="mono")
        video.width, video.height, video.pix_fmt = width, height, "yuv420p"
        for second in range(SCENE_S):
            for number in range(CAMERA_RATE * second, CAMERA_RATE * (second + 1)):
                shown = render_frame(script, number / CAMERA_RATE, (height, width), backdrop)
                file.mux(video.encode(av.VideoFrame.from_ndarray(shown, format="rgb24")))
            samples = np.ascontiguousarray(sound[None, SAMPLE_RATE_HZ * second : SAMPLE_RATE_HZ * (second + 1)])
            heard = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
            heard.sample_rate, heard.pts = SAMPLE_RATE_HZ, SAMPLE_RATE_HZ * second
            file.mux(audio.encode(heard))
        file.mux(video.encode())
        file.mux(audio.encode())


def draw(growth: Growth, path: Path, title: str) -> None:
    """Draw one line for each stage, streams against processor seconds in a second, as SVG.

    Raises:
        MissingExtraError: when matplotlib is not installed.
    """
    try:
        import matplotlib as mpl
        from matplotlib.figure import Figure
    except ImportError as exc:
        package, extra = "matplotlib", "train"
        raise MissingExtraError(package, extra) from exc
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "streamav"}):
        figure = Figure(figsize=(7.0, 4.0), layout="constrained")
        axes = figure.add_subplot()
        streams = [one.streams for one in growth.costs]
        for stage in STAGES:
            axes.plot(streams, [max(1e-4, getattr(one, stage)) for one in growth.costs], marker="o", label=stage)
        axes.axhline(1.0, color="grey", linestyle=":", label="one core")
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        axes.set_xticks(streams, [str(number) for number in streams])
        axes.set_xlabel("streams")
        axes.set_ylabel("processor s for 1 s of all streams")
        axes.set_title(f"{title}\nfull first: {growth.first}, the machine at about {growth.streams:.0f} streams", fontsize=9)
        axes.grid(visible=True, alpha=0.3)
        axes.legend(fontsize=8)
        figure.savefig(path, format="svg", metadata={"Date": None})
