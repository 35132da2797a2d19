"""Makes recordings whose pictures can be counted, rings of their packets, events, and a sink that writes clips of them."""

from __future__ import annotations

import asyncio
import functools
import tempfile
from pathlib import Path
from typing import Any

import av
import numpy as np

from streamav.capture.look import Look
from streamav.capture.media import MediaSource
from streamav.clips import ClipSink, PacketRing
from streamav.config import ClipSettings
from streamav.types import SEGMENT_NS, EndReason, Event, EventPhase, Location, ScoredSegment, SourceState

__all__ = ["PLACE", "ULID", "event", "ring_of", "run_sink", "seconds_of", "times_of", "write_counting"]

PLACE = Location(grid=(2, 2), peak=(0.75, 0.25), box=(0.5, 0.0, 1.0, 0.5), heat=((0.0, 1.0), (0.0, 0.0)))
ULID = "01M2FQ15JR5C4M5W1X2T7R3H6B"


def write_counting(path: Path, seconds: int, codecs: tuple[str, str] = ("libx264", "aac"), key_s: int = 2) -> Path:
    """Write a file whose picture is brighter in each second: 8 x second; the sound is a tone."""
    path.write_bytes(_counting(path.suffix, seconds, codecs, key_s))
    return path


@functools.cache
def _counting(suffix: str, seconds: int, codecs: tuple[str, str], key_s: int) -> bytes:
    """Return the content of such a file; many tests use the same one, and encoding takes most of their time."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"counting{suffix}")
        _encode_counting(path, seconds, codecs, key_s)
        return path.read_bytes()


def _encode_counting(path: Path, seconds: int, codecs: tuple[str, str], key_s: int) -> None:
    rate = 8_000 if codecs[1] == "pcm_alaw" else 48_000
    tone = (8_000 * np.sin(2 * np.pi * 440 * np.arange(rate // 10) / rate)).astype(np.int16)[None]
    with av.open(str(path), "w") as file:
        video: Any = file.add_stream(codecs[0], rate=10, options={"g": str(10 * key_s), "preset": "ultrafast"})
        video.width, video.height, video.pix_fmt = 64, 48, "yuvj420p" if codecs[0] == "mjpeg" else "yuv420p"
        audio: Any = file.add_stream(codecs[1], rate=rate, layout="mono")
        resampler = av.AudioResampler(audio.codec_context.format, "mono", rate, frame_size=audio.codec_context.frame_size or rate // 10)
        for number in range(10 * seconds):
            picture = np.full((48, 64, 3), 8 * (number // 10), np.uint8)
            file.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            frame = av.AudioFrame.from_ndarray(tone, format="s16", layout="mono")
            frame.sample_rate, frame.pts = rate, number * tone.size
            file.mux([packet for one in resampler.resample(frame) for packet in audio.encode(one)])
        file.mux(video.encode())
        file.mux(audio.encode())


def ring_of(file: Path, horizon_s: float = 60.0) -> PacketRing:
    ring = PacketRing(horizon_s)
    for _ in MediaSource(str(file), Look(picture=(8, 8), frames_per_second=2), speed="max", tap=ring).items():
        pass
    return ring


def event(phase: EventPhase, start_s: int, end_s: int | None = None, *, confirmed: bool = True) -> Event:
    return Event(
        id=ULID,
        sequence=1,
        phase=phase,
        source="porch",
        label="bark",
        label_name="Bark",
        class_id=0,
        start_ns=start_s * SEGMENT_NS,
        end_ns=None if end_s is None else end_s * SEGMENT_NS,
        newest_end_ns=(start_s + 1) * SEGMENT_NS,
        epoch_ns=1_789_381_200 * SEGMENT_NS,
        score=0.9,
        top_score=0.9,
        relevance=0.9,
        agreement=0.5,
        segments=(ScoredSegment(start_ns=start_s * SEGMENT_NS, score=0.9, relevance=0.9),),
        location=PLACE,
        level_dbfs=-20.0,
        skew_ms=None,
        confirmed=confirmed,
        end_reason=None if end_s is None else EndReason.ENDED,
    )


def run_sink(folder: Path, ring: PacketRing, events: list[Event | SourceState], **settings: float) -> ClipSink:
    made = ClipSink(ClipSettings(dir=folder, min_free_mb=0).model_copy(update=settings), folder, {"porch": ring})

    async def go() -> None:
        await made.start()
        for one in events:
            if isinstance(one, SourceState):
                made.source_state("porch", one, "unplugged")
            else:
                made.event(one, 1.0)
        await made.close()

    asyncio.run(go())
    return made


def seconds_of(file: Path) -> list[int]:
    """Return which seconds the pictures of a clip show, by their brightness."""
    with av.open(str(file)) as clip:
        return [round(float(frame.to_ndarray(format="rgb24").mean()) / 8) for frame in clip.decode(video=0)]


def times_of(stream: av.stream.Stream) -> tuple[float, float]:
    """Return begin and end of a stream, s."""
    assert stream.time_base is not None
    begin = stream.start_time or 0
    return float(begin * stream.time_base), float((begin + (stream.duration or 0)) * stream.time_base)
