"""Tests what a source may be made of: one kind alone, loops, standard input, joined files and streams. FFmpeg and real sockets are used."""

from __future__ import annotations

import http.server
import logging
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from fractions import Fraction
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING

import av
import numpy as np
import pytest
from rigs.media_clips import write_flashes
from rigs.roles import make_feed, read_feed
from rigs.services import free_port, need
from rigs.source_items import plain

from streamav.capture.look import Look
from streamav.capture.media import MediaSource
from streamav.capture.open import open_source
from streamav.config import CaptureSettings, SourceSettings
from streamav.errors import CaptureError
from streamav.segmenter import Segmenter, SegmenterOptions
from streamav.types import AudioBlock, Segment, SourceContent, SourceState, VideoFrame

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from streamav.protocols import Source

F = 8
LOOK = Look(picture=(24, 32), frames_per_second=F)
LIVE = CaptureSettings(timeout_s=4.0, reconnect_min_s=0.2, reconnect_max_s=0.5)
QUIET = ["ffmpeg", "-nostdin", "-loglevel", "quiet"]
FROM_STDIN = """
from streamav.capture.look import Look
from streamav.capture.media import MediaSource
from streamav.types import AudioBlock
source = MediaSource("-", Look(picture=(24, 32), frames_per_second=4), speed="max")
print(source.live, sum(item.samples.size for item in source.items() if isinstance(item, AudioBlock)) / 16000)
"""
"""Reads standard input and prints whether it is live, and the seconds of sound."""
OPTIONS = SegmenterOptions(frames_per_second=F, picture=LOOK.picture)


@pytest.fixture(scope="module")
def flashes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A white picture and a beep together for the first 0.4 s of every second; else black and quiet."""
    return write_flashes(tmp_path_factory.mktemp("flashes") / "both.ts", 6.0)


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_flashes(tmp_path_factory.mktemp("flashes") / "seen.ts", 4.0, sound=False)


@pytest.fixture(scope="module")
def heard(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_flashes(tmp_path_factory.mktemp("flashes") / "heard.ts", 4.0, pictures=False)


def opened(**settings: object) -> Source:
    return open_source(SourceSettings.model_validate(settings), LIVE, picture=LOOK.picture, frames_per_second=F)


def segments_of(source: Source, count: int = 99) -> list[Segment]:
    """Return the first segments of a source; a live one is given half a minute."""
    segmenter = Segmenter(OPTIONS if not source.live else SegmenterOptions(frames_per_second=F, picture=LOOK.picture, patience_s=1.5))
    timer = threading.Timer(30.0, source.close)
    timer.start()

    def cut() -> Iterator[Segment]:
        for item in source.items():
            if isinstance(item, SourceContent):
                segmenter.expect(item)
            elif not hasattr(item, "reason"):
                yield from segmenter.push(item)
        yield from segmenter.close()

    try:
        return list(islice(cut(), count))
    finally:
        timer.cancel()
        source.close()


def skews_s(segments: list[Segment]) -> list[float]:
    """Return by how much later than its flash each beep begins, s: positions in the whole recording, the nearest ones paired."""
    shown = np.concatenate([segment.frames.mean(axis=(1, 2, 3)) for segment in segments]) > 127
    loud = np.abs(np.concatenate([segment.audio for segment in segments])) > 0.05
    flashes = np.flatnonzero(shown[1:] & ~shown[:-1]) / F + 1 / F
    quiet = np.convolve(loud, np.ones(1_600), "full")[: loud.size] == 0
    beeps = (np.flatnonzero(loud[1:] & quiet[:-1]) + 1) / 16_000
    return [float(beeps[np.argmin(np.abs(beeps - flash))] - flash) for flash in flashes]


@pytest.mark.parametrize("lacks", ["sound", "picture"])
def test_a_file_of_one_kind_runs_and_says_so_once(lacks: str, seen: Path, heard: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Its segments come without a wait for what it lacks, they are one-sided, and one warning says what cannot come of it."""
    feed = make_feed(MediaSource(str(seen if lacks == "sound" else heard), LOOK, speed="max"), OPTIONS)
    with caplog.at_level(logging.WARNING):
        segments = read_feed(feed)
    assert [segment.index for segment in segments] == [0, 1, 2, 3]
    assert all(segment.quality.sound_missing == (lacks == "sound") for segment in segments)
    assert all(segment.quality.picture_missing == (lacks == "picture") for segment in segments)
    said = [record.getMessage() for record in caplog.records if "heard and seen" in record.getMessage()]
    assert len(said) == 1
    assert f"has no {lacks}" in said[0]


