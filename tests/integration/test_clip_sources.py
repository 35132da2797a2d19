"""Tests that every kind of source gives clips: one kind alone, two files, two streams, devices. What a clip shows is where it was."""

from __future__ import annotations

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import av
import numpy as np
import pytest
from rigs.event_clips import event, run_sink
from rigs.fake_portaudio import FakePortAudio
from rigs.services import free_port, need

from streamav.capture.look import Look
from streamav.capture.media import MediaSource
from streamav.capture.open import open_source
from streamav.clips import PacketRing
from streamav.clips.mp4 import write_mp4
from streamav.config import CaptureSettings, SourceSettings
from streamav.sync.beeps import Beeps
from streamav.sync.clip import make_clip
from streamav.sync.flashes import Flashes
from streamav.types import SEGMENT_NS, AudioBlock, EventPhase, VideoFrame

if TYPE_CHECKING:
    from streamav.clips.ring import Footage
    from streamav.protocols import Source

LOOK = Look(picture=(36, 72), frames_per_second=16)
QUIET = ["ffmpeg", "-nostdin", "-loglevel", "error"]


@dataclass
class Seen:
    """When flashes and beeps began, s of media time."""

    flashes: Flashes = field(default_factory=Flashes)
    beeps: Beeps = field(default_factory=Beeps)
    newest_ns: int = 0
    oldest_ns: dict[type, int] = field(default_factory=dict)

    def push(self, item: object) -> None:
        if isinstance(item, VideoFrame):
            self.flashes.push(item)
        if isinstance(item, AudioBlock):
            self.beeps.push(item)
        if isinstance(item, VideoFrame | AudioBlock):
            self.oldest_ns.setdefault(type(item), item.start_ns)
            self.newest_ns = max(self.newest_ns, item.end_ns)

    @property
    def flashes_s(self) -> list[float]:
        return sorted(one / 1e9 for place in self.flashes.places_ns() for one in place)

    @property
    def beeps_s(self) -> list[float]:
        return [one / 1e9 for one in self.beeps.onsets_ns()]


def read(source: Source, until_s: float = 999.0) -> Seen:
    """Read a source to its end, or to a media time; a live one is given half a minute."""
    seen = Seen()
    timer = threading.Timer(30.0, source.close)
    timer.start()
    try:
        for item in source.items():
            seen.push(item)
            if seen.newest_ns > until_s * 1e9:
                source.close()
    finally:
        timer.cancel()
        source.close()
    return seen


def written(footage: Footage | None, path: Path) -> tuple[Seen, float]:
    """Write footage as a clip; return what it shows, and which media time is its zero, s."""
    assert footage is not None
    write_mp4(path, footage)
    kinds = {kind for kind, *_ in footage.packets}
    leading = "picture" if "picture" in kinds else "sound"
    begin_ns = next(pts_ns for kind, _, pts_ns, *_ in footage.packets if kind == leading)
    seen = played(path)
    return seen, (begin_ns - seen.oldest_ns[VideoFrame if leading == "picture" else AudioBlock]) / 1e9


def played(path: Path) -> Seen:
    """Return what a player shows of a file: every frame at its own time."""
    seen, resampler = Seen(), av.AudioResampler("flt", "mono", 16_000)
    heard: list[np.ndarray] = []
    first_s: float | None = None
    with av.open(str(path)) as file:
        for frame in file.decode():
            if isinstance(frame, av.VideoFrame):
                pixels = frame.reformat(72, 36, "rgb24").to_ndarray().astype(np.uint8)
                seen.push(VideoFrame(start_ns=round((frame.time or 0.0) * 1e9), pixels=pixels))
            elif isinstance(frame, av.AudioFrame):
                first_s = frame.time if first_s is None else first_s
                heard += [one.to_ndarray().reshape(-1) for one in resampler.resample(frame)]
    if heard:
        seen.push(AudioBlock(start_ns=round((first_s or 0.0) * 1e9), samples=np.concatenate(heard).astype(np.float32)))
    return seen


