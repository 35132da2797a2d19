"""Tests the decoder process: it gives what this process would give, and its crash is the error of one source."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from rigs.media_clips import write_flashes

from streamav.capture.look import Look
from streamav.capture.media import MediaSource
from streamav.capture.wire import HEADER, unpack_header, unpack_note
from streamav.clips import PacketRing
from streamav.config import CaptureSettings
from streamav.errors import CaptureError, MissingModalityError
from streamav.types import AudioBlock, SourceContent, VideoFrame

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.slow

LOOK = Look(picture=(24, 32), frames_per_second=8)
ISOLATED = CaptureSettings(isolate=True)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_flashes(tmp_path_factory.mktemp("isolated") / "clip.mp4", 4.0)


def children() -> set[int]:
    """Return the decoder processes that this process has started and that still run."""
    found = subprocess.run(["pgrep", "-P", str(os.getpid()), "-f", "streamav.capture.child"], capture_output=True, text=True, check=False)
    return set(map(int, found.stdout.split()))


def test_the_items_are_those_of_this_process(clip: Path, tmp_path: Path) -> None:
    """Every block, picture and time is the same, also for a file without sound, and no process is left."""
    for path in (clip, write_flashes(tmp_path / "seen.ts", 2.0, sound=False)):
        here, there = (list(MediaSource(str(path), LOOK, speed="max", settings=one).items()) for one in (CaptureSettings(), ISOLATED))
        assert len(here) == len(there)
        for one, other in zip(here, there, strict=True):
            if isinstance(one, SourceContent) or isinstance(other, SourceContent):
                assert one == other
            elif isinstance(one, AudioBlock) and isinstance(other, AudioBlock):
                assert (one.start_ns, one.lone_channel) == (other.start_ns, other.lone_channel)
                assert np.array_equal(one.samples, other.samples)
            elif isinstance(one, VideoFrame) and isinstance(other, VideoFrame):
                assert one.start_ns == other.start_ns
                assert np.array_equal(one.pixels, other.pixels)
            else:
                pytest.fail(f"{one} is not {other}")
    assert not children()


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGABRT])
def test_a_crash_of_the_decoder_is_the_error_of_its_source(clip: Path, number: signal.Signals) -> None:
    """A decoder that a signal ends is an error that names the signal and what to do; this process goes on."""
    source = MediaSource(str(clip), LOOK, settings=ISOLATED)

    def read() -> Iterator[None]:
        for _ in source.items():
            for child in children():
                os.kill(child, number)
            yield

    with pytest.raises(CaptureError, match=rf"crashed \({number.name}\), which other sources do not notice"):
        list(read())


def test_errors_come_through(tmp_path: Path, clip: Path) -> None:
    """A missing file and a file without what is wanted give the same errors as in this process."""
    with pytest.raises(CaptureError, match="there is no such file"):
        list(MediaSource(str(tmp_path / "none.mp4"), LOOK, settings=ISOLATED).items())
    silent = write_flashes(tmp_path / "seen.mp4", 1.0, sound=False)
    look = Look(picture=(24, 32), frames_per_second=8, wanted=SourceContent(picture=False))
    with pytest.raises(MissingModalityError, match="has no sound"):
        list(MediaSource(str(silent), look, settings=ISOLATED).items())


def test_closing_ends_the_process(clip: Path) -> None:
    """close() ends a session in the middle, and its process with it."""
    source = MediaSource(str(clip), LOOK, settings=ISOLATED)
    for number, _ in enumerate(source.items()):
        if number == 3:
            source.close()
    assert not children()


def test_a_password_is_not_in_the_list_of_processes() -> None:
    """The address goes to the decoder through a pipe: neither arguments nor environment hold it."""
    settings = ISOLATED.model_copy(update={"timeout_s": 2.0})
    source = MediaSource("tcp://user:hunter2@127.0.0.1:1?listen=1", LOOK, settings=settings)
    seen: list[bytes] = []

    def look() -> None:
        for child in children():
            seen.extend(Path(f"/proc/{child}/{name}").read_bytes() for name in ("cmdline", "environ"))

    threading.Timer(0.7, look).start()
    with pytest.raises(CaptureError):
        list(source.items())
    assert seen
    assert not any(b"hunter2" in one for one in seen)


def test_clips_can_be_cut_of_packets_of_the_process(clip: Path) -> None:
    """The packets that come through are those that this process reads: the same footage of the same stretch."""
    footages = []
    for settings in (CaptureSettings(), ISOLATED):
        ring = PacketRing(60.0)
        list(MediaSource(str(clip), LOOK, speed="max", settings=settings, tap=ring).items())
        footage = ring.footage(0, 3_000_000_000)
        assert footage is not None
        footages.append(footage)
    assert footages[0].packets == footages[1].packets
    assert set(footages[1].samples) == {"sound", "picture"}


@pytest.mark.parametrize("header", [HEADER.pack(9, 0, 0, 1, 0), HEADER.pack(1, 0, 0, 4_000_000_000, 0)])
def test_what_is_no_message_is_refused(header: bytes) -> None:
    """A header of an unknown kind, or of more than any message holds, is an error; so is a note that is no JSON."""
    with pytest.raises(CaptureError, match="report this"):
        unpack_header(header)
    with pytest.raises(CaptureError, match="report this"):
        unpack_note(bytearray(b"[1]"))
