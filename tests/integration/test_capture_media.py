"""Tests files and filter graphs with the real demuxer; PyAV writes the files, and some are damaged on purpose."""

from __future__ import annotations

import http.server
import logging
import os
import re
import socket
import socketserver
import subprocess
import sys
import threading
import time
from contextlib import suppress
from fractions import Fraction
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import av
import numpy as np
import pytest
from rigs.roles import FakeClock, make_feed, read_feed
from rigs.services import free_port, need
from rigs.wrong_stamps import restamp_ts
from rigs.x265 import QUIET_X265

from streamav.capture.look import Look
from streamav.capture.media import MediaSource
from streamav.config import CaptureSettings
from streamav.errors import CaptureError, MissingModalityError
from streamav.segmenter import Segmenter, SegmenterOptions
from streamav.types import AudioBlock, Segment, SourceContent, VideoFrame

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

F = 4
LOOK = Look(picture=(24, 32), frames_per_second=F)
LAVFI = "lavfi:testsrc=size=64x48:rate=25:duration=3,format=yuv420p[out0];sine=frequency=440:sample_rate=16000:duration=3[out1]"


def segments_of(source: MediaSource) -> list[Segment]:
    segmenter = Segmenter(SegmenterOptions(frames_per_second=F, picture=LOOK.picture))
    pushed = [segment for item in source.items() if isinstance(item, AudioBlock | VideoFrame) for segment in segmenter.push(item)]
    return pushed + segmenter.close()


def shade(frame: int) -> int:
    """Return the brightness of picture number *frame*, which can be recognised after coding."""
    return 40 + (frame * 7) % 170


def click_track(seconds: float, rate_hz: int) -> NDArray[np.int16]:
    """Return a beep of 1 kHz in the first 100 ms of every second."""
    time_s = np.arange(round(seconds * rate_hz)) / rate_hz
    return (12_000 * np.sin(2 * np.pi * 1_000 * time_s) * (time_s % 1.0 < 0.1)).astype(np.int16)


def write(
    path: Path,
    seconds: float = 4.0,
    *,
    pictures: float | bool = True,
    sound: bool = True,
    rate_hz: int = 44_100,
    start_s: float = 0.0,
    options: dict[str, str] | None = None,
) -> Path:
    """Write a clip of 25 flat pictures a second, of growing brightness, for *pictures* seconds, with a beep at every second."""
    with av.open(str(path), "w", options=options or {}) as out:
        video = out.add_stream("libx264", rate=25, options={"preset": "ultrafast", "g": "25", "bf": "0"}) if pictures else None
        audio = out.add_stream("aac", rate=rate_hz) if sound else None
        if video is not None:
            video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        for number in range(round((seconds if pictures is True else pictures) * 25)) if video is not None else ():
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), shade(number), np.uint8), format="rgb24")
            frame.pts, frame.time_base = number + round(start_s * 25), Fraction(1, 25)
            if video is not None:
                out.mux(video.encode(frame))
        if video is not None:
            out.mux(video.encode(None))
        if audio is not None:
            samples = click_track(seconds, rate_hz)
            for first in range(0, samples.size, 1_024):
                part = av.AudioFrame.from_ndarray(samples[None, first : first + 1_024], format="s16", layout="mono")
                part.sample_rate, part.time_base = rate_hz, Fraction(1, rate_hz)
                part.pts = first + round(start_s * rate_hz)
                out.mux(audio.encode(part))
            out.mux(audio.encode(None))
    return path


def assert_in_step(segments: list[Segment]) -> None:
    """Check that every segment begins with its beep, to 5 ms, and shows the pictures of its own four instants."""
    for segment in segments:
        loud = np.flatnonzero(np.abs(segment.audio) > 0.1)
        assert loud[0] <= 80
        assert 1_500 <= loud[-1] <= 1_700
        for number, frame in enumerate(segment.frames):
            shown = shade(25 * segment.index + number * 25 // F)
            assert float(frame.mean()) == pytest.approx(shown, abs=5)


def assert_same(segments: list[Segment], others: list[Segment]) -> None:
    """Every second must have the same sound, pictures and quality."""
    assert [one.quality for one in segments] == [other.quality for other in others]
    for one, other in zip(segments, others, strict=True):
        assert np.array_equal(one.audio, other.audio)
        assert np.array_equal(one.frames, other.frames)


def write_apart(path: Path, sound_after_s: float) -> Path:
    """Write 4 s to a file that holds sound this much later than the pictures of the same time (negative: earlier)."""
    with av.open(str(path), "w", options={"max_interleave_delta": "1"}) as out:  # 1 us: packets stay in the given order
        video, audio = out.add_stream("mpeg4", rate=25), out.add_stream("pcm_s16le", rate=16_000, layout="mono")
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        packets: list[tuple[float, Any]] = []
        for number in range(100):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), shade(number), np.uint8), format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            packets += [(number / 25, packet) for packet in video.encode(frame)]
        samples = click_track(4.0, 16_000)
        for first in range(0, samples.size, 1_600):
            part = av.AudioFrame.from_ndarray(samples[None, first : first + 1_600], format="s16", layout="mono")
            part.sample_rate, part.time_base, part.pts = 16_000, Fraction(1, 16_000), first
            packets += [(first / 16_000 + sound_after_s, packet) for packet in audio.encode(part)]
        for _, packet in sorted(packets, key=lambda pair: pair[0]):
            out.mux(packet)
    return path


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts", "mov"])
@pytest.mark.parametrize("rate_hz", [44_100, 16_000])
def test_sound_and_picture_stay_in_step(tmp_path: Path, suffix: str, rate_hz: int) -> None:
    """In every container, a beep at the start of a second is heard at the start of the segment that shows its pictures."""
    segments = segments_of(MediaSource(str(write(tmp_path / f"clip.{suffix}", rate_hz=rate_hz)), LOOK, speed="max"))
    assert [segment.index for segment in segments] == [0, 1, 2, 3]
    # MPEG-TS has no edit list: the encoder's priming is heard there, so sound begins one AAC frame late.
    if suffix != "ts":
        assert_in_step(segments)
    assert sum(segment.quality.missing_samples for segment in segments) < 1_600