def fits(clip: list[float], begin_s: float, source: list[float], within_s: float) -> int:
    """Check that each onset of a clip, since the run saw its first one, is one of its source; return how many there are."""
    known = [one for one in clip if source and one + begin_s > source[0] - 0.5]
    for one in known:
        assert min(abs(one + begin_s - other) for other in source) < within_s, (one + begin_s, source)
    return len(known)


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of 12 s with flashes and beeps at the same times, key frames every 2 s at most."""
    path = tmp_path_factory.mktemp("both") / "both.mp4"
    make_clip(path, seconds=12.0, rate=30, size=(36, 72))
    dense = path.with_name("dense.mp4")
    command = [*QUIET, "-i", str(path), "-c:v", "libx264", "-g", "30", "-bf", "2", "-c:a", "copy", str(dense)]
    subprocess.run(command, check=True, timeout=60)
    return dense


@pytest.fixture(scope="module")
def halves(both: Path) -> tuple[Path, Path]:
    """The pictures and the sound of that file as files of their own; the sound is uncompressed."""
    seen, heard = both.with_name("seen.mkv"), both.with_name("heard.wav")
    subprocess.run([*QUIET, "-i", str(both), "-map", "0:v", "-c", "copy", str(seen), "-map", "0:a", str(heard)], check=True, timeout=60)
    return seen, heard


def source_of(ring: PacketRing, settings: dict[str, object], capture: CaptureSettings | None = None) -> Source:
    given = SourceSettings.model_validate(settings)
    return open_source(given, capture or CaptureSettings(), picture=LOOK.picture, frames_per_second=LOOK.frames_per_second, tap=ring)


@pytest.mark.parametrize(
    ("given", "kinds"),
    [
        ({"uri": "{both}"}, {"video", "audio"}),
        ({"uri": "{seen}", "sound_uri": "{heard}"}, {"video", "audio"}),
        ({"uri": "{both}", "sound_uri": "{both}"}, {"video", "audio"}),
        ({"uri": "{both}", "mic": "none"}, {"video"}),
        ({"uri": "{seen}"}, {"video"}),
        ({"uri": "{both}", "camera": "none"}, {"audio"}),
        ({"uri": "{heard}"}, {"audio"}),
        ({"uri": "{seen}", "sound_uri": "{heard}", "isolate": "yes"}, {"video", "audio"}),
    ],
    ids=["one file", "two files", "the same file twice", "without sound", "only pictures", "without pictures", "only sound", "apart"],
)
def test_a_clip_of_files_is_in_step(both: Path, halves: tuple[Path, Path], tmp_path: Path, given: dict[str, str], kinds: set[str]) -> None:
    """A clip of 3 to 9 s has its flashes and beeps where the source had them, the right length, and formats that browsers play."""
    paths = {"both": both, "seen": halves[0], "heard": halves[1]}
    settings: dict[str, object] = {name: value.format(**paths) for name, value in given.items() if name != "isolate"}
    ring = PacketRing(60.0)
    whole = read(source_of(ring, settings | {"speed": "max"}, CaptureSettings(isolate="isolate" in given)))
    clip, begin_s = written(ring.footage(3 * SEGMENT_NS, 9 * SEGMENT_NS), tmp_path / "clip.mp4")
    with av.open(str(tmp_path / "clip.mp4")) as file:
        names = {stream.type: stream.codec_context.name for stream in file.streams}
        assert names == {kind: {"video": "h264", "audio": "aac"}[kind] for kind in kinds}
        assert (file.duration or 0) / 1e6 == pytest.approx(9.0 - begin_s, abs=0.15)
    assert 1.9 <= begin_s <= 3.1
    if "video" in kinds:
        assert fits(clip.flashes_s, begin_s, whole.flashes_s, 0.07) >= 3
    if "audio" in kinds:
        assert fits(clip.beeps_s, begin_s, whole.beeps_s, 0.02) >= 3


def test_an_event_of_sound_alone_has_a_clip_and_no_snapshot(halves: tuple[Path, Path], tmp_path: Path) -> None:
    """A source without pictures gives MP4 files with AAC alone; there is nothing that a snapshot could show."""
    ring = PacketRing(60.0)
    read(source_of(ring, {"uri": str(halves[1]), "speed": "max"}))
    run_sink(tmp_path, ring, [event(EventPhase.NEW, 5), event(EventPhase.END, 5, 7)], pre_s=2.0, post_s=1.0)
    (file,) = (path for path in tmp_path.rglob("*") if path.is_file())
    with av.open(str(file)) as clip:
        assert [stream.codec_context.name for stream in clip.streams] == ["aac"]
        assert (clip.duration or 0) / 1e6 == pytest.approx(5.0, abs=0.15)


def test_sound_goes_on_in_clips_where_pictures_ended(both: Path, tmp_path: Path) -> None:
    """A camera whose pictures stop, while its sound goes on: an event of sound has a clip, which waits for no picture."""
    broken = tmp_path / "broken.ts"
    parts = ["-i", str(both), "-t", "4", "-i", str(both), "-map", "1:v", "-map", "0:a", "-c", "copy", str(broken)]
    subprocess.run([*QUIET, *parts], check=True, timeout=60)
    ring = PacketRing(4.0)
    whole = read(MediaSource(str(broken), LOOK, speed="max", tap=ring))
    clip, begin_s = written(ring.footage(6 * SEGMENT_NS, 10 * SEGMENT_NS), tmp_path / "clip.mp4")
    assert fits(clip.beeps_s, begin_s, whole.beeps_s, 0.02) >= 2


@pytest.mark.slow
def test_clips_of_live_halves_are_in_step(both: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two streams, a camera with a stream, a stream with a microphone, each half alone: flashes and beeps are where the run had them.

    A camera's pictures are thinned to 15 a second, so a flash is up to 67 ms late there. On a busy machine the clock of a stream is found
    in steps, which reach packets and items at different moments, so 300 ms are allowed; on a quiet one sound is within 5 ms.
    """
    need("ffmpeg", "ffmpeg")
    with av.open(str(both)) as file:
        sound = np.concatenate([frame.to_ndarray()[0] for frame in file.decode(audio=0)]).astype(np.float32)
    microphone = FakePortAudio(sound)
    monkeypatch.setitem(sys.modules, "sounddevice", microphone)
    microphone.sounding.set()
    camera = f"lavfi:movie={both}"
    streams = {name: f"tcp://127.0.0.1:{free_port()}" for name in ("v1", "a1", "a2", "v2", "v3", "a3")}
    heard = {name: f"{end}?listen=1" for name, end in streams.items()}
    pairs: dict[str, dict[str, object]] = {
        "two streams": {"uri": heard["v1"], "sound_uri": heard["a1"]},
        "camera and stream": {"camera": camera, "sound_uri": heard["a2"]},
        "stream and microphone": {"uri": heard["v2"], "mic": "default"},
        "stream of pictures": {"uri": heard["v3"], "mic": "none"},
        "stream of sound": {"uri": heard["a3"], "camera": "none"},
        "camera alone": {"camera": camera, "mic": "none"},
        "microphone alone": {"camera": "none", "mic": "default"},
    }
    pushers: list[subprocess.Popen[bytes]] = []

    def push() -> None:
        for name, end in streams.items():
            output = ["-map", f"0:{name[0]}", "-c", "copy", "-f", "mpegts", end]
            pushers.append(subprocess.Popen([*QUIET, "-re", "-stream_loop", "-1", "-i", str(both), *output], stderr=subprocess.DEVNULL))

    starter = threading.Timer(1.5, push)
    starter.start()
    live = CaptureSettings(timeout_s=8.0)

    def cut(name: str) -> tuple[Seen, Seen, float]:
        ring = PacketRing(60.0)
        whole = read(source_of(ring, pairs[name], live), 7.0)
        until_ns = whole.newest_ns - SEGMENT_NS
        return whole, *written(ring.footage(until_ns - 5 * SEGMENT_NS, until_ns), tmp_path / f"{name}.mp4")

    with ThreadPoolExecutor(len(pairs)) as pool:
        found = dict(zip(pairs, pool.map(cut, pairs), strict=True))
    starter.join()
    for pusher in pushers:
        pusher.kill()
        pusher.wait(timeout=10)
    onsets = 0
    for name, (whole, clip, begin_s) in found.items():
        onsets += fits(clip.flashes_s, begin_s, whole.flashes_s, 0.3) + fits(clip.beeps_s, begin_s, whole.beeps_s, 0.3)
        with av.open(str(tmp_path / f"{name}.mp4")) as file:
            kinds = {stream.type: stream.codec_context.name for stream in file.streams}
            assert kinds.items() <= {"video": "h264", "audio": "aac"}.items(), name
            assert ("video" in kinds, "audio" in kinds) == (
                name not in {"stream of sound", "microphone alone"},
                name not in {"stream of pictures", "camera alone"},
            )
            assert 1.0 < (file.duration or 0) / 1e6 < 9.0, name
    assert onsets >= len(pairs)
