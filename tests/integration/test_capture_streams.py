"""Tests sources with several tracks or many channels, and those whose codec changes midway; PyAV and ffmpeg write the files."""

from __future__ import annotations

import logging
import socket
import subprocess
import threading
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import av
import numpy as np
import pytest
from rigs.services import need
from rigs.x265 import QUIET_X265

from streamav.capture.look import Look
from streamav.capture.media import MediaSource
from streamav.capture.sound import Resampler
from streamav.config import CaptureSettings
from streamav.errors import MissingModalityError
from streamav.types import AudioBlock, SourceState, StateChange, VideoFrame

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

LOOK = Look(picture=(24, 32), frames_per_second=4)
RATE_HZ = 48_000
TONE = 0.1 * np.sin(2 * np.pi * 440 * np.arange(2 * RATE_HZ) / RATE_HZ)
RMS = 0.1 / 2**0.5
TONES_HZ = (300, 900)


def tone(hz: int, seconds: float) -> NDArray[np.int16]:
    return (8_000 * np.sin(2 * np.pi * hz * np.arange(round(seconds * RATE_HZ)) / RATE_HZ)).astype(np.int16)[None]


def heard(source: MediaSource) -> NDArray[np.float32]:
    return np.concatenate([item.samples for item in source.items() if isinstance(item, AudioBlock)])


def pitch_hz(samples: NDArray[np.float32]) -> float:
    """Return the strongest frequency of sound at 16 kHz."""
    return float(np.abs(np.fft.rfft(samples)).argmax() * 16_000 / samples.size)


# Channels


