"""Tests a camera with a microphone of which one opens and then is silent; a module of our own replaces PortAudio."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest
from rigs.device_pair import device_pair
from rigs.fake_portaudio import FakePortAudio
from rigs.source_items import plain

from streamav.capture.camera import Camera
from streamav.capture.encoded import EncodedPictures, EncodedSound
from streamav.capture.look import Look
from streamav.capture.microphone import Microphone
from streamav.capture.pair import PairSource
from streamav.clips import PacketRing
from streamav.clips.mp4 import write_mp4
from streamav.clock import SystemClock
from streamav.config import CaptureSettings
from streamav.errors import CaptureError
from streamav.types import AudioBlock, SourceState, VideoFrame

LOOK = Look(picture=(24, 32), frames_per_second=4)
CAMERA = "lavfi:testsrc=size=64x48:rate=25"
SETTINGS = CaptureSettings(timeout_s=0.5, reconnect_min_s=0.05, reconnect_max_s=0.1)


@pytest.fixture
def audio(monkeypatch: pytest.MonkeyPatch) -> FakePortAudio:
    fake = FakePortAudio()
    monkeypatch.setitem(sys.modules, "sounddevice", fake)
    return fake


def taken(source: PairSource, seconds: float = 30.0) -> Iterator[AudioBlock | VideoFrame | SourceState]:
    """Yield items for at most this many seconds."""
    timer = threading.Timer(seconds, source.close)
    timer.start()
    try:
        yield from plain(source.items())
    finally:
        timer.cancel()


def test_a_microphone_that_opens_and_gives_nothing_is_refused(audio: FakePortAudio) -> None:
    """A microphone that is silent at the start is an error that states what to do, although the camera works."""
    source = device_pair(CAMERA, "default", LOOK, settings=SETTINGS)
    with pytest.raises(CaptureError, match=r"microphone 'default' gave nothing for 0.5 s: .*streamav devices"):
        list(taken(source))


def test_a_camera_that_opens_and_gives_no_picture_is_refused(audio: FakePortAudio, monkeypatch: pytest.MonkeyPatch) -> None:
    """A camera that is silent at the start is an error, although the microphone works; FFmpeg's own timeout is not used."""

    def no_pictures(camera: Camera, stop: threading.Event) -> Iterator[object]:
        stop.wait(20.0)
        yield from ()

    audio.sounding.set()
    monkeypatch.setattr(Camera, "frames", no_pictures)
    source = device_pair(CAMERA, "default", LOOK, settings=SETTINGS)
    with pytest.raises(CaptureError, match=r"camera 'lavfi:.*' gave no picture for 0.5 s: .*streamav devices"):
        list(taken(source))


@pytest.mark.slow
def test_a_microphone_that_falls_silent_later_is_lost_and_comes_back(audio: FakePortAudio) -> None:
    """After both devices have worked, silence is a loss, and the source is back only when both give data again."""
    audio.sounding.set()
    source = device_pair(CAMERA, "default", LOOK, settings=SETTINGS.model_copy(update={"timeout_s": 2.0}))
    states: list[SourceState] = []
    after: list[type] = []
    for item in taken(source):
        if item is SourceState.LOST:
            states.append(item)
            threading.Timer(3.0, audio.sounding.set).start()  # longer than one attempt
        elif item is SourceState.ONLINE:
            states.append(item)
        elif not states and isinstance(item, AudioBlock):
            audio.sounding.clear()
        elif SourceState.ONLINE in states:
            after.append(type(item))
            if {AudioBlock, VideoFrame} <= set(after):
                source.close()
    assert states == [SourceState.LOST, SourceState.ONLINE]
    assert {AudioBlock, VideoFrame} <= set(after)