def test_a_segment_of_one_kind_does_not_wait_for_the_other(heard: Path) -> None:
    """Of sound alone the first segment is complete with its last sample, not after the patience for pictures."""
    segmenter = Segmenter(OPTIONS)
    for item in MediaSource(str(heard), LOOK, speed="max").items():
        if isinstance(item, SourceContent):
            assert item == SourceContent(picture=False)
            segmenter.expect(item)
        elif isinstance(item, AudioBlock) and segmenter.push(item):
            assert item.end_ns < 1_200_000_000
            return
    pytest.fail("no segment came")


def test_half_of_a_file_can_be_left_out(flashes: Path) -> None:
    """With `mic = "none"` the sound of a file is not read, with `camera = "none"` its pictures are not."""
    assert all(segment.quality.sound_missing for segment in segments_of(opened(uri=str(flashes), mic="none", speed="max")))
    assert all(segment.quality.picture_missing for segment in segments_of(opened(uri=str(flashes), camera="none", speed="max")))


def test_a_file_in_a_loop_goes_on_without_a_gap(seen: Path, flashes: Path) -> None:
    """Its second round continues where the first one ended, and sound and picture stay together."""
    segments = segments_of(opened(uri=str(flashes), loop=True, speed="max"), 15)
    assert [segment.index for segment in segments] == list(range(15))
    assert sum(segment.quality.missing_samples for segment in segments) < 3 * 1_600
    assert max(map(abs, skews_s(segments))) < 0.15
    told = [item for item in islice(opened(uri=str(seen), loop=True, speed="max").items(), 200) if isinstance(item, SourceContent)]
    assert told == [SourceContent(sound=False)]


def test_a_loop_of_nothing_is_an_error(tmp_path: Path) -> None:
    """A file that gives nothing does not loop for ever."""
    empty = tmp_path / "empty.ts"
    empty.write_bytes(b"")
    with pytest.raises(CaptureError):
        list(opened(uri=str(empty), loop=True, speed="max").items())


@pytest.mark.slow
def test_standard_input_is_a_source(flashes: Path) -> None:
    """`--source -` reads a recording from a pipe to its end."""
    with flashes.open("rb") as file:
        done = subprocess.run([sys.executable, "-c", FROM_STDIN], stdin=file, capture_output=True, text=True, check=True, timeout=60)
    live, seconds = done.stdout.split()
    assert live == "False"
    assert float(seconds) == pytest.approx(6.0, abs=0.1)


def test_a_text_file_is_no_recording(tmp_path: Path) -> None:
    """FFmpeg would draw a text as pictures; it is refused."""
    notes = tmp_path / "notes.txt"
    notes.write_text("the camera is at the gate\n" * 100)
    with pytest.raises(CaptureError, match=r"text file|not a media file"):
        list(opened(uri=str(notes), speed="max").items())


def test_pictures_and_sound_of_two_files_begin_together(seen: Path, heard: Path) -> None:
    """Two files that were recorded at once are joined at their beginnings."""
    segments = segments_of(opened(uri=str(seen), sound_uri=str(heard), speed="max"))
    assert [segment.index for segment in segments] == [0, 1, 2, 3]
    assert not any(segment.quality.one_sided for segment in segments)
    assert max(map(abs, skews_s(segments))) < 0.15