@pytest.mark.parametrize(
    ("layout", "gains", "level"),
    [
        ("5.1", (0, 0, 1, 0, 0, 0), 1.0),
        ("5.1", (1, -1, 0, 0, 0, 0), 2**0.5),
        ("quad", (1, -1, 0, 0), 2**0.5),
        ("3 channels", (0, 0, 1), 2**0.5 / 3),
        ("6 channels", (0, 0, 0, 1, 0, 0), 2**0.5 / 6),
        ("8 channels", (1,) * 8, 2**0.5),
        ("16 channels", (0,) * 9 + (1,) + (0,) * 6, 2**0.5 / 16),
        ("ambisonic 1", (1, 0.5, 0, 0.5), 1.0),
        ("ambisonic 1", (1, -1, -1, -1), 1.0),
    ],
    ids=[
        "speech in the centre",
        "opposite fronts",
        "opposite channels of four",
        "the third of an array of three",
        "the fourth of six",
        "eight alike",
        "one of sixteen",
        "ambisonics",
        "ambisonics that would cancel",
    ],
)
def test_sound_in_any_channel_is_heard(layout: str, gains: tuple[float, ...], level: float) -> None:
    """Sound that is in one channel of several, or in two that cancel each other, is heard, whether or not the channels have places."""
    resampler, blocks = Resampler(), list[AudioBlock]()
    for first in range(0, TONE.size, 1_024):
        part = np.stack([gain * TONE[first : first + 1_024] for gain in gains], axis=1).astype(np.float32)
        frame = av.AudioFrame.from_ndarray(part.reshape(1, -1), format="flt", layout=layout)
        frame.sample_rate = RATE_HZ
        if len(gains) >= 8:  # as decoders give them: one plane for each channel, of which PyAV cannot hand over so many
            frame = av.AudioResampler("fltp", layout, RATE_HZ).resample(frame)[0]
        blocks += resampler.push(frame, first * 1_000_000_000 // RATE_HZ)
    samples = np.concatenate([block.samples for block in [*blocks, *resampler.flush()]])
    assert samples.size == pytest.approx(32_000, abs=20)
    assert float(samples[4_000:28_000].std()) == pytest.approx(RMS * level, rel=0.05)


def test_a_file_of_ambisonic_sound_is_heard(tmp_path: Path) -> None:
    """Cameras for all directions record ambisonics in Opus; FFmpeg cannot mix them, and the sound is heard all the same."""
    need("ffmpeg", "ffmpeg")
    path = tmp_path / "all-around.mkv"
    made = ["-f", "lavfi", "-i", "sine=frequency=440:duration=2", "-af", "pan=4c|c0=c0", "-c:a", "libopus", "-mapping_family", "2"]
    subprocess.run(["ffmpeg", "-nostdin", "-loglevel", "error", *made, str(path)], check=True, timeout=60)
    samples = heard(MediaSource(str(path), LOOK, speed="max"))
    assert pitch_hz(samples) == pytest.approx(440, abs=5)
    assert samples.size == pytest.approx(32_000, abs=500)


# Tracks


def write_tracks(path: Path) -> Path:
    """Write a file with two pictures, dark and bright, and two sounds, low and high."""
    with av.open(str(path), "w") as file:
        pictures: list[Any] = [file.add_stream("mpeg4", rate=10) for _ in range(2)]
        sounds: list[Any] = [file.add_stream("pcm_s16le", rate=RATE_HZ, layout="mono") for _ in range(2)]
        for number, stream in enumerate(pictures):
            stream.width, stream.height, stream.pix_fmt = 64 >> number, 48 >> number, "yuv420p"  # the first one is larger
        for number in range(20):
            for track, stream in enumerate(pictures):
                shade = np.full((stream.height, stream.width, 3), 60 + 120 * track, np.uint8)
                file.mux(stream.encode(av.VideoFrame.from_ndarray(shade, format="rgb24")))
            for hz, stream in zip(TONES_HZ, sounds, strict=True):
                first = number * 4_800
                part = np.ascontiguousarray(tone(hz, 2.0)[:, first : first + 4_800])
                frame = av.AudioFrame.from_ndarray(part, format="s16", layout="mono")
                frame.sample_rate, frame.pts = RATE_HZ, first
                file.mux(stream.encode(frame))
        for stream in (*pictures, *sounds):
            file.mux(stream.encode(None))
    return path


@pytest.mark.parametrize(
    ("given", "shade", "hz", "lists"),
    [
        ({}, 60, 300, ["has 2 picture tracks, number 1 is used", "has 2 sound tracks, number 1 is used"]),
        ({"sound_track": 2}, 60, 900, ["has 2 picture tracks, number 1 is used"]),
        ({"picture_track": 2, "sound_track": 1}, 180, 300, []),
    ],
    ids=["none chosen", "a sound", "both"],
)
@pytest.mark.parametrize("isolate", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["here", "in a process of its own"])
def test_one_of_several_tracks_is_chosen(
    tmp_path: Path, given: dict[str, int], shade: int, hz: int, lists: list[str], isolate: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Of several lenses or languages the settings choose one; where they do not, a warning says which is used and what there is."""
    caplog.set_level(logging.WARNING)
    look = Look(picture=(24, 32), frames_per_second=4, **given)  # type: ignore[arg-type] # numbers of tracks
    source = MediaSource(str(write_tracks(tmp_path / "two.mkv")), look, speed="max", settings=CaptureSettings(isolate=isolate))
    items = list(source.items())
    assert pitch_hz(np.concatenate([one.samples for one in items if isinstance(one, AudioBlock)])) == pytest.approx(hz, abs=5)
    assert all(float(one.pixels.mean()) == pytest.approx(shade, abs=6) for one in items if isinstance(one, VideoFrame))
    said = [record.getMessage() for record in caplog.records if " tracks, number " in record.getMessage()]
    assert len(said) == len(lists)
    assert all(part in text for part, text in zip(lists, said, strict=True))


def test_a_track_that_is_not_there_is_refused(tmp_path: Path) -> None:
    """The error names the setting, and lists the tracks."""
    look = Look(picture=(24, 32), frames_per_second=4, sound_track=3)
    told = r"source\.sound_track must be one of the 2 sound tracks of .*got 3: 1 pcm_s16le 1 channels at 48000 Hz; 2 pcm_s16le"
    with pytest.raises(MissingModalityError, match=told):
        list(MediaSource(str(write_tracks(tmp_path / "two.mkv")), look, speed="max").items())


# Codecs that change


def write_part(path: Path, codecs: tuple[str, str], start_s: int) -> bytes:
    """Return 4 s of a transport stream with a key frame each second; its sound is high after the first part."""
    with av.open(str(path), "w", format="mpegts") as file:
        options = {"preset": "ultrafast", "g": "10", "bf": "0"} | ({"x265-params": f"{QUIET_X265}:keyint=10"} if "265" in codecs[0] else {})
        video: Any = file.add_stream(codecs[0], rate=10, options=options)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        audio: Any = file.add_stream(codecs[1], rate=RATE_HZ, layout="mono")
        size = audio.codec_context.frame_size or 1_024
        resampler = av.AudioResampler(audio.codec_context.format, "mono", RATE_HZ, frame_size=size)
        sound = tone(TONES_HZ[bool(start_s)], 4.0)
        for number in range(40):
            shade = np.full((48, 64, 3), 60 if start_s == 0 else 180, np.uint8)
            picture = av.VideoFrame.from_ndarray(shade, format="rgb24")
            picture.pts, picture.time_base = number + 10 * start_s, Fraction(1, 10)
            file.mux(video.encode(picture))
            frame = av.AudioFrame.from_ndarray(
                np.ascontiguousarray(sound[:, number * 4_800 : (number + 1) * 4_800]), format="s16", layout="mono"
            )
            frame.sample_rate, frame.pts = RATE_HZ, number * 4_800 + start_s * RATE_HZ
            file.mux([packet for one in resampler.resample(frame) for packet in audio.encode(one)])
        file.mux(video.encode(None))
        file.mux(audio.encode(None))
    return path.read_bytes()


CHANGES = [(("libx264", "aac"), ("libx265", "aac")), (("libx264", "aac"), ("libx264", "mp2"))]


@pytest.mark.parametrize(("before", "after"), CHANGES, ids=["pictures", "sound"])
def test_a_recording_goes_on_in_another_codec(
    tmp_path: Path, before: tuple[str, str], after: tuple[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    """A recorder stores H.264 and then H.265, or other sound, in one transport stream: all is seen and heard, at most the change is not."""
    path = tmp_path / "both.ts"
    path.write_bytes(write_part(tmp_path / "a.ts", before, 0) + write_part(tmp_path / "b.ts", after, 4))
    items = list(MediaSource(str(path), LOOK, speed="max").items())
    late = [one for one in items if isinstance(one, VideoFrame) and one.start_ns >= 6e9]
    assert len(late) >= 6
    assert all(float(one.pixels.mean()) == pytest.approx(180, abs=6) for one in late)
    sound = np.concatenate([one.samples for one in items if isinstance(one, AudioBlock) and one.start_ns >= 6e9])
    assert sound.size >= 24_000
    assert pitch_hz(sound) == pytest.approx(TONES_HZ[1], abs=10)
    assert any("the codec changed" in record.getMessage() for record in caplog.records)


@pytest.mark.parametrize(("before", "after"), CHANGES, ids=["pictures", "sound"])
def test_a_live_source_in_another_codec_is_opened_anew(tmp_path: Path, before: tuple[str, str], after: tuple[str, str]) -> None:
    """A camera is set to another codec while its stream goes on: the source is opened again, with the reason, and is seen and heard."""
    first, second = write_part(tmp_path / "a.ts", before, 0), write_part(tmp_path / "b.ts", after, 4)
    with socket.create_server(("127.0.0.1", 0)) as server:

        def send() -> None:
            for content in (first + second, second):
                connection, _ = server.accept()
                with connection:
                    connection.sendall(content)

        threading.Thread(target=send, daemon=True).start()
        settings = CaptureSettings(timeout_s=2.0, reconnect_min_s=0.1, reconnect_max_s=0.2)
        source = MediaSource(f"tcp://127.0.0.1:{server.getsockname()[1]}", LOOK, settings=settings)
        timer = threading.Timer(30.0, source.close)
        timer.start()
        reasons, items = [], list[object]()
        for item in source.items():
            if isinstance(item, StateChange) and item.state is SourceState.LOST:
                reasons.append(item.reason)
                if len(reasons) == 2:
                    break
            items.append(item)
        timer.cancel()
        source.close()
    assert "in another codec from now on" in reasons[0]
    back = next(place for place, item in enumerate(items) if isinstance(item, StateChange) and item.state is SourceState.LOST)
    pictures = [item for item in items[back:] if isinstance(item, VideoFrame)]
    assert len(pictures) >= 8
    assert all(float(one.pixels.mean()) == pytest.approx(180, abs=6) for one in pictures)
    assert pitch_hz(np.concatenate([one.samples for one in items[back:] if isinstance(one, AudioBlock)])) == pytest.approx(
        TONES_HZ[1], abs=10
    )