def test_sound_from_before_the_first_picture_is_kept(audio: FakePortAudio, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sound that arrives while the camera starts is passed on with the camera's first picture."""
    frames = Camera.frames

    def late(camera: Camera, stop: threading.Event) -> Iterator[tuple[int, av.VideoFrame]]:
        while audio.given < 5 and not stop.wait(0.01):
            pass
        yield from frames(camera, stop)

    audio.sounding.set()
    monkeypatch.setattr(Camera, "frames", late)
    source = device_pair(CAMERA, "default", LOOK, settings=CaptureSettings())
    blocks: list[AudioBlock] = []
    pictures: list[VideoFrame] = []
    for item in taken(source):
        if isinstance(item, AudioBlock):
            blocks.append(item)
        if isinstance(item, VideoFrame):
            pictures.append(item)
        if blocks and pictures:
            source.close()
    assert pictures[0].start_ns - blocks[0].start_ns >= 400_000_000


class LatePortAudio(FakePortAudio):
    """Lists the microphone only after it was restarted, as PortAudio does with one that is plugged in during a run."""

    def __init__(self) -> None:
        super().__init__()
        self.plugged, self.listed, self.restarts = False, False, 0

    def query_devices(self, device: object, kind: str) -> dict[str, object]:
        if not self.listed:
            msg = f"No input device matching {device!r}"
            raise ValueError(msg)
        return super().query_devices(device, kind)

    def _terminate(self) -> None:
        self.restarts += 1

    def _initialize(self) -> None:
        self.listed = self.plugged


def test_a_microphone_that_is_plugged_in_during_a_run_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """PortAudio's list of devices is read again before a microphone is called missing, unless another one is open."""
    fake = LatePortAudio()
    monkeypatch.setitem(sys.modules, "sounddevice", fake)
    first, second = Microphone("usb", SystemClock()), Microphone("headset", SystemClock())
    with pytest.raises(CaptureError, match="No input device"):
        first.open()
    fake.plugged = True
    first.open()
    restarts, fake.listed = fake.restarts, False
    with pytest.raises(CaptureError, match="No input device"):
        second.open()
    assert fake.restarts == restarts
    first.close()
    second.open()
    second.close()


def test_what_two_devices_give_can_be_cut_into_a_clip(audio: FakePortAudio, tmp_path: Path) -> None:
    """A camera with a microphone fills the ring with H.264 and AAC on the media clock, so an event has a clip that browsers play."""
    audio.sounding.set()
    ring = PacketRing(30.0)
    source = device_pair("lavfi:testsrc=size=162x90:rate=30", "default", LOOK, settings=CaptureSettings(), tap=ring)
    newest_ns = 0
    for item in taken(source):
        if isinstance(item, VideoFrame | AudioBlock):
            newest_ns = max(newest_ns, item.end_ns)
        if newest_ns > 4_000_000_000:
            source.close()
    footage = ring.footage(0, newest_ns)
    assert footage is not None
    write_mp4(tmp_path / "clip.mp4", footage)
    with av.open(str(tmp_path / "clip.mp4")) as clip:
        assert [stream.codec_context.name for stream in clip.streams] == ["h264", "aac"]
        assert (clip.streams.video[0].codec_context.width, clip.streams.video[0].codec_context.height) == (162, 90)
        times = [float(frame.time or 0.0) for frame in clip.decode(video=0)]
    assert 2.0 < times[-1] < 5.0
    assert len(times) <= 16 * times[-1] + 2  # of 30 pictures a second, 15 are kept


def test_a_picture_that_cannot_be_encoded_costs_the_clips_only(caplog: pytest.LogCaptureFixture) -> None:
    """When the encoder fails, it is said once, and taking pictures and sound goes on."""
    ring = PacketRing(10.0)
    pictures, sound = EncodedPictures(ring, (64, 48), 0), EncodedSound(ring, 0)
    pictures._size = (0, 2)
    for number in range(3):
        pictures.take(av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), format="rgb24"), number * 1_000_000_000)
        sound.take(np.zeros(1600, np.float32), number * 100_000_000)
    assert [record.message for record in caplog.records if "no clips" in record.message] != []
    assert len([record for record in caplog.records if "no clips" in record.message]) == 1
