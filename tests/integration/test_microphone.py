"""Tests the microphone with a real sound server: PortAudio over PulseAudio's null sink, without a sound card."""

from __future__ import annotations

import itertools
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

import numpy as np
import pytest
from rigs.device_pair import device_pair
from rigs.microphone import VirtualMicrophone
from rigs.roles import write_tiny_bundle
from rigs.source_items import plain

from streamav.capture.devices import list_microphones
from streamav.capture.look import Look
from streamav.capture.microphone import Microphone
from streamav.capture.portaudio import load_sounddevice
from streamav.clock import SystemClock
from streamav.config import CaptureSettings
from streamav.errors import CaptureError
from streamav.segmenter import Segmenter, SegmenterOptions
from streamav.types import AudioBlock, Segment, SourceState, VideoFrame

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

pytestmark = [pytest.mark.audio_device, pytest.mark.slow]

LOOK = Look(picture=(24, 32), frames_per_second=4)
CAMERA = "lavfi:testsrc=size=64x48:rate=25"


@pytest.fixture
def rig(monkeypatch: pytest.MonkeyPatch) -> Iterator[VirtualMicrophone]:
    with VirtualMicrophone() as microphone:
        for name, value in microphone.environment.items():
            monkeypatch.setenv(name, value)
        # PortAudio lists the devices once for each process, and an earlier test may have asked it before this server ran.
        sounddevice = load_sounddevice()
        sounddevice._terminate()
        sounddevice._initialize()
        yield microphone


