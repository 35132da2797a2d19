"""Tests clips and snapshots of events on real media: what is cut, in which format, and what happens when the disk is full."""

from __future__ import annotations

import asyncio
import io
import os
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
from rigs.event_clips import PLACE, ULID, event, ring_of, run_sink, seconds_of, times_of, write_counting

from streamav.capture.look import Look
from streamav.capture.media import MediaSource
from streamav.clips import ClipSink, PacketRing
from streamav.clips import sink as clip_sink
from streamav.clips.mp4 import picture_at, write_mp4
from streamav.clips.ready import ReadyMedia
from streamav.clips.retention import file_stem, prune
from streamav.clips.ring import Footage, Recording
from streamav.clips.snapshot import drawn, jpeg
from streamav.config import ClipSettings
from streamav.types import SEGMENT_NS, AudioBlock, EndReason, Event, EventPhase, SourceState, VideoFrame


@pytest.mark.parametrize(
    ("suffix", "codecs"),
    [(".mp4", ("libx264", "aac")), (".ts", ("libx264", "aac")), (".avi", ("mpeg4", "pcm_alaw")), (".mkv", ("mjpeg", "flac"))],
    ids=lambda value: value if isinstance(value, str) else "+".join(value),
)
def test_a_clip_shows_its_event_with_pre_and_post_roll(tmp_path: Path, suffix: str, codecs: tuple[str, str]) -> None:
    """Whatever a camera sends, the clip is H.264 and AAC in MP4, index first, in step, from the key frame before the pre-roll on."""
    ring = ring_of(write_counting(tmp_path / f"all{suffix}", 20, codecs))
    run_sink(tmp_path / "clips", ring, [event(EventPhase.NEW, 10), event(EventPhase.END, 10, 12)], pre_s=2.0, post_s=3.0)
    (file,) = (tmp_path / "clips" / "porch").glob("*.mp4")
    assert file.name == f"20260914T102010Z_bark_{ULID}.mp4"
    shown = seconds_of(file)
    assert shown[0] in {6, 7, 8}  # key frames come every two seconds
    assert shown[-1] in {14, 15}
    assert all(9 <= count <= 11 for second, count in Counter(shown).items() if 9 <= second <= 14)
    content = file.read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")
    with av.open(str(file)) as clip:
        (picture,), (sound,) = clip.streams.video, clip.streams.audio
        assert (picture.codec_context.name, picture.codec_context.pix_fmt, sound.codec_context.name) == ("h264", "yuv420p", "aac")
        begins, ends = zip(*(times_of(stream) for stream in (picture, sound)), strict=True)
        assert abs(ends[0] - ends[1]) < 0.3
        assert max(begins) < 0.3


def test_a_snapshot_shows_the_picture_of_the_event_with_its_place(tmp_path: Path) -> None:
    """The snapshot is a JPEG of the second with the best score; the heat map is where the attention is, the box around it."""
    ring = ring_of(write_counting(tmp_path / "all.mp4", 20))
    run_sink(tmp_path / "clips", ring, [event(EventPhase.NEW, 10), event(EventPhase.END, 10, 12)])
    (file,) = (tmp_path / "clips" / "porch").glob("*.jpg")
    with av.open(io.BytesIO(file.read_bytes()), "r", format="jpeg_pipe") as opened:
        picture = next(opened.decode(video=0)).to_ndarray(format="rgb24").astype(int)
    assert picture.shape == (48, 64, 3)
    assert abs(picture[36, 16].mean() - 80) < 6
    assert picture[12, 52, 0] - picture[12, 52, 2] > 60
    assert picture[23, 50, 0] - picture[23, 50, 2] > 60


def test_provisional_and_retracted_events_have_no_clip(tmp_path: Path) -> None:
    """Clips follow confirmed events only, one clip for each."""
    ring = ring_of(write_counting(tmp_path / "all.mp4", 8))
    retracted = replace(event(EventPhase.END, 3, 4, confirmed=False), end_reason=EndReason.RETRACTED)
    made = run_sink(tmp_path / "clips", ring, [event(EventPhase.NEW, 3, confirmed=False), retracted])
    assert made.written == 0
    assert not list((tmp_path / "clips" / "porch").iterdir())


def test_a_clip_ends_with_its_source(tmp_path: Path) -> None:
    """The source is lost in the middle of an event, or the run ends: the clip holds what arrived."""
    ring = ring_of(write_counting(tmp_path / "all.mp4", 12))
    run_sink(tmp_path / "clips", ring, [event(EventPhase.NEW, 10), SourceState.LOST], pre_s=2.0)
    (file,) = (tmp_path / "clips" / "porch").glob("*.mp4")
    assert seconds_of(file)[-1] == 11


def test_a_long_event_is_cut(tmp_path: Path) -> None:
    """An event longer than clips.max_s has a clip of its beginning."""
    ring = ring_of(write_counting(tmp_path / "all.mp4", 20))
    run_sink(tmp_path / "clips", ring, [event(EventPhase.NEW, 4)], pre_s=2.0, post_s=1.0, max_s=5.0)
    (file,) = (tmp_path / "clips" / "porch").glob("*.mp4")
    assert seconds_of(file)[-1] in {9, 10}