@pytest.mark.slow
def test_pictures_and_sound_of_two_streams_are_on_one_clock(tmp_path: Path) -> None:
    """The pictures of one TCP stream and the sound of another, sent at the same pace, are in step within 300 ms.

    How long each is on its way is not known; of the 300 ms, 125 are the distance of two pictures.
    """
    need("ffmpeg", "ffmpeg")
    clip = write_flashes(tmp_path / "long.ts", 20.0)
    ports = free_port(), free_port()
    ends = [f"tcp://127.0.0.1:{port}" for port in ports]
    source = opened(uri=f"{ends[0]}?listen=1", sound_uri=f"{ends[1]}?listen=1")
    outputs = [part for end, kind in zip(ends, "va", strict=True) for part in ("-map", f"0:{kind}", "-c", "copy", "-f", "mpegts", end)]
    pusher: list[subprocess.Popen[bytes]] = []

    def push() -> None:
        pusher.append(subprocess.Popen(["ffmpeg", "-nostdin", "-loglevel", "quiet", "-re", "-i", str(clip), *outputs]))

    starter = threading.Timer(1.5, push)
    starter.start()
    try:
        segments = segments_of(source, 8)
    finally:
        starter.join()
        pusher[0].kill()
        pusher[0].wait(timeout=10)
    whole = [segment for segment in segments[2:] if not segment.quality.one_sided]
    assert len(whole) >= 5
    assert abs(float(np.median(skews_s(whole)))) < 0.3


@pytest.mark.slow
def test_srt_comes_through_standard_input(flashes: Path) -> None:
    """PyAV's wheels lack SRT: the error names the way around it, and that way works."""
    need("ffmpeg", "ffmpeg")
    port = free_port()
    with pytest.raises(CaptureError, match=r"lacks the protocol srt: .*ffmpeg .* \| streamav run --source -"):
        list(opened(uri=f"srt://127.0.0.1:{port}").items())
    listener = f"srt://127.0.0.1:{port}?mode=listener"
    sender = subprocess.Popen([*QUIET, "-re", "-stream_loop", "1", "-i", str(flashes), "-c", "copy", "-f", "mpegts", listener])
    time.sleep(1.0)
    receive = ("-i", f"srt://127.0.0.1:{port}", "-c", "copy", "-f", "mpegts", "-")
    receiver = subprocess.Popen([*QUIET, *receive], stdout=subprocess.PIPE)
    try:
        reader = [sys.executable, "-c", FROM_STDIN]
        done = subprocess.run(reader, stdin=receiver.stdout, capture_output=True, text=True, timeout=60, check=True)
    finally:
        for one in (sender, receiver):
            one.kill()
            one.wait(timeout=10)
        if receiver.stdout is not None:
            receiver.stdout.close()
    assert float(done.stdout.split()[1]) > 6.0


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name
        pass