def test_a_recording_that_does_not_begin_at_zero(tmp_path: Path) -> None:
    """The earliest time stamp of a file is the zero of the media clock, for any value."""
    segments = segments_of(MediaSource(str(write(tmp_path / "late.mkv", start_s=100.0)), LOOK, speed="max"))
    assert [segment.index for segment in segments] == [0, 1, 2, 3]
    assert_in_step(segments)


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts"])
def test_short_pictures_beside_long_sound_end(tmp_path: Path, suffix: str) -> None:
    """Pictures that end at 3 s stand for the seconds up to 5 s; after them the sound is heard alone, and the segments say so."""
    path = write(tmp_path / f"clip.{suffix}", 9.0, pictures=3.0)
    segments = segments_of(MediaSource(str(path), LOOK, speed="max"))
    assert [segment.quality.one_sided for segment in segments] == [False] * 5 + [True] * 4
    assert all(segment.audio.any() for segment in segments)


def test_short_sound_beside_long_pictures_ends(tmp_path: Path) -> None:
    """Seconds without any sound are only seen, and the segments say so."""
    path = write(tmp_path / "clip.mkv", 3.0, pictures=8.0)
    segments = segments_of(MediaSource(str(path), LOOK, speed="max"))
    assert [segment.quality.one_sided for segment in segments[:3] + segments[4:]] == [False] * 3 + [
        True
    ] * 4  # the encoder's rest is in the fourth


def test_two_recordings_joined_are_one_stream(tmp_path: Path) -> None:
    """Where the time stamps start again in the middle of a file, the media clock goes on."""
    first, second = write(tmp_path / "a.ts", 3.0), write(tmp_path / "b.ts", 3.0)
    joined = tmp_path / "joined.ts"
    joined.write_bytes(first.read_bytes() + second.read_bytes())
    segments = segments_of(MediaSource(str(joined), LOOK, speed="max"))
    assert [segment.index for segment in segments] == list(range(6))
    assert sum(segment.quality.missing_samples for segment in segments) < 4_800


@pytest.mark.parametrize(("before_hz", "after_hz"), [(16_000, 44_100), (48_000, 16_000)])
def test_sound_that_changes_its_rate_stays_in_step(tmp_path: Path, before_hz: int, after_hz: int) -> None:
    """Where a transport stream goes on with another rate of sound, its beeps still come with their pictures."""
    options = {"max_delay": "700000"}  # us: as the program ffmpeg writes it, several frames of sound under one time stamp
    parts = [
        write(tmp_path / "a.ts", rate_hz=before_hz, options=options),
        write(tmp_path / "b.ts", 5.0, rate_hz=after_hz, start_s=4.0, options=options),
    ]
    path = tmp_path / "both.ts"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    segments = segments_of(MediaSource(str(path), LOOK, speed="max"))
    assert 9 <= len(segments) <= 10
    for segment in segments[5:8]:
        first = int(np.flatnonzero(np.abs(segment.audio) > 0.1)[0])
        number = next(
            number for number in range(25) if abs(float(segment.frames[0].mean()) - shade(25 * (segment.index - 4) + number)) <= 5
        )
        assert first / 16_000 <= 0.1  # a frame of 1024 samples at 16 kHz
        assert number <= 2, "the picture at the start of the second must be shown at the start of its beep, to three pictures"


def test_a_stream_that_begins_later_is_left_out(tmp_path: Path) -> None:
    """A file to which a sound is added in its middle plays on; PyAV raises IndexError at each packet of the new stream."""
    first, second = write(tmp_path / "a.flv", 6.0, sound=False), write(tmp_path / "b.flv", 3.0)
    joined = tmp_path / "joined.flv"
    joined.write_bytes(first.read_bytes() + second.read_bytes()[13:])  # without the second header
    pictures = [item for item in MediaSource(str(joined), LOOK, speed="max").items() if isinstance(item, VideoFrame)]
    assert len(pictures) >= 30