def noise(seconds: float, rate_hz: int, seed: int = 0) -> NDArray[np.float32]:
    """Return noise below 4 kHz, so that it survives the resampling at both rates; the same sound at every rate."""
    spectrum = np.random.default_rng(seed).standard_normal((round(4_000 * seconds), 2)) @ np.array([1.0, 1.0j])
    full = np.zeros(round(rate_hz * seconds) // 2 + 1, complex)
    full[: spectrum.size] = spectrum
    sound = np.fft.irfft(full, round(rate_hz * seconds))
    return np.asarray(0.3 * sound / np.abs(sound).max(), np.float32)


def record(microphone: Microphone, seconds: float, act: Callable[[float], None] = lambda _: None) -> list[AudioBlock]:
    """Collect blocks for some seconds, and call *act* again and again with the time since the start, without the time that *act* takes."""
    blocks: list[AudioBlock] = []
    stop, start = threading.Event(), time.monotonic()
    for block in microphone.blocks(stop):
        since = time.monotonic() - start
        if since > seconds:
            break
        act(since)
        start = time.monotonic() - since
        if block is not None:
            blocks.append(block)
    return blocks


def once(when_s: float, act: Callable[[], object]) -> Callable[[float], None]:
    """Run a function once when its time has come."""
    done: list[object] = []

    def check(since_s: float) -> None:
        if since_s >= when_s and not done:
            done.append(True)
            act()

    return check


def test_a_known_sound_is_found_where_it_was_played(rig: VirtualMicrophone) -> None:
    """The played sound is heard unchanged, from a block before its start to 0.3 s after it."""
    microphone = Microphone("pulse", SystemClock())
    microphone.open()
    played: list[tuple[int, int]] = []
    try:
        blocks = record(microphone, 3.0, once(0.7, lambda: played.append(rig.play(noise(1.0, 48_000)))))
    finally:
        microphone.close()
    sound = np.concatenate([block.samples for block in blocks])
    known = noise(1.0, 16_000)
    found = np.correlate(sound, known, "valid")
    place = int(np.argmax(found))
    heard = sound[place : place + known.size]
    assert float(np.corrcoef(heard, known)[0, 1]) > 0.97
    heard_ns = blocks[0].start_ns + place * 62_500
    before_ns, after_ns = played[0]
    assert before_ns - 100_000_000 <= heard_ns < after_ns + 300_000_000
    starts = [block.start_ns for block in blocks]
    ends = [block.start_ns + block.samples.size * 62_500 for block in blocks]
    assert all(abs(start - end) < 1_000_000 for start, end in zip(starts[1:], ends[:-1], strict=True))


def test_a_suspended_source_leaves_a_gap_as_long_as_the_loss(rig: VirtualMicrophone) -> None:
    """Two seconds that the sound server dropped are missing in the time stamps, to within two blocks."""
    microphone = Microphone("pulse", SystemClock())
    microphone.open()
    suspend, resume = (
        once(1.0, lambda: rig.control("suspend-source", "virtmic", "1")),
        once(3.0, lambda: rig.control("suspend-source", "virtmic", "0")),
    )

    def act(since_s: float) -> None:
        suspend(since_s)
        resume(since_s)

    try:
        blocks = record(microphone, 6.0, act)
    finally:
        microphone.close()
    gaps = [(later.start_ns - block.start_ns) / 1e9 - block.samples.size / 16_000 for block, later in itertools.pairwise(blocks)]
    long = [gap for gap in gaps if gap > 0.1]
    assert len(long) == 1
    assert long[0] == pytest.approx(2.0, abs=0.25)


def test_a_killed_sound_server_ends_the_microphone(rig: VirtualMicrophone) -> None:
    """When the server dies, the microphone raises an error within a second."""
    microphone = Microphone("pulse", SystemClock(), timeout_s=5.0)
    microphone.open()
    killed: list[float] = []

    def kill() -> None:
        rig.kill()
        killed.append(time.monotonic())

    try:
        with pytest.raises(CaptureError, match="is gone"):
            record(microphone, 8.0, once(0.5, kill))
    finally:
        microphone.close()
    assert time.monotonic() - killed[0] < 1.0


def test_a_microphone_that_is_not_there_is_refused(rig: VirtualMicrophone) -> None:
    """The error for an unknown name names the command that lists the devices."""
    with pytest.raises(CaptureError, match="streamav devices"):
        Microphone("no such microphone", SystemClock()).open()
    assert any(device.name == "pulse" for device in list_microphones())


def test_camera_and_microphone_share_one_clock_and_come_back_after_a_loss(rig: VirtualMicrophone) -> None:
    """Both devices give whole segments; a dead sound server is LOST, its return ONLINE, and the media time goes on.

    A paced filter graph replaces the camera, because the test machine may have none.
    """
    settings = CaptureSettings(timeout_s=2.0, reconnect_min_s=0.2, reconnect_max_s=0.5)
    source = device_pair(CAMERA, "pulse", LOOK, settings=settings)
    segmenter = Segmenter(SegmenterOptions(frames_per_second=4, picture=LOOK.picture, patience_s=1.5))
    segments: list[Segment] = []
    states: list[SourceState] = []
    start, killed = time.monotonic(), False
    threading.Timer(20.0, source.close).start()
    for item in plain(source.items()):
        if isinstance(item, SourceState):
            states.append(item)
            segments += segmenter.reset()
            if item is SourceState.LOST:
                rig.start()
            continue
        segments += segmenter.push(item)
        if len(segments) >= 3 and not killed:
            killed = True
            rig.kill()
        if SourceState.ONLINE in states and len(segments) >= 7:
            source.close()
    since = time.monotonic() - start
    assert states == [SourceState.LOST, SourceState.ONLINE]
    indices = [segment.index for segment in segments]
    assert indices == sorted(set(indices))
    assert indices[-1] + 1 == pytest.approx(since, abs=2.0)  # the media clock follows the real one during the loss
    whole = [segment for segment in segments[:2] if segment.quality.missing_samples < 3_200]
    assert len(whole) == 2
    assert all(segment.frames.any() for segment in segments[:2])


def test_a_suspended_microphone_is_refused_at_the_start(rig: VirtualMicrophone, tmp_path: Path) -> None:
    """A run whose microphone opens and gives nothing ends with exit code 3 and a reason, although the camera works."""
    rig.control("suspend-source", "virtmic", "1")
    settings = CaptureSettings(timeout_s=1.0, reconnect_min_s=0.1, reconnect_max_s=0.2)
    source = device_pair(CAMERA, "pulse", LOOK, settings=settings)
    timer = threading.Timer(20.0, source.close)
    timer.start()
    with pytest.raises(CaptureError, match="microphone 'pulse' gave nothing for 1 s: the sound server may have suspended it"):
        list(source.items())
    timer.cancel()
    bundle = write_tiny_bundle(tmp_path / "model")
    config = tmp_path / "run.toml"
    config.write_text(
        f"[source]\ncamera = '{CAMERA}'\nmic = 'pulse'\n[capture]\ntimeout_s = 1.0\n"
        f"[model]\nname = '{bundle}'\nengine = 'torch'\nprecision = 'fp32'\n",
        encoding="utf-8",
    )
    done = subprocess.run(
        [sys.executable, "-m", "streamav", "run", "--config", str(config)], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 3
    assert "gave nothing for 1 s" in done.stderr
    assert "streamav devices" in done.stderr


def test_two_clocks_agree_on_what_happened_when(rig: VirtualMicrophone) -> None:
    """A sound that is played when the camera shows a given picture is heard at that picture's media time.

    Bounds: the sound card's time varies by a block (0.1 s early). The server needs time to begin (0.4 s late), and so does the call
    that plays, whose time is measured.
    """
    source = device_pair(CAMERA, "pulse", LOOK)
    sounds: list[AudioBlock] = []
    shown_ns: list[int] = []
    delay_ns = 0
    for item in plain(source.items()):
        if isinstance(item, AudioBlock):
            sounds.append(item)
        if isinstance(item, VideoFrame):
            if item.start_ns > 1_000_000_000 and not shown_ns:
                shown_ns.append(item.start_ns)
                began_ns = time.monotonic_ns()
                delay_ns = rig.play(noise(1.0, 48_000))[1] - began_ns
            if item.start_ns > 4_000_000_000:
                source.close()
    sound = np.concatenate([block.samples for block in sounds])
    place = int(np.argmax(np.correlate(sound, noise(1.0, 16_000), "valid")))
    assert -0.1 <= (sounds[0].start_ns + place * 62_500 - shown_ns[0]) / 1e9 < 0.4 + delay_ns / 1e9
