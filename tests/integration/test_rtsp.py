"""Tests network streams that die, hang and return: RTSP with a real server, MPEG-TS sent by a real ffmpeg."""

from __future__ import annotations

import subprocess
import threading
import time
from typing import TYPE_CHECKING

import pytest
from rigs.rtsp_server import RtspServer
from rigs.services import free_port, need
from rigs.source_items import plain

from streamav.capture.look import Look
from streamav.capture.media import MediaSource
from streamav.config import CaptureSettings
from streamav.errors import CaptureError
from streamav.segmenter import Segmenter, SegmenterOptions
from streamav.types import Segment, SourceState

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.rtsp, pytest.mark.slow]

LOOK = Look(picture=(24, 32), frames_per_second=4)
SETTINGS = CaptureSettings(timeout_s=2.0, reconnect_min_s=0.2, reconnect_max_s=0.5)


@pytest.fixture
def server() -> Iterator[RtspServer]:
    with RtspServer() as rtsp:
        yield rtsp


def follow(source: MediaSource, seconds: float) -> Iterator[Segment | SourceState]:
    """Yield segments and states for at most this many seconds."""
    timer = threading.Timer(seconds, source.close)
    timer.start()
    segmenter = Segmenter(SegmenterOptions(frames_per_second=4, picture=LOOK.picture, patience_s=1.5))
    for item in plain(source.items()):
        if isinstance(item, SourceState):
            yield from segmenter.reset()
            yield item
        else:
            yield from segmenter.push(item)
    timer.cancel()


def test_a_stream_gives_sound_and_picture_of_the_same_seconds(server: RtspServer) -> None:
    """After the first segment, segments are whole: nothing is missing, and the tone is there."""
    source = MediaSource(server.url, LOOK, settings=SETTINGS)
    segments = []
    for item in follow(source, 20.0):
        segments.append(item)
        if len(segments) == 4:
            source.close()
    whole = [item for item in segments[1:] if isinstance(item, Segment)]
    assert [segment.index for segment in whole] == [1, 2, 3]
    assert all(segment.quality.missing_samples == 0 for segment in whole)
    assert all(segment.audio.std() > 0.05 and segment.frames.std() > 20 for segment in whole)
    assert source.live


@pytest.mark.parametrize("fault", ["kill", "stop"])
def test_a_dead_or_hanging_server_is_lost_and_comes_back(server: RtspServer, fault: str) -> None:
    """A killed server ends the stream, a stopped one sends nothing; both are LOST, then ONLINE."""
    source = MediaSource(server.url, LOOK, settings=SETTINGS)
    states: list[tuple[SourceState, float]] = []
    segments: list[Segment] = []
    hurt = 0.0
    for item in follow(source, 40.0):
        if isinstance(item, SourceState):
            states.append((item, time.monotonic()))
            if item is SourceState.LOST:
                server.start() if fault == "kill" else server.go_on()
            continue
        segments.append(item)
        if len(segments) == 2:
            hurt = time.monotonic()
            server.kill() if fault == "kill" else server.stop()
        if len(states) == 2 and len(segments) >= 6:
            source.close()
    assert [state for state, _ in states] == [SourceState.LOST, SourceState.ONLINE]
    assert states[0][1] - hurt < SETTINGS.timeout_s + 1.5
    indices = [segment.index for segment in segments]
    assert indices == sorted(set(indices))


def test_closing_does_not_wait_for_a_hanging_server(server: RtspServer) -> None:
    """close() ends items() at once although the reading thread is still blocked."""
    source = MediaSource(server.url, LOOK, settings=CaptureSettings(timeout_s=10.0))
    closed = 0.0
    for number, _ in enumerate(source.items()):
        if number == 20:
            server.stop()
            closed = time.monotonic()
            source.close()
    assert time.monotonic() - closed < 1.5
    server.go_on()


def test_a_server_that_is_not_there_is_refused_at_the_start() -> None:
    """The first attempt fails with an error that does not show the password."""
    source = MediaSource(f"rtsp://user:secret@127.0.0.1:{free_port()}/live", LOOK, settings=SETTINGS)
    with pytest.raises(CaptureError, match="refuses the connection") as caught:
        list(source.items())
    assert "secret" not in str(caught.value)


def test_without_reconnecting_a_loss_ends_the_run(server: RtspServer) -> None:
    """With capture.reconnect = false the state is LOST, then a CaptureError is raised."""
    source = MediaSource(server.url, LOOK, settings=SETTINGS.model_copy(update={"reconnect": False}))
    seen: list[object] = []

    def run() -> None:
        for item in plain(source.items()):
            seen.append(item)
            if len(seen) == 20:
                server.kill()

    with pytest.raises(CaptureError, match=r"capture\.reconnect"):
        run()
    assert seen[-1] is SourceState.LOST


@pytest.mark.parametrize("key_frame_every", ["25", "1000"])
@pytest.mark.parametrize("scheme", ["udp", "tcp"])
def test_a_pushed_transport_stream_is_a_live_source(scheme: str, key_frame_every: str) -> None:
    """MPEG-TS over UDP or TCP gives whole segments, however rare its key frames, and its end is a loss, not the end of the run."""
    need("ffmpeg", "ffmpeg")
    port = free_port()
    ours = f"udp://127.0.0.1:{port}?fifo_size=100000&overrun_nonfatal=1" if scheme == "udp" else f"tcp://127.0.0.1:{port}?listen=1"
    theirs = f"{scheme}://127.0.0.1:{port}" + ("?pkt_size=1316" if scheme == "udp" else "")
    graph = "testsrc=size=64x48:rate=25:duration=6[out0];sine=frequency=440:sample_rate=48000:duration=6[out1]"
    codecs = ["-c:v", "libx264", "-preset", "ultrafast", "-g", key_frame_every, "-pix_fmt", "yuv420p", "-c:a", "aac", "-f", "mpegts"]
    pusher: list[subprocess.Popen[bytes]] = []

    def push() -> None:
        pusher.append(subprocess.Popen(["ffmpeg", "-nostdin", "-loglevel", "quiet", "-re", "-f", "lavfi", "-i", graph, *codecs, theirs]))

    starter = threading.Timer(0.5, push)  # the receiver must be there first
    starter.start()
    source = MediaSource(ours, LOOK, settings=CaptureSettings(timeout_s=3.0, reconnect_min_s=0.2, reconnect_max_s=0.5))
    segments: list[Segment] = []
    for item in follow(source, 30.0):
        if isinstance(item, SourceState):
            assert item is SourceState.LOST
            source.close()
        else:
            segments.append(item)
    starter.join()
    pusher[0].wait(timeout=10)
    assert len(segments) >= 4
    whole = segments[1:-1]
    assert all(segment.quality.missing_samples == 0 and segment.audio.std() > 0.05 for segment in whole)
    assert all(segment.quality.repeated_frames == 0 and segment.frames.any() for segment in whole)
