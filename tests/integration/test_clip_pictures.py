"""Tests that clips and snapshots show pictures as a player shows the source, whatever its codec, its turn and the shape of its pixels."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from streamav.capture.look import Look
from streamav.capture.media import MediaSource
from streamav.clips import PacketRing
from streamav.clips.masks import ClipMasks
from streamav.clips.mp4 import picture_at, write_mp4
from streamav.clips.ring import Footage
from streamav.config import CaptureSettings
from streamav.types import SEGMENT_NS

HEIGHT, WIDTH, RATE = 48, 64, 10


def corner(seconds: int) -> NDArray[np.uint8]:
    """Return a dark picture whose upper left quarter is bright."""
    picture = np.full((HEIGHT, WIDTH, 3), 20 + seconds, np.uint8)
    picture[: HEIGHT // 2, : WIDTH // 2] = 220
    return picture


def write(path: Path, codecs: tuple[str, str], pixels: str, *, turns: int = 0, aspect: Fraction = Fraction(1)) -> Path:
    """Write 6 s whose pictures are stored turned by so many quarters to the right, with a tone."""
    with av.open(str(path), "w") as file:
        video: Any = file.add_stream(codecs[0], rate=RATE, options={"preset": "12" if "av1" in codecs[0] else "ultrafast", "g": "10"})
        video.height, video.width = (WIDTH, HEIGHT) if turns % 2 else (HEIGHT, WIDTH)
        video.pix_fmt, video.codec_context.sample_aspect_ratio = pixels, aspect
        if turns:
            video.set_display_rotation(90.0 * turns)
        audio: Any = file.add_stream(codecs[1], rate=48_000, layout="mono")
        tone = (8_000 * np.sin(2 * np.pi * 440 * np.arange(48_000) / 48_000)).astype(np.int16)[None]
        resampler = av.AudioResampler(audio.codec_context.format, "mono", 48_000, frame_size=audio.codec_context.frame_size or 4_800)
        for number in range(6 * RATE):
            stored = np.ascontiguousarray(np.rot90(corner(number // RATE), -turns))
            file.mux(video.encode(av.VideoFrame.from_ndarray(stored, format="rgb24")))
            if number % RATE == 0:
                frame = av.AudioFrame.from_ndarray(tone, format="s16", layout="mono")
                frame.sample_rate, frame.pts = 48_000, number // RATE * 48_000
                file.mux([packet for one in resampler.resample(frame) for packet in audio.encode(one)])
        file.mux(video.encode())
        file.mux(audio.encode())
    return path


def footage_of(path: Path, *, isolate: bool = False) -> Footage:
    """Return the footage of the second to the fifth second."""
    ring = PacketRing(60.0)
    settings, look = CaptureSettings(isolate=isolate), Look(picture=(8, 8), frames_per_second=2)
    for _ in MediaSource(str(path), look, speed="max", settings=settings, tap=ring).items():
        pass
    footage = ring.footage(SEGMENT_NS, 5 * SEGMENT_NS)
    assert footage is not None
    return footage


def is_upright(picture: NDArray[np.generic]) -> bool:
    """Return whether the upper left quarter alone is bright."""
    height, width = picture.shape[0] // 2, picture.shape[1] // 2
    quarters = [picture[:height, :width], picture[:height, width:], picture[height:, :width], picture[height:, width:]]
    return [bool(one.mean() > 120) for one in quarters] == [True, False, False, False]


def played(path: Path) -> NDArray[np.generic]:
    """Return the first picture of a clip as a player shows it."""
    with av.open(str(path)) as clip:
        frame = next(clip.decode(video=0))
        return np.rot90(frame.to_ndarray(format="rgb24"), round(frame.rotation / 90))


@pytest.mark.parametrize(
    ("turns", "codec", "isolate"),
    [(1, "libx264", False), (3, "libx264", False), (3, "mjpeg", False), (2, "libx264", True)],
    ids=["copied", "copied, to the other side", "encoded again", "in a process of its own"],
)
def test_a_turned_picture_is_upright(tmp_path: Path, turns: int, codec: str, isolate: bool) -> None:
    """A phone or a camera on its side says how its pictures are turned: clip and snapshot are upright, as what the model sees."""
    pixels = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    footage = footage_of(write(tmp_path / "turned.mp4", (codec, "aac"), pixels, turns=turns), isolate=isolate)
    write_mp4(tmp_path / "clip.mp4", footage)
    assert is_upright(played(tmp_path / "clip.mp4"))
    snapshot = picture_at(footage, 2 * SEGMENT_NS)
    assert snapshot is not None
    assert snapshot.shape == (HEIGHT, WIDTH, 3)
    assert is_upright(snapshot)


def test_faces_are_looked_for_in_upright_pictures(tmp_path: Path) -> None:
    """What covers faces gets each picture upright, because it finds none in a picture that lies on its side; the clip shows the cover."""
    seen: list[bool] = []

    def cover(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        seen.append(is_upright(picture))
        return np.full_like(picture, 128)

    footage = footage_of(write(tmp_path / "turned.mp4", ("libx264", "aac"), "yuv420p", turns=1))
    write_mp4(tmp_path / "clip.mp4", footage, ClipMasks(cover=cover))
    assert len(seen) >= 3 * RATE
    assert all(seen)
    assert float(played(tmp_path / "clip.mp4").mean()) == pytest.approx(128, abs=8)


@pytest.mark.parametrize(
    ("aspect", "turns", "shape"),
    [(Fraction(2), 0, (48, 128)), (Fraction(1, 2), 0, (96, 64)), (Fraction(2), 1, (48 * 2, 64)), (Fraction(100), 0, (48, 64))],
    ids=["wide", "narrow", "wide, on its side", "no such pixels"],
)
def test_pixels_that_are_not_square(tmp_path: Path, aspect: Fraction, turns: int, shape: tuple[int, int]) -> None:
    """Analog cameras store narrow or wide pixels: a snapshot, and a clip that is encoded again, have the shape that a player shows."""
    footage = footage_of(write(tmp_path / "wide.mkv", ("mpeg4", "aac"), "yuv420p", turns=turns, aspect=aspect))
    if turns:  # where no container keeps both
        footage = Footage(footage.samples, footage.packets, footage.privacy, turns)
    snapshot = picture_at(footage, 2 * SEGMENT_NS)
    assert snapshot is not None
    assert snapshot.shape[:2] == shape
    write_mp4(tmp_path / "clip.mp4", footage)
    assert played(tmp_path / "clip.mp4").shape[:2] == shape


@pytest.mark.parametrize(
    ("name", "codecs", "pixels", "isolate"),
    [
        ("a.mp4", ("libsvtav1", "aac"), "yuv420p", False),
        ("a.mp4", ("libsvtav1", "aac"), "yuv420p", True),
        ("a.mov", ("prores_ks", "alac"), "yuv422p10le", False),
        ("b.mov", ("qtrle", "pcm_s16le"), "rgb24", False),
        ("a.mkv", ("ffv1", "eac3"), "yuv444p", False),
        ("a.mp4", ("libx265", "aac"), "yuv420p10le", False),
    ],
    ids=["AV1", "AV1, in a process of its own", "ProRes, ALAC", "QuickTime", "FFV1, E-AC-3", "H.265 10 bit"],
)
def test_a_clip_of_any_codec_plays_everywhere(tmp_path: Path, name: str, codecs: tuple[str, str], pixels: str, *, isolate: bool) -> None:
    """Codecs that this build can decode and not encode, and those that few containers take, give clips in H.264 4:2:0 and AAC."""
    footage = footage_of(write(tmp_path / name, codecs, pixels), isolate=isolate)
    assert picture_at(footage, 2 * SEGMENT_NS) is not None
    write_mp4(tmp_path / "clip.mp4", footage)
    assert is_upright(played(tmp_path / "clip.mp4"))
    with av.open(str(tmp_path / "clip.mp4")) as clip:
        assert [stream.codec_context.name for stream in clip.streams] == ["h264", "aac"]
        assert clip.streams.video[0].pix_fmt == "yuv420p"
        assert (clip.duration or 0) / 1e6 == pytest.approx(4.0, abs=1.4)


def test_a_codec_that_nothing_describes_costs_its_half_of_the_clips(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """RealVideo fits no container that is kept: the run goes on, clips have the sound alone, and one line says so."""
    path = write(tmp_path / "a.rm", ("rv10", "ac3"), "yuv420p")
    footage = footage_of(path)
    write_mp4(tmp_path / "clip.mp4", footage)
    with av.open(str(tmp_path / "clip.mp4")) as clip:
        assert [stream.type for stream in clip.streams] == ["audio"]
    assert [one.getMessage() for one in caplog.records if "have no picture" in one.getMessage()] == [
        "clips of this source have no picture: its codec cannot be copied codec=rv10"
    ]
