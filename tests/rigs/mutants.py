"""Damages media files at random, from seeds, and reads them to segments in a process that may crash."""

from __future__ import annotations

import json
import os
import random
import select
import subprocess
import sys
import time
import traceback
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import av
import numpy as np
from rigs.x265 import QUIET_X265

__all__ = ["Outcome", "mutant", "read_mutants", "write_originals"]

FORMATS: Final = (
    ("mp4", "libx264", "aac"),
    ("mov", "mjpeg", "pcm_s16le"),
    ("mkv", "mpeg4", "pcm_s16le"),
    ("webm", "libvpx", "libopus"),
    ("ts", "libx264", "mp2"),
    ("ts", "libx265", "aac"),
    ("avi", "mpeg4", "libmp3lame"),
    ("flv", "libx264", "aac"),
    ("mpg", "mpeg2video", "mp2"),
    ("wav", None, "pcm_s16le"),
    ("ogg", None, "libopus"),
)
"""Suffix, codec of the pictures, codec of the sound."""
_RATE: Final = 48_000
_SECONDS: Final = 2
_PATIENCE_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one damaged file."""

    seed: int
    name: str
    what: str
    """segments, refused, traceback, crash or hang."""
    detail: str = ""
    segments: int = 0
    seconds: float = 0.0
    megabytes: int = 0
    """Peak memory of the process that read it so far."""

    @property
    def bad(self) -> bool:
        """Whether it must not happen."""
        return self.what not in {"segments", "refused"} or self.megabytes > 1_000


def write_originals(folder: Path) -> list[Path]:
    """Write one small clip in each format."""
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"{number:02d}-{picture or 'sound'}-{sound}.{suffix}" for number, (suffix, picture, sound) in enumerate(FORMATS)]
    return [_write(folder / name, picture, sound) for name, (_, picture, sound) in zip(names, FORMATS, strict=True)]


def _write(path: Path, picture: str | None, sound: str) -> Path:
    rng = np.random.default_rng(len(path.name))
    with av.open(str(path), "w", options={"flush_packets": "1"}) as container:
        out: Any = container  # the kind of a stream follows from the name of its codec
        video = (
            out.add_stream(picture, rate=25, options={"x265-params": QUIET_X265} if picture == "libx265" else {})
            if picture is not None
            else None
        )
        layout = "5.1" if sound.startswith("pcm") and path.suffix == ".mov" else "mono" if sound == "libopus" else "stereo"
        audio = out.add_stream(sound, rate=_RATE, layout=layout)
        if video is not None:
            video.width, video.height = 96, 64
            video.pix_fmt = "yuvj420p" if picture == "mjpeg" else "yuv420p"
            scene = rng.integers(0, 255, (64, 96, 3), dtype=np.uint8)
            for number in range(25 * _SECONDS):
                frame = av.VideoFrame.from_ndarray(np.roll(scene, 3 * number, axis=1), format="rgb24")
                frame.pts, frame.time_base = number, Fraction(1, 25)
                out.mux(video.encode(frame))
            out.mux(video.encode(None))
        channels = audio.codec_context.layout.nb_channels
        fifo, resampler = av.AudioFifo(), av.AudioResampler(audio.codec_context.format.name, layout, _RATE)
        samples = (8_000 * rng.standard_normal((1, _RATE * _SECONDS * channels))).clip(-32_768, 32_767).astype(np.int16)
        whole = av.AudioFrame.from_ndarray(samples, format="s16", layout=layout)
        whole.sample_rate, whole.pts, whole.time_base = _RATE, 0, Fraction(1, _RATE)
        for resampled in resampler.resample(whole):
            fifo.write(resampled)
        while (part := fifo.read(audio.codec_context.frame_size or 1_024)) is not None:
            out.mux(audio.encode(part))
        out.mux(audio.encode(None))
    return path


def mutant(original: bytes, seed: int) -> bytes:
    """Return a damaged copy; the same seed gives the same one."""
    rng = random.Random(seed)
    data = bytearray(original)
    for _ in range(rng.choice((1, 1, 2, 4))):
        if len(data) < 64:
            break
        at, size = rng.randrange(len(data)), min(rng.choice((1, 4, 64, 1_024, 8_192)), len(data) // 3)
        # Headers are a small part of a file and cause most faults, so half of the damage is there.
        at = rng.randrange(min(len(data), 2_048)) if rng.random() < 0.5 else at
        match rng.choice(("flip", "flip", "cut", "insert", "swap", "zero", "ones")):
            case "flip":
                for _ in range(rng.choice((1, 8, 64))):
                    data[rng.randrange(at, min(len(data), at + 4_096))] ^= 1 << rng.randrange(8)
            case "cut":
                del data[at : at + size if rng.random() < 0.5 else len(data)]
            case "insert":
                data[at:at] = rng.randbytes(size)
            case "swap":
                other = rng.randrange(len(data) - size)
                data[at : at + size], data[other : other + size] = data[other : other + size], data[at : at + size]
            case "zero":
                data[at : at + size] = bytes(size)
            case "ones":
                data[at : at + 8] = b"\xff" * 8
    return bytes(data)


def read_mutants(folder: Path, originals: list[Path], seeds: Iterable[int]) -> Iterator[Outcome]:
    """Yield the outcome of each seed; after a crash or a hang a new process goes on with the next one."""
    process: subprocess.Popen[str] | None = None
    try:
        for seed in seeds:
            original = originals[seed % len(originals)]
            path = folder / f"mutant{original.suffix}"
            path.write_bytes(mutant(original.read_bytes(), seed))
            if process is None:
                program, pipe = [sys.executable, "-m", "rigs.mutants"], subprocess.PIPE
                environment = {**os.environ, "PYTHONPATH": os.pathsep.join(one for one in sys.path if one)}
                process = subprocess.Popen(program, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True, env=environment)
            outcome = _read(process, seed, original.name, path)
            if outcome.what in {"crash", "hang"}:
                _end(process)
                process = None
            yield outcome
    finally:
        if process is not None:
            _end(process)


def _read(process: subprocess.Popen[str], seed: int, name: str, path: Path) -> Outcome:
    if process.stdin is None or process.stdout is None:
        msg = "the process must have pipes"
        raise RuntimeError(msg)
    process.stdin.write(f"{path}\n")
    process.stdin.flush()
    ready, _, _ = select.select([process.stdout], [], [], _PATIENCE_S)
    line = process.stdout.readline() if ready else ""
    if not ready:
        return Outcome(seed, name, "hang", f"no end within {_PATIENCE_S:g} s")
    if not line:
        return Outcome(seed, name, "crash", f"exit status {process.wait(timeout=10)}")
    return Outcome(seed, name, **json.loads(line))


def _end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait(timeout=10)
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()


def _one(path: str) -> dict[str, object]:
    """Read a file to segments, and say what became of it."""
    from streamav.capture.look import Look
    from streamav.capture.media import MediaSource
    from streamav.errors import StreamavError
    from streamav.memory import peak_memory_mb
    from streamav.segmenter import Segmenter, SegmenterOptions
    from streamav.types import AudioBlock, SourceContent, VideoFrame

    began, count = time.monotonic(), 0
    segmenter = Segmenter(SegmenterOptions(frames_per_second=4, picture=(64, 64)))
    try:
        for item in MediaSource(path, Look(picture=(64, 64), frames_per_second=4), speed="max").items():
            if isinstance(item, SourceContent):
                segmenter.expect(item)
            elif isinstance(item, AudioBlock | VideoFrame):
                count += len(segmenter.push(item))
        count += len(segmenter.close())
        what, detail = "segments", ""
    except StreamavError as exc:
        what, detail = "refused", str(exc)
    except Exception:  # noqa: BLE001 - the finding
        what, detail = "traceback", traceback.format_exc()
    seconds = round(time.monotonic() - began, 2)
    return {"what": what, "detail": detail, "segments": count, "seconds": seconds, "megabytes": round(peak_memory_mb())}


if __name__ == "__main__":
    for line in sys.stdin:
        sys.stdout.write(json.dumps(_one(line.rstrip("\n"))) + "\n")
        sys.stdout.flush()