@pytest.fixture
def web(tmp_path: Path) -> Iterator[str]:
    """A web server of a folder; yields its address."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(tmp_path)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


@pytest.mark.slow
def test_hls_is_a_live_source(tmp_path: Path, web: str, flashes: Path) -> None:
    """A live playlist over HTTP gives segments in step; its end is a loss."""
    need("ffmpeg", "ffmpeg")
    playlist = ("-f", "hls", "-hls_time", "1", "-hls_list_size", "4", "-hls_flags", "delete_segments", str(tmp_path / "live.m3u8"))
    sender = subprocess.Popen([*QUIET, "-re", "-stream_loop", "9", "-i", str(flashes), "-c", "copy", *playlist])
    try:
        end_s = time.monotonic() + 20.0
        while not (tmp_path / "live.m3u8").exists() and time.monotonic() < end_s:
            time.sleep(0.1)
        source = opened(uri=f"{web}/live.m3u8")
        assert source.live
        segments = segments_of(source, 5)
    finally:
        sender.kill()
        sender.wait(timeout=10)
    assert len(segments) == 5
    assert max(map(abs, skews_s(segments[1:]))) < 0.15


class _Phone(_Quiet):
    """Sends ten JPEG pictures a second, as the apps that make a camera of a phone do."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.end_headers()
        encoder = av.CodecContext.create("mjpeg", "w")
        encoder.width, encoder.height, encoder.pix_fmt, encoder.time_base = 64, 48, "yuvj420p", Fraction(1, 10)
        with suppress(OSError):
            for number in range(200):
                frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), number % 256, np.uint8), format="rgb24").reformat(format="yuvj420p")
                frame.pts = number
                for packet in encoder.encode(frame):
                    data = bytes(packet)
                    self.wfile.write(b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n%s\r\n" % (len(data), data))
                time.sleep(0.1)


def _send_bare_h264(listener: socket.socket) -> None:
    """Send ten H.264 pictures a second without a container to the first who asks, and to nobody else, as cameras of small boards do."""
    encoder = av.CodecContext.create("libx264", "w")
    encoder.width, encoder.height, encoder.pix_fmt, encoder.time_base = 64, 48, "yuv420p", Fraction(1, 10)
    encoder.options = {"preset": "ultrafast", "tune": "zerolatency", "g": "10"}
    with suppress(OSError), listener.accept()[0] as peer:
        listener.close()
        for number in range(200):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), number % 256, np.uint8), format="rgb24").reformat(format="yuv420p")
            frame.pts = number
            for packet in encoder.encode(frame):
                peer.sendall(bytes(packet))
            time.sleep(0.1)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["mjpeg", "h264"])
def test_pictures_without_time_stamps_are_placed_where_they_arrive(kind: str) -> None:
    """MJPEG over HTTP, or bare H.264 over TCP, at ten pictures a second takes as long on the media clock as in the world.

    FFmpeg supposes 25 a second. The stream is opened once, because small senders serve one caller and then end.
    """
    if kind == "mjpeg":
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Phone)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        source = opened(uri=f"http://127.0.0.1:{server.server_address[1]}/video")
    else:
        listener = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=_send_bare_h264, args=(listener,), daemon=True).start()
        source = opened(uri=f"tcp://127.0.0.1:{listener.getsockname()[1]}")
    began, first = 0.0, 0
    threading.Timer(30.0, source.close).start()
    for item in plain(source.items()):
        if isinstance(item, VideoFrame):
            began, first = began or time.monotonic(), first or item.start_ns
            if time.monotonic() - began > 4.0:
                passed_s = time.monotonic() - began
                assert (item.start_ns - first) / 1e9 == pytest.approx(passed_s, abs=1.0)
                source.close()
    assert began
    if kind == "mjpeg":
        server.shutdown()
        server.server_close()


def test_a_file_on_a_web_server_ends(tmp_path: Path, web: str) -> None:
    """A plain media file over HTTP is a file: it ends, without a loss."""
    write_flashes(tmp_path / "film.mp4", 3.0)
    source = opened(uri=f"{web}/film.mp4", speed="max")
    assert not source.live
    assert [segment.index for segment in segments_of(source)] == [0, 1, 2]