WRONG = {
    "one 4 s early": lambda number: -4.0 if number == 120 else 0.0,
    "one 37 s ahead": lambda number: 37.0 if number == 120 else 0.0,
    "one in fifty 4 s back": lambda number: -4.0 if number % 50 == 20 else 0.0,
    "the first 4 s early": lambda number: -4.0 if number == 0 else 0.0,
    "the last 37 s ahead": lambda number: 37.0 if number == 199 else 0.0,
}


@pytest.mark.slow
@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_time_stamps_of_pictures_change_nothing(tmp_path: Path, wrong: str) -> None:
    """MPEG-TS with some pictures stamped wrongly gives the segments of the same recording stamped rightly."""
    path = write(tmp_path / "clip.ts", 8.0)
    right = segments_of(MediaSource(str(path), LOOK, speed="max"))
    assert restamp_ts(path, "picture", WRONG[wrong]) in {1, 4}
    segments = segments_of(MediaSource(str(path), LOOK, speed="max"))
    assert len(segments) == 8
    assert_same(segments, right)


def heard_live(path: Path) -> list[Segment]:
    """Send a file over TCP and return the segments of the live source that receives it, up to its loss."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def send() -> None:
            connection, _ = server.accept()
            with connection:
                connection.sendall(path.read_bytes())

        sender = threading.Thread(target=send)
        sender.start()
        settings = CaptureSettings(timeout_s=3.0, reconnect_min_s=0.05, reconnect_max_s=0.1)
        source = MediaSource(f"tcp://127.0.0.1:{server.getsockname()[1]}", LOOK, settings=settings)
        segmenter = Segmenter(SegmenterOptions(frames_per_second=F, picture=LOOK.picture, patience_s=1.5))
        segments: list[Segment] = []
        for item in source.items():
            if isinstance(item, AudioBlock | VideoFrame):
                segments += segmenter.push(item)
            else:
                source.close()
        sender.join()
    return segments + segmenter.close()


@pytest.mark.slow
@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_time_stamps_of_a_live_stream_change_nothing(tmp_path: Path, wrong: str) -> None:
    """The same over TCP: segments are those of the stream stamped rightly, and none lacks its sound or its picture."""
    path = write(tmp_path / "clip.ts", 8.0)
    right = heard_live(path)
    assert restamp_ts(path, "picture", WRONG[wrong]) in {1, 4}
    segments = heard_live(path)
    assert len(segments) == 8
    assert_same(segments, right)
    assert not any(segment.quality.one_sided for segment in segments)


@pytest.mark.slow
@pytest.mark.parametrize("off_s", [-4.0, 37.0])
def test_wrong_time_stamps_of_sound_change_nothing(tmp_path: Path, off_s: float) -> None:
    """A PES packet of sound holds some 0.2 s of it under one time stamp: a wrong one moves no sample."""
    path = write(tmp_path / "clip.ts", 8.0)
    right = segments_of(MediaSource(str(path), LOOK, speed="max"))
    assert restamp_ts(path, "sound", lambda number: off_s if number % 12 == 5 else 0.0) >= 1
    assert_same(segments_of(MediaSource(str(path), LOOK, speed="max")), right)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sound", "picture"])
@pytest.mark.parametrize("off_s", [-20.0, 20.0])
def test_a_lasting_step_of_one_kind_is_taken_out(tmp_path: Path, kind: Literal["sound", "picture"], off_s: float) -> None:
    """When the time stamps of one stream step and stay, sound and picture stay in step and the total stays."""
    path = write(tmp_path / "clip.ts", 8.0)
    right = segments_of(MediaSource(str(path), LOOK, speed="max"))
    assert restamp_ts(path, kind, lambda number: off_s if number >= (10 if kind == "sound" else 90) else 0.0) > 3
    segments = segments_of(MediaSource(str(path), LOOK, speed="max"))
    assert len(segments) == 8
    for one, other in zip(segments, right, strict=True):
        assert one.quality.missing_samples <= 1_600
        assert np.abs(np.flatnonzero(np.abs(one.audio) > 0.1)[0] - np.flatnonzero(np.abs(other.audio) > 0.1)[0]) <= 1_600
        assert np.abs(one.frames.mean(axis=(1, 2, 3)) - other.frames.mean(axis=(1, 2, 3))).max() <= 7 * 3  # a tenth of a second of shades


@pytest.mark.slow
@pytest.mark.parametrize("every", [60, 50])
def test_wrong_display_times_in_an_mp4_change_nothing(tmp_path: Path, every: int) -> None:
    """MP4 with one picture, or one in fifty, displayed 37 s too late gives the segments of the same recording stamped rightly."""
    right = write(tmp_path / "right.mp4", 8.0)
    with av.open(str(right)) as whole, av.open(str(tmp_path / "wrong.mp4"), "w") as out:
        streams = {stream.index: out.add_stream_from_template(stream) for stream in (*whole.streams.video, *whole.streams.audio)}
        numbers = dict.fromkeys(streams, -1)
        for packet in whole.demux():
            if packet.dts is None or packet.pts is None or packet.time_base is None:
                continue
            index = packet.stream.index
            numbers[index] += 1
            if packet.stream.type == "video" and numbers[index] % 100 % every == 20:
                packet.pts += round(37 / packet.time_base)
            packet.stream = streams[index]
            out.mux(packet)
    segments = segments_of(MediaSource(str(tmp_path / "wrong.mp4"), LOOK, speed="max"))
    assert_in_step(segments)
    assert_same(segments, segments_of(MediaSource(str(right), LOOK, speed="max")))


@pytest.mark.slow
@pytest.mark.parametrize("times_s", [range(20), [0, 5, 12, 13, 19], [0.2 * n + (n % 7 > 4) * 0.15 + n // 9 * 1.7 for n in range(50)]])
@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_pictures_at_a_slow_or_irregular_rate_keep_their_times(tmp_path: Path, suffix: str, times_s: Sequence[float]) -> None:
    """Frame threads and reordering give such pictures seconds late; that is no reason to doubt their time stamps."""
    path = tmp_path / f"slow.{suffix}"
    with av.open(str(path), "w") as out:
        video, audio = out.add_stream("libx264", rate=25, options={"bf": "3", "preset": "veryfast"}), out.add_stream("aac", rate=16_000)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        packets: list[Any] = []
        for number, time_s in enumerate(times_s):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), shade(number), np.uint8), format="rgb24")
            frame.pts, frame.time_base = round(time_s * 1_000), Fraction(1, 1_000)
            packets += video.encode(frame)
        samples = click_track(21.0, 16_000)
        for first in range(0, samples.size, 1_024):
            part = av.AudioFrame.from_ndarray(samples[None, first : first + 1_024], format="s16", layout="mono")
            part.sample_rate, part.time_base, part.pts = 16_000, Fraction(1, 16_000), first
            packets += audio.encode(part)
        for packet in sorted([*packets, *video.encode(None), *audio.encode(None)], key=lambda one: one.dts * one.time_base):
            out.mux(packet)
    look = Look(picture=(24, 32), frames_per_second=50)
    shown = [item.start_ns / 1e9 for item in MediaSource(str(path), look, speed="max").items() if isinstance(item, VideoFrame)]
    assert shown == pytest.approx(list(times_s), abs=0.041)


def test_only_pictures_that_are_looked_at_are_converted(tmp_path: Path) -> None:
    """Of 100 pictures, few more than the 16 that segments show are converted."""
    source = MediaSource(str(write(tmp_path / "clip.mp4")), LOOK, speed="max")
    assert sum(isinstance(item, VideoFrame) for item in source.items()) <= 24


def test_a_filter_graph_is_a_source_and_the_same_every_time() -> None:
    """Filter graphs give whole segments, the same every time."""
    source = MediaSource(LAVFI, LOOK, speed="max")
    first, second = segments_of(source), segments_of(MediaSource(LAVFI, LOOK, speed="max"))
    assert [segment.index for segment in first] == [0, 1, 2]
    assert all(np.array_equal(a.audio, b.audio) and np.array_equal(a.frames, b.frames) for a, b in zip(first, second, strict=True))
    assert not source.live


@pytest.mark.parametrize("sound_after_s", [-0.7, 0.0, 0.7])
def test_a_limited_run_of_a_file_ends_with_a_whole_second(tmp_path: Path, sound_after_s: float) -> None:
    """With --duration 2, sound and pictures are complete up to 2 s, whichever of them the file holds first, as in the whole file."""
    path = str(write_apart(tmp_path / "clip.mkv", sound_after_s))
    options = SegmenterOptions(frames_per_second=F, picture=LOOK.picture)
    limited = read_feed(make_feed(MediaSource(path, LOOK, speed="max"), options, 2.0))
    whole = read_feed(make_feed(MediaSource(path, LOOK, speed="max"), options))
    assert [segment.index for segment in limited] == [0, 1]
    assert [segment.index for segment in whole] == [0, 1, 2, 3]
    for one, other in zip(limited, whole, strict=False):
        assert one.quality == other.quality
        assert one.quality.missing_samples == 0
        assert np.array_equal(one.audio, other.audio)
        assert np.array_equal(one.frames, other.frames)


def test_its_own_pace_and_full_speed_give_the_same(tmp_path: Path) -> None:
    """A file at its own pace takes its own time, no item comes early, and the segments are those of full speed."""
    path, clock = str(write(tmp_path / "clip.mp4")), FakeClock(step_ns=0)
    paced = segments_of(MediaSource(path, LOOK, speed="1", clock=clock))
    fast = segments_of(MediaSource(path, LOOK, speed="max"))
    assert clock.now_ns == pytest.approx(4e9, rel=0.03)
    assert all(np.array_equal(a.audio, b.audio) and np.array_equal(a.frames, b.frames) for a, b in zip(paced, fast, strict=True))
    early = FakeClock(step_ns=0)
    for item in MediaSource(path, LOOK, speed="1", clock=early).items():
        if isinstance(item, VideoFrame):
            assert early.now_ns >= item.start_ns


@pytest.mark.parametrize("opposite", [True, False])
@pytest.mark.parametrize("codec", ["aac", "pcm_u8"])
def test_channels_that_are_each_other_s_opposite_are_heard(tmp_path: Path, codec: str, opposite: bool) -> None:
    """A balanced line at a stereo input gives two channels that cancel each other in the mix; they are heard as two alike are."""
    path, tone = tmp_path / "clip.mkv", np.sin(2 * np.pi * 440 * np.arange(96_000) / 48_000) * 12_000
    with av.open(str(path), "w") as out:
        audio = out.add_stream(codec, rate=48_000, layout="stereo")
        assert isinstance(audio, av.AudioStream)
        for first in range(0, tone.size, 1_024):
            part = tone[first : first + 1_024].astype(np.int16)
            frame = av.AudioFrame.from_ndarray(np.stack([part, -part if opposite else part], axis=1).reshape(1, -1), format="s16")
            frame.sample_rate, frame.pts, frame.time_base = 48_000, first, Fraction(1, 48_000)
            for resampled in av.AudioResampler(audio.format.name, "stereo", 48_000).resample(frame):
                out.mux(audio.encode(resampled))
        out.mux(audio.encode(None))
    blocks = [item for item in MediaSource(str(path), LOOK, speed="max").items() if isinstance(item, AudioBlock)]
    heard = np.concatenate([block.samples for block in blocks])
    assert heard.size == pytest.approx(32_000, abs=1_100)
    assert float(heard[4_000:28_000].std()) == pytest.approx(12_000 / 32_768, rel=0.1)


def test_a_picture_that_is_said_to_stay_is_no_damage(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Theora sends an empty packet where nothing has changed: the picture is there in every second, and nothing is called damaged."""
    need("ffmpeg", "ffmpeg")
    path, graph = tmp_path / "clip.ogv", "color=c=gray:size=64x48:rate=25:duration=6"
    sound = "sine=frequency=440:duration=6"
    command = ["ffmpeg", "-nostdin", "-loglevel", "error", "-f", "lavfi", "-i", graph, "-f", "lavfi", "-i", sound]
    subprocess.run([*command, "-c:v", "libtheora", "-g", "250", "-c:a", "libvorbis", str(path)], check=True)
    segments = segments_of(MediaSource(str(path), LOOK, speed="max"))
    assert len(segments) == 6
    assert all(float(segment.frames.mean()) > 100 for segment in segments[:5])  # the encoder leaves the last pictures out
    assert not caplog.records