def test_a_full_disk_stops_clips_and_not_events(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """While space is short, or a write fails, nothing is raised, one warning is logged, and no file is left, complete or not."""
    ring = ring_of(write_counting(tmp_path / "all.mp4", 20))
    events: list[Event | SourceState] = [event(EventPhase.NEW, 10), event(EventPhase.END, 10, 12)]

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(clip_sink, "write_mp4", full)
        run_sink(tmp_path / "clips", ring, events, snapshots=False)
    assert "No space left on device" in caplog.text
    run_sink(tmp_path / "clips", ring, events, min_free_mb=10**9)
    assert "clips.min_free_mb" in caplog.text
    assert not list((tmp_path / "clips" / "porch").iterdir())


def test_old_clips_go_first_by_age_then_by_size(tmp_path: Path) -> None:
    """Clips that are too old are deleted, then the oldest until the rest fits; files with other names are never touched."""
    (tmp_path / "porch").mkdir()
    now_s = time.time()
    for number in range(5):
        file = tmp_path / "porch" / f"{file_stem('20260914T102010Z', 'bark', ULID[:-1] + str(number))}.mp4"
        file.write_bytes(b"x" * 1_000)
        os.utime(file, (now_s - number * 1_000, now_s - number * 1_000))
    half = tmp_path / "porch" / f".{file.name}.{'a' * 16}.tmp"
    for other in (half, tmp_path / "porch" / "holiday.mp4"):
        other.write_bytes(b"x" * 9_000)
        os.utime(other, (now_s - 9_999, now_s - 9_999))
    assert prune(tmp_path, now_s, 3_500.0, 2_500) == 3
    left = sorted(file.name for file in (tmp_path / "porch").iterdir())
    assert left == sorted([f"20260914T102010Z_bark_{ULID[:-1]}0.mp4", f"20260914T102010Z_bark_{ULID[:-1]}1.mp4", "holiday.mp4"])


def test_the_ring_keeps_its_horizon_and_a_key_frame(tmp_path: Path) -> None:
    """A ring of 4 s gives the last 4 s and begins with a key frame; what is older is gone, so its memory is bounded."""
    ring = ring_of(write_counting(tmp_path / "all.mp4", 30), 4.0)
    footage = ring.footage(0, 30 * SEGMENT_NS)
    assert footage is not None
    pictures = [(pts_ns, key) for kind, _, pts_ns, _, _, key in footage.packets if kind == "picture"]
    assert pictures[0][1]
    assert 22 <= pictures[0][0] / SEGMENT_NS <= 26
    (tmp_path / "clip.mp4").touch()
    write_mp4(tmp_path / "clip.mp4", footage)
    assert seconds_of(tmp_path / "clip.mp4")[-1] == 29
    shown = picture_at(footage, 27 * SEGMENT_NS + SEGMENT_NS // 2)
    assert shown is not None
    assert round(float(shown.mean()) / 8) == 27


def test_an_event_that_begins_later_records_from_then_on(tmp_path: Path) -> None:
    """A recording that was started while packets still arrive goes on to its end, and is complete exactly once."""
    file = write_counting(tmp_path / "all.mp4", 20)
    ring, done = PacketRing(60.0), list[Recording]()
    recording: Recording | None = None
    for item in MediaSource(str(file), Look(picture=(8, 8), frames_per_second=2), speed="max", tap=ring).items():
        if recording is None and isinstance(item, (AudioBlock, VideoFrame)) and item.start_ns >= 6 * SEGMENT_NS:
            recording = ring.record(4 * SEGMENT_NS, 12 * SEGMENT_NS, done.append)
    ring.finish_all()
    assert recording is not None
    assert done == [recording]
    footage = recording.footage
    assert isinstance(footage, Footage)
    ends = [pts_ns / SEGMENT_NS for kind, _, pts_ns, _, _, _ in footage.packets if kind == "picture"]
    assert (min(ends), max(ends)) == pytest.approx((4.0, 12.0), abs=0.11)


def test_a_drawing_without_a_place_is_the_picture() -> None:
    """Without a location the picture stays as it is; with one it changes only where the attention is."""
    picture = np.full((40, 60, 3), 90, np.uint8)
    assert np.array_equal(drawn(picture, None), picture)
    made = drawn(picture, PLACE)
    assert np.array_equal(made[30:, :20], picture[30:, :20])
    assert not np.array_equal(made[:10, 50:], picture[:10, 50:])
    assert jpeg(made)[:2] == b"\xff\xd8"


# What is told


class _Told:
    """Receives what is ready."""

    def __init__(self) -> None:
        self.ready: list[ReadyMedia] = []

    def __call__(self, ready: ReadyMedia) -> None:
        self.ready.append(ready)


async def test_a_clip_and_a_snapshot_are_told_once_they_can_be_fetched(tmp_path: Path) -> None:
    """The snapshot is told with its JPEG, the clip when its file is complete; also those that the end of a run completes."""
    ring, told = ring_of(write_counting(tmp_path / "long.mp4", 20)), _Told()
    sink = ClipSink(ClipSettings(dir=tmp_path / "clips", min_free_mb=0), tmp_path / "clips", {"porch": ring}, tell=told)
    await sink.start()
    sink.event(event(EventPhase.NEW, 8), 0.1)
    sink.event(event(EventPhase.END, 8, 11), 0.1)
    await sink.close()
    await asyncio.sleep(0)
    assert [(one.event_id, one.source, one.kind) for one in told.ready] == [(ULID, "porch", "snapshot"), (ULID, "porch", "clip")]
    assert (told.ready[0].jpeg or b"").startswith(b"\xff\xd8")