@pytest.mark.slow
def test_of_several_sources_a_dead_one_is_waited_for() -> None:
    """With `retry_start` a stream that is not there at the start is lost, with the reason, and is opened when it comes."""
    need("ffmpeg", "ffmpeg")
    port = free_port()
    patient = LIVE.model_copy(update={"retry_start": True})
    source = MediaSource(f"tcp://127.0.0.1:{port}", LOOK, settings=patient)
    graph = "testsrc=size=64x48:rate=25[out0];sine=frequency=440:sample_rate=48000[out1]"
    codecs = ["-c:v", "libx264", "-preset", "ultrafast", "-g", "25", "-pix_fmt", "yuv420p", "-c:a", "aac", "-f", "mpegts"]
    server: list[subprocess.Popen[bytes]] = []
    threading.Timer(25.0, source.close).start()
    states: list[SourceState] = []
    for item in plain(source.items()):
        if isinstance(item, SourceState):
            states.append(item)
        if item is SourceState.LOST:
            ours = ["ffmpeg", "-nostdin", "-loglevel", "quiet", "-re", "-f", "lavfi", "-i", graph, *codecs]
            server.append(subprocess.Popen([*ours, f"tcp://127.0.0.1:{port}?listen=1"]))
        elif isinstance(item, AudioBlock):
            source.close()
    server[0].kill()
    server[0].wait(timeout=10)
    assert states == [SourceState.LOST, SourceState.ONLINE]


@pytest.mark.parametrize("folder", ["{dir}/elsewhere", "elsewhere"])
def test_a_playlist_on_the_disk_reads_no_other_file(flashes: Path, tmp_path: Path, folder: str) -> None:
    """A downloaded playlist may name any recording of this machine, so it is refused, and a live one does not wait without end."""
    (tmp_path / "elsewhere").mkdir()
    subprocess.run([*QUIET, "-i", str(flashes), "-c", "copy", str(tmp_path / "elsewhere/other.ts")], check=True)
    listed = f"#EXTM3U\n#EXT-X-TARGETDURATION:20\n#EXTINF:8,\n{folder.format(dir=tmp_path)}/other.ts\n"
    for name, end in (("ended.m3u8", "#EXT-X-ENDLIST\n"), ("live.m3u8", "")):
        (tmp_path / name).write_text(listed + end)
        with pytest.raises(CaptureError, match=f"{name} is a playlist"):
            next(iter(opened(uri=str(tmp_path / name)).items()))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("own.ffconcat", "ffconcat version 1.0\nfile own.ffconcat\n"),
        ("other.ffconcat", "ffconcat version 1.0\nfile other.mkv\n"),
        ("camera.sdp", "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=video 5004 RTP/AVP 26\r\n"),
    ],
)
def test_a_file_that_names_others_is_refused(name: str, content: str, flashes: Path, tmp_path: Path) -> None:
    """A list that names itself opened files until none was left for the other sources; a session description belongs to its server."""
    (tmp_path / "other.mkv").write_bytes(flashes.read_bytes())
    (tmp_path / name).write_text(content, newline="")
    with pytest.raises(CaptureError, match=f"{name} is a playlist.*rtsp://"):
        next(iter(opened(uri=str(tmp_path / name)).items()))


def test_standard_input_names_no_other_file(flashes: Path, tmp_path: Path) -> None:
    """A list that comes through standard input reads no file of this machine."""
    (tmp_path / "other.mkv").write_bytes(flashes.read_bytes())
    reader = (
        "from streamav.capture.look import Look; from streamav.capture.media import MediaSource; "
        "print(next(iter(MediaSource('-', Look(picture=(8, 8), frames_per_second=1), speed='max').items())))"
    )
    given = b"ffconcat version 1.0\nfile other.mkv\n"
    run = subprocess.run([sys.executable, "-c", reader], input=given, capture_output=True, cwd=tmp_path, timeout=60, check=False)
    assert b"CaptureError: standard input gives a playlist" in run.stderr
    assert run.stdout == b""


def test_a_file_without_a_byte_is_called_empty(tmp_path: Path) -> None:
    """An empty file is not called damaged."""
    (tmp_path / "a.mkv").touch()
    with pytest.raises(CaptureError, match=r"a\.mkv is empty"):
        next(iter(opened(uri=str(tmp_path / "a.mkv")).items()))


def test_a_name_that_is_too_long_is_an_error_of_the_source() -> None:
    """The system refuses such a name before FFmpeg does."""
    with pytest.raises(CaptureError, match="too long"):
        next(iter(opened(uri=f"{'n' * 300}.mp4").items()))