def test_sound_and_picture_are_of_one_programme(tmp_path: Path) -> None:
    """A recorded multiplex holds several programmes: the sound is that of the picture, not the better one of another."""
    need("ffmpeg", "ffmpeg")
    path, inputs = (
        tmp_path / "clip.ts",
        ["testsrc=size=320x240", "sine=frequency=440", "testsrc=size=64x48", "anullsrc=channel_layout=stereo"],
    )
    given = [word for graph in inputs for word in ("-f", "lavfi", "-i", f"{graph}{':' if '=' in graph else '='}duration=3")]
    mapped = [word for number in (0, 2, 3, 1) for word in ("-map", str(number))]
    programmes = ["-program", "title=one:st=0:st=3", "-program", "title=two:st=1:st=2"]
    codecs = ["-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-c:a", "mp2", "-b:a:0", "384k", "-b:a:1", "64k"]
    subprocess.run(["ffmpeg", "-nostdin", "-loglevel", "error", *given, *mapped, *codecs, *programmes, str(path)], check=True)
    segments = segments_of(MediaSource(str(path), LOOK, speed="max"))
    assert float(segments[1].audio.std()) > 0.02
    assert float(segments[1].frames.std()) > 20


def test_a_recording_whose_stamps_begin_late_ends_where_it_says(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Matroska announces the time stamp of its end, not its length: a whole recording is not called one that ends early."""
    segments = segments_of(MediaSource(str(write(tmp_path / "clip.mkv", 3.0, start_s=1000.0)), LOOK, speed="max"))
    assert len(segments) == 3
    assert "ends early" not in caplog.text


@pytest.mark.parametrize(("codec", "b_frames"), [("libx264", "0"), ("libx264", "2"), ("libx265", "0")])
def test_a_bare_stream_of_pictures_is_played_by_its_rate(tmp_path: Path, codec: str, b_frames: str) -> None:
    """H.264 or H.265 without a container has no time stamp at all: its pictures are spaced by the rate that it states."""
    path = tmp_path / ("clip.h264" if codec == "libx264" else "clip.h265")
    options = {"preset": "ultrafast", "g": "10", "bf": b_frames, "x265-params": QUIET_X265}
    with av.open(str(path), "w", format=path.suffix[1:].replace("h265", "hevc")) as out:
        video = out.add_stream(codec, rate=50, options=options)
        assert isinstance(video, av.VideoStream)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        for number in range(150):
            out.mux(video.encode(av.VideoFrame.from_ndarray(np.full((48, 64, 3), 40 + number, np.uint8), format="rgb24")))
        out.mux(video.encode(None))
    shown = [item for item in MediaSource(str(path), LOOK, speed="max").items() if isinstance(item, VideoFrame)]
    assert shown[-1].start_ns - shown[0].start_ns == pytest.approx(3e9, abs=3e8)
    late = [one.start_ns / 1e9 - (float(one.pixels.mean()) - 40) / 50 for one in shown]
    assert max(late) - min(late) < 0.1, "every picture at the same distance from its time"


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("rtsp://nohost.invalid/live", "has a host name that this machine cannot resolve; check the name, or use the IP address"),
        ("http://nohost.invalid/live.m3u8", "cannot resolve"),
        ("udp://nohost.invalid:5000", "cannot resolve"),
        ("rtsp://127.0.0.1:{closed}/live", "refuses the connection: nothing listens there; check that it is running"),
        ("http://127.0.0.1:{closed}/live", "refuses the connection"),
        ("tcp://127.0.0.1:{closed}", "refuses the connection"),
    ],
)
def test_an_address_that_leads_nowhere_is_told_with_what_to_do(address: str, told: str) -> None:
    """An unknown host and a closed port each have an error that names the cause and the remedy, whatever FFmpeg calls it."""
    with pytest.raises(CaptureError, match=told):
        list(MediaSource(address.format(closed=free_port()), LOOK, settings=CaptureSettings(timeout_s=1.0)).items())


def test_a_web_page_is_no_stream(tmp_path: Path) -> None:
    """A link to a page with a player, as people copy it from a browser, is told as a page, with what to do instead."""
    (tmp_path / "index.html").write_text("<!doctype html><title>A video</title><p>player", encoding="utf-8")

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *values: object) -> None:  # noqa: A002 - of the base class
            """Say nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with pytest.raises(CaptureError, match=r"A web page, such as one of YouTube, is no stream: save the video as a file"):
            list(MediaSource(f"http://127.0.0.1:{server.server_address[1]}/", LOOK, settings=CaptureSettings(timeout_s=2.0)).items())
        server.shutdown()


class _Late(socketserver.StreamRequestHandler):
    """An RTSP server that needs a while before it describes its camera, because it opens it first; it has none in the end."""

    def handle(self) -> None:
        asked: list[bytes] = []
        for line in self.rfile:
            asked.append(line.strip())
            if not asked[-1]:
                sequence = next(one for one in asked if one.lower().startswith(b"cseq"))
                describes, asked = asked[0].startswith(b"DESCRIBE"), []
                time.sleep(1.5 if describes else 0.0)
                status = b"404 Not Found" if describes else b"200 OK"
                self.wfile.write(b"RTSP/1.0 " + status + b"\r\n" + sequence + b"\r\nPublic: OPTIONS, DESCRIBE\r\n\r\n")


@pytest.mark.parametrize(("timeout_s", "told"), [(2.0, "that the camera behind it runs"), (0.5, r"longer capture\.timeout_s")])
def test_a_server_that_opens_its_camera_first_is_given_time(timeout_s: float, told: str) -> None:
    """An answer is waited for twice as long as data are; what does not answer by then gave no data in time, which is told so."""
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), _Late) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        source = MediaSource(f"rtsp://127.0.0.1:{server.server_address[1]}/live", LOOK, settings=CaptureSettings(timeout_s=timeout_s))
        with pytest.raises(CaptureError, match=told):
            list(source.items())
        server.shutdown()


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["http", "tcp", "rtsp"])
def test_a_network_stream_that_never_gives_a_packet_is_refused(scheme: str) -> None:
    """A peer that accepts the connection and sends nothing is an error at the start that states what to check."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        settings = CaptureSettings(timeout_s=0.5, reconnect_min_s=0.05, reconnect_max_s=0.1)
        source = MediaSource(f"{scheme}://127.0.0.1:{silent.getsockname()[1]}/live", LOOK, settings=settings)
        timer = threading.Timer(20.0, source.close)
        timer.start()
        with pytest.raises(CaptureError, match="check that it is running"):
            list(source.items())
        timer.cancel()


def test_the_session_of_a_file_is_its_content(tmp_path: Path) -> None:
    """A copy under another name has the same session, and another recording has another one."""
    one = write(tmp_path / "one.mp4")
    (tmp_path / "copy.mp4").write_bytes(one.read_bytes())
    other = write(tmp_path / "other.mp4", 2.0)
    names = [MediaSource(str(path), LOOK).session for path in (one, tmp_path / "copy.mp4", other)]
    assert names[0] == names[1] != names[2]


@pytest.mark.parametrize(("kept", "word"), [("sound", "no picture"), ("picture", "no sound")])
def test_a_file_without_what_is_wanted_is_refused(tmp_path: Path, kept: str, word: str) -> None:
    """Where the only kind that a file has is not wanted, the error names what is missing and what to do."""
    path = write(tmp_path / "half.mp4", sound=kept == "sound", pictures=kept == "picture")
    look = Look(picture=LOOK.picture, frames_per_second=F, wanted=SourceContent(sound=kept != "sound", picture=kept != "picture"))
    with pytest.raises(MissingModalityError, match=word):
        list(MediaSource(str(path), look).items())


def test_an_mp4_cut_off_before_its_index_is_refused(tmp_path: Path) -> None:
    """An MP4 without its moov box cannot be read, and the error states why."""
    path = write(tmp_path / "clip.mp4")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(CaptureError, match="index"):
        list(MediaSource(str(path), LOOK).items())


def test_a_file_cut_off_behind_its_index_is_played_as_far_as_it_goes(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """If the index is in front, the remaining part is played, and the early end is logged."""
    path = write(tmp_path / "clip.mp4", 6.0, options={"movflags": "faststart"})
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    with caplog.at_level(logging.WARNING):
        segments = segments_of(MediaSource(str(path), LOOK, speed="max"))
    assert 1 <= len(segments) < 6
    assert "ends early" in caplog.text


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["mkv", "ts", "mp4"])
def test_damage_in_the_middle_is_skipped(tmp_path: Path, suffix: str) -> None:
    """Bytes overwritten in the middle cost some pictures and sound, but not the run and not the segments before and after."""
    path = write(tmp_path / f"clip.{suffix}", 8.0)
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 3_000] = np.random.default_rng(0).bytes(3_000)
    path.write_bytes(bytes(content))
    segments = segments_of(MediaSource(str(path), LOOK, speed="max"))
    assert [segment.index for segment in segments] == list(range(8))
    assert 0 < sum(segment.quality.missing_samples for segment in segments) < 32_000
    if suffix != "ts":
        assert_in_step([*segments[:2], segments[7]])


@pytest.mark.parametrize(("content", "word"), [(None, "no such file"), (b"", "is empty"), (b"hello" * 100, "not a media file")])
def test_what_is_no_media_file_is_refused(tmp_path: Path, content: bytes | None, word: str) -> None:
    """A missing, an empty and a text file each give one clear error."""
    path = tmp_path / "clip.mp4"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CaptureError, match=word):
        list(MediaSource(str(path), LOOK).items())


def test_a_missing_file_has_no_session(tmp_path: Path) -> None:
    """The session of a missing file raises the same error."""
    with pytest.raises(CaptureError, match="no such file"):
        _ = MediaSource(str(tmp_path / "no.mp4"), LOOK).session


def test_closing_ends_a_file() -> None:
    """No item is yielded after close()."""
    source = MediaSource(LAVFI, LOOK, speed="max")
    taken = []
    for item in source.items():
        taken.append(item)
        if len(taken) == 3:
            source.close()
    assert len(taken) == 3


def write_titled(path: Path, seconds: float = 4.0) -> Path:
    """Write a recording with a title in Latin-1, as old recorders write it."""
    write(path, seconds)
    with av.open(str(path)) as source, av.open(str(path.with_name(f"titled{path.suffix}")), "w") as out:
        streams = {one.index: out.add_stream_from_template(one) for one in source.streams}
        out.metadata["title"] = "cafXX"
        for packet in source.demux():
            if packet.dts is not None:
                packet.stream = streams[packet.stream.index]
                out.mux(packet)
    content = path.with_name(f"titled{path.suffix}").read_bytes()
    assert b"cafXX" in content
    path.write_bytes(content.replace(b"cafXX", b"caf\xe9\xff"))
    return path


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["mkv", "mp4"])
def test_a_title_in_any_encoding_is_no_obstacle(tmp_path: Path, suffix: str) -> None:
    """A recording is played, whatever the encoding of its metadata."""
    segments = segments_of(MediaSource(str(write_titled(tmp_path / f"clip.{suffix}")), LOOK, speed="max"))
    assert [segment.index for segment in segments] == [0, 1, 2, 3]


def test_a_title_in_any_encoding_is_no_obstacle_over_a_network(tmp_path: Path) -> None:
    """A live stream with such a title is played, and no error tells the user to check a password."""
    content = write_titled(tmp_path / "clip.mkv").read_bytes()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def give() -> None:
            peer, _ = server.accept()
            with peer:
                peer.sendall(content)

        threading.Thread(target=give, daemon=True).start()
        settings = CaptureSettings(timeout_s=5.0, reconnect=False)
        source = MediaSource(f"tcp://127.0.0.1:{server.getsockname()[1]}", LOOK, settings=settings)
        got: list[object] = []
        with pytest.raises(CaptureError, match="was lost"):
            got.extend(source.items())  # CPython keeps the items before the error
        assert sum(isinstance(item, VideoFrame) for item in got) >= 12


def test_a_pipe_is_played_to_its_end(tmp_path: Path) -> None:
    """A source that cannot be read twice is not read for its session; the session is a random word, new for each run."""
    content = write(tmp_path / "clip.ts", 4.0).read_bytes()
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)

    def give() -> None:
        with suppress(BrokenPipeError), pipe.open("wb") as file:
            file.write(content)

    threading.Thread(target=give, daemon=True).start()
    source = MediaSource(str(pipe), LOOK, speed="max")
    assert len(source.session) == 16
    assert source.session == source.session
    assert MediaSource(str(pipe), LOOK).session != source.session
    assert [segment.index for segment in segments_of(source)] == [0, 1, 2, 3]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["2026-09-14T10:22:31.mp4", "http:clip.mp4", "lavfi.mp4", "~clip.mp4", "-clip.mp4", "a b?c=d&e.mp4"])
def test_any_name_of_a_file_may_be_given_relative(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """A file name may contain a colon or begin with a tilde; it is not taken as a protocol or as a home folder."""
    write(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    source = MediaSource(name, LOOK, speed="max")
    assert len(source.session) == 64
    assert [segment.index for segment in segments_of(source)] == [0, 1, 2, 3]


def test_a_folder_is_refused_with_what_to_do(tmp_path: Path) -> None:
    """The session and the items both raise an error that tells the user to name a file."""
    with pytest.raises(CaptureError, match="is a folder; name one media file in it"):
        _ = MediaSource(str(tmp_path), LOOK).session
    with pytest.raises(CaptureError, match="is a folder; name one media file in it"):
        list(MediaSource(str(tmp_path), LOOK).items())


@pytest.mark.slow
@pytest.mark.parametrize("hole", ["zeros", "cut"])
def test_a_fragmented_file_with_a_hole_is_played_up_to_it(tmp_path: Path, caplog: pytest.LogCaptureFixture, hole: str) -> None:
    """Only the part before the damage is played, and the log names the time of the damage."""
    path = write(tmp_path / "clip.mp4", 12.0, options={"movflags": "frag_keyframe+empty_moov+default_base_moof"})
    content = path.read_bytes()
    parts = [place for place in range(len(content)) if content[place : place + 4] == b"moof"]
    first, last = parts[4] + 100, parts[6] + 50
    path.write_bytes(content[:first] + (bytes(last - first) if hole == "zeros" else b"") + content[last:])
    with caplog.at_level(logging.WARNING):
        segments = segments_of(MediaSource(str(path), LOOK, speed="max"))
    assert [segment.index for segment in segments] == [0, 1, 2, 3]
    assert "damaged data skipped" in caplog.text
    told = re.search(r"damaged data skipped source=\S+ at_s=(\S+)", caplog.text)
    assert told is not None
    assert float(told[1]) == pytest.approx(4.0, abs=0.1)


def test_pcm_of_eight_described_channels_does_not_end_the_process(tmp_path: Path) -> None:
    """A MOV file describes its eight channels by a tag of Apple's: it is played as any other file. It used to abort the process."""
    path = tmp_path / "eight.mov"
    with av.open(str(path), "w") as file:
        video, audio = file.add_stream("mpeg4", rate=10), file.add_stream("pcm_s16le", rate=48_000, layout="7.1")
        video.width = video.height = 32
        video.pix_fmt = "yuv420p"
        for number in range(30):
            file.mux(video.encode(av.VideoFrame.from_ndarray(np.full((32, 32, 3), 3 * number, np.uint8), format="rgb24")))
            sound = av.AudioFrame.from_ndarray(np.full((1, 8 * 4_800), 8_000, np.int16), format="s16", layout="7.1")
            sound.sample_rate = 48_000
            file.mux(audio.encode(sound))
        file.mux(video.encode())
        file.mux(audio.encode())
    content = bytearray(path.read_bytes())
    tag = content.rindex(b"chan") + 8  # source: QuickTime file format, channel layout atom; behind version and flags
    content[tag : tag + 12] = (128 << 16 | 8).to_bytes(4, "big") + bytes(8)
    path.write_bytes(content)
    program = (
        "from streamav.capture.look import Look\nfrom streamav.capture.media import MediaSource\nfrom streamav.types import AudioBlock\n"
        f"source = MediaSource({str(path)!r}, Look(picture=(8, 8), frames_per_second=2), speed='max')\n"
        "blocks = [item for item in source.items() if isinstance(item, AudioBlock)]\n"
        "print(sum(block.samples.size for block in blocks), min(float(block.samples.max()) for block in blocks) > 0.0)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "48000 True"), done.stderr
