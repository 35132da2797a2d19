"""Tests a restream by the real go2rtc: codecs of cameras over RTSP and HTTP, and what is told when it, or the camera behind it, fails."""

from __future__ import annotations

import subprocess
import threading
import time
from typing import TYPE_CHECKING

import pytest
from rigs.go2rtc import Go2rtc, looped
from rigs.media_clips import write_flashes
from rigs.services import need

from streamav.capture.look import Look
from streamav.capture.media import MediaSource
from streamav.config import CaptureSettings
from streamav.errors import CaptureError
from streamav.segmenter import Segmenter, SegmenterOptions
from streamav.types import AudioBlock, Segment, SourceState, StateChange, VideoFrame

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.rtsp, pytest.mark.slow]

LOOK = Look(picture=(24, 32), frames_per_second=8)
SETTINGS = CaptureSettings(timeout_s=3.0, reconnect_min_s=0.2, reconnect_max_s=0.5)
CODECS = {
    "aac": "-c:v copy -c:a aac",
    "g711": "-c:v copy -c:a pcm_alaw -ar 8000",
    "opus": "-c:v copy -c:a libopus",
    "hevc": "-c:v libx265 -preset ultrafast -x265-params log-level=none -c:a aac",
    "mjpeg": "-c:v mjpeg -huffman 0 -force_duplicated_matrix 1 -pix_fmt yuvj420p -an",
    "silent": "-c:v copy -an",
}
WAYS = [("aac", "rtsp"), ("aac", "mp4"), ("aac", "ts"), ("aac", "m3u8"), ("g711", "rtsp"), ("g711_opus", "rtsp"), ("opus", "rtsp")]
WAYS += [("hevc", "rtsp"), ("slow", "rtsp"), ("slow", "mp4")]


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A flash and a beep together in the first 0.4 s of each second, in the codecs of cameras."""
    need("ffmpeg", "ffmpeg")
    folder = tmp_path_factory.mktemp("clips")
    made = write_flashes(folder / "made.ts", 12.0)
    for name, codecs in CODECS.items():
        command = ["ffmpeg", "-nostdin", "-loglevel", "error", "-y", "-i", str(made), *codecs.split(), str(folder / f"{name}.mkv")]
        subprocess.run(command, check=True)
    return folder


@pytest.fixture(scope="module")
def restream(clips: Path) -> Iterator[Go2rtc]:
    streams: dict[str, str | list[str]] = {name: looped(clips / f"{name}.mkv", "copy") for name in ("aac", "g711", "opus", "hevc")}
    streams |= {name: looped(clips / f"{name}.mkv", "") for name in ("mjpeg", "silent")}
    sender = f"ffmpeg -loglevel error -re -stream_loop -1 -i {clips / 'aac.mkv'} -c copy -rtsp_transport tcp -f rtsp"
    late = clips / "late.sh"
    late.write_text(f'#!/bin/sh\nsleep 3\nexec {sender} "$1"\n')
    late.chmod(0o700)
    streams["slow"] = f"exec:{late} {{output}}"
    streams["gone"] = "rtsp://127.0.0.1:9/gone"
    streams["g711_opus"] = [looped(clips / "g711.mkv"), "ffmpeg:g711_opus#audio=opus"]
    with Go2rtc(clips, streams) as server:
        yield server


def address(restream: Go2rtc, stream: str, way: str) -> str:
    if way != "rtsp":
        return restream.http(way, stream)
    return restream.rtsp(stream) + ("?video&audio=opus" if stream == "g711_opus" else "")


def follow(source: MediaSource, seconds: float = 40.0) -> Iterator[Segment | StateChange]:
    """Yield segments and changes of state for at most this many seconds."""
    timer = threading.Timer(seconds, source.close)
    timer.start()
    segmenter = Segmenter(SegmenterOptions(frames_per_second=8, picture=LOOK.picture, patience_s=1.5))
    for item in source.items():
        if isinstance(item, StateChange):
            yield from segmenter.reset()
            yield item
        elif isinstance(item, AudioBlock | VideoFrame):
            yield from segmenter.push(item)
        else:
            segmenter.expect(item)
    timer.cancel()


@pytest.mark.parametrize(("stream", "way"), WAYS)
def test_a_restreamed_camera_is_seen_and_heard_in_step(restream: Go2rtc, stream: str, way: str) -> None:
    """Whatever codec the camera has and whatever go2rtc makes of it, segments are whole and flashes come with their beeps.

    A camera that go2rtc must start first (3 s here, as long as data are waited for) is waited for.
    """
    source = MediaSource(address(restream, stream, way), LOOK, settings=SETTINGS)
    segments = []
    for item in follow(source):
        assert isinstance(item, Segment), item
        segments.append(item)
        if len(segments) == 6:
            source.close()
    whole = segments[2:6]
    assert [segment.index for segment in whole] == [2, 3, 4, 5]
    for segment in whole:
        loud = abs(segment.audio).reshape(10, -1).max(axis=1) > 0.05
        bright = segment.frames.mean(axis=(1, 2, 3)) > 127
        assert 2 <= loud.sum() <= 7
        assert 1 <= bright.sum() <= 5
        assert segment.quality.missing_samples == 0


@pytest.mark.parametrize(("stream", "way"), [("mjpeg", "rtsp"), ("mjpeg", "mjpeg"), ("silent", "rtsp")])
def test_a_restreamed_camera_without_sound_is_seen(restream: Go2rtc, stream: str, way: str) -> None:
    """Pictures come, second by second, and the segments say that there is no sound."""
    source = MediaSource(address(restream, stream, way), LOOK, settings=SETTINGS)
    segments = []
    for item in follow(source):
        assert isinstance(item, Segment), item
        segments.append(item)
        if len(segments) == 5:
            source.close()
    assert all(segment.frames.max() > 200 for segment in segments[1:4])


@pytest.mark.parametrize("stream", ["gone", "never_heard_of"])
def test_a_stream_without_its_camera_is_refused_with_both_causes(restream: Go2rtc, stream: str) -> None:
    """The answer of go2rtc is the same for a wrong name and for a camera that is off, so the error names both."""
    with pytest.raises(CaptureError, match=r"check the path, and, .* that the camera behind it runs"):
        list(MediaSource(restream.rtsp(stream), LOOK, settings=SETTINGS).items())


@pytest.mark.parametrize("fault", ["go2rtc killed", "go2rtc stopped", "camera killed"])
def test_a_restream_that_fails_is_lost_and_comes_back(clips: Path, tmp_path: Path, fault: str) -> None:
    """Killed, stopped, or without its camera: lost within the time limit, with a reason; back a few seconds after it works again."""
    (tmp_path / "camera").mkdir()
    with (
        Go2rtc(tmp_path / "camera", {"main": looped(clips / "aac.mkv")}) as camera,
        Go2rtc(tmp_path, {"door": camera.rtsp("main")}) as server,
    ):
        hurt = camera if fault.startswith("camera") else server
        source = MediaSource(server.rtsp("door"), LOOK, settings=SETTINGS)
        states: list[SourceState] = []
        at, segments = [0.0, 0.0, 0.0], 0
        for item in follow(source, 60.0):
            if isinstance(item, Segment):
                segments += 1
                if segments == 3:
                    at[0] = time.monotonic()
                    hurt.stop() if fault.endswith("stopped") else hurt.kill()
            elif not states or item.state is not states[-1]:
                states.append(item.state)
                at[len(states)] = time.monotonic()
                if item.state is SourceState.LOST:
                    assert item.reason
                    hurt.go_on() if fault.endswith("stopped") else hurt.start()
                else:
                    source.close()
    assert states == [SourceState.LOST, SourceState.ONLINE]
    assert at[1] - at[0] < SETTINGS.timeout_s + 2.0
    assert at[2] - at[1] < 15.0
