"""Tests what happens to clips when their folder is taken away, the clock steps, the disk hangs, a stream changes, many events come."""

from __future__ import annotations

import asyncio
import io
import os
import shutil
import subprocess
import threading
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
from rigs.event_clips import PLACE, ULID, event, ring_of, run_sink, seconds_of, write_counting
from rigs.http_api import ask, need_api, served
from rigs.published_events import ulid

from streamav.capture.look import Look
from streamav.capture.media import MediaSource
from streamav.clips import ClipSink, PacketRing, jobs
from streamav.clips import sink as clip_sink
from streamav.clips.mp4 import write_mp4
from streamav.clips.retention import file_stem, find_clip, prune
from streamav.clips.snapshot import drawn, jpeg
from streamav.config import ClipSettings
from streamav.types import SEGMENT_NS, Event, EventPhase


@pytest.fixture
def ring(tmp_path: Path) -> PacketRing:
    return ring_of(write_counting(tmp_path / "all.mp4", 20))


def numbered(number: int, phase: EventPhase, end_s: int | None = None) -> Event:
    return replace(event(phase, 10, end_s), id=ulid(number))


def after_start(folder: Path, ring: PacketRing, harm: Callable[[], None], heal: Callable[[], None] = lambda: None) -> ClipSink:
    """Run a sink; do harm after it has started and an event, heal it, and give another event."""
    made = ClipSink(ClipSettings(dir=folder, min_free_mb=0), folder, {"porch": ring})

    async def go() -> None:
        await made.start()
        for number, work in enumerate((harm, heal)):
            work()
            made.event(numbered(number, EventPhase.NEW), 0.1)
            made.event(numbered(number, EventPhase.END, 12), 0.1)
            while not made.idle:  # noqa: ASYNC110 - another thread writes
                await asyncio.sleep(0.01)
        await made.close()

    asyncio.run(go())
    return made


@pytest.mark.parametrize("what", ["porch", "."], ids=["folder of the source", "folder of all"])
def test_a_folder_that_was_removed_is_made_again(tmp_path: Path, ring: PacketRing, what: str) -> None:
    """Who deletes the folder of the clips, or that of a source, has the next clip nevertheless."""
    folder = tmp_path / "clips"
    made = after_start(folder, ring, lambda: shutil.rmtree(folder / what))
    assert made.written == 4
    assert len(list((folder / "porch").iterdir())) == 4


def test_a_folder_that_became_a_file_costs_the_clips_only(tmp_path: Path, ring: PacketRing, caplog: pytest.LogCaptureFixture) -> None:
    """It is said once; when it is mended, clips go on. Nothing is written elsewhere."""
    folder = tmp_path / "clips"

    def harm() -> None:
        shutil.rmtree(folder)
        folder.write_text("mine")

    made = after_start(folder, ring, harm, folder.unlink)
    assert made.written == 2
    assert len([one for one in caplog.records if "clips are left out" in one.message]) == 1


def test_a_folder_that_cannot_be_made_at_the_start_is_tried_again(
    tmp_path: Path, ring: PacketRing, caplog: pytest.LogCaptureFixture
) -> None:
    """A share that is not there yet, or a file in its place, does not end the clips of the whole run: the warning says what must be."""
    folder = tmp_path / "clips"
    folder.write_text("mine")
    made = after_start(folder, ring, lambda: None, folder.unlink)
    assert made.written == 2
    assert [one.message for one in caplog.records if "clips.dir must be a folder" in one.message] != []
    assert not [one for one in caplog.records if one.exc_info]


def test_one_folder_that_cannot_be_read_does_not_keep_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Old clips are deleted also where another folder cannot be read, or a file is deleted by somebody else at the same time."""
    for source in ("a", "b", "c"):
        (tmp_path / source).mkdir()
        file = tmp_path / source / f"{file_stem('20260914T102010Z', 'bark', ULID)}.mp4"
        file.write_bytes(b"x")
        os.utime(file, (1, 1))
    whole, status = Path.iterdir, Path.stat

    def forbidden(path: Path) -> object:
        if path.name == "a":
            raise PermissionError(13, "Permission denied")
        return whole(path)

    def vanishing(path: Path, **more: bool) -> os.stat_result:
        found = status(path, **more)
        if path.parent.name == "b" and path.suffix == ".mp4":
            path.unlink()
            raise FileNotFoundError(2, "No such file or directory")
        return found

    monkeypatch.setattr(Path, "iterdir", forbidden)
    monkeypatch.setattr(Path, "stat", vanishing)
    assert prune(tmp_path, 1e9, 100.0, 10**9) == 1
    monkeypatch.undo()
    assert [path.parent.name for path in tmp_path.rglob("*.mp4")] == ["a"]


def test_clips_of_a_run_that_began_in_1970_stay(tmp_path: Path, ring: PacketRing, monkeypatch: pytest.MonkeyPatch) -> None:
    """A board without a clock gets the time from the network during the run: the clips made before it are not old then."""
    begun_s = time.time()
    made = ClipSink(ClipSettings(dir=tmp_path, min_free_mb=0, keep_days=1.0), tmp_path, {"porch": ring})

    async def go() -> None:
        await made.start()
        for number in range(2):
            made.event(numbered(number, EventPhase.NEW), 0.1)
            made.event(numbered(number, EventPhase.END, 12), 0.1)
            while not made.idle:  # noqa: ASYNC110 - another thread writes
                await asyncio.sleep(0.01)
            monkeypatch.setattr(time, "time", lambda: begun_s + 56 * 365 * 86_400.0)
        await made.close()

    asyncio.run(go())
    assert len(list((tmp_path / "porch").iterdir())) == 4


def test_a_clock_that_is_wrong_at_the_start_deletes_no_clip(tmp_path: Path, ring: PacketRing, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that begins in the year 2082 keeps the clips of earlier runs; age counts once the clock has been steady for ten minutes."""
    old = tmp_path / "porch" / f"{file_stem('20260914T102010Z', 'bark', ULID)}.mp4"
    old.parent.mkdir()
    old.write_bytes(b"x")
    wrong_s, begun_s = time.time() + 56 * 365 * 86_400.0, time.monotonic()
    made = ClipSink(ClipSettings(dir=tmp_path, min_free_mb=0, keep_days=1.0), tmp_path, {"porch": ring})
    monkeypatch.setattr(time, "time", lambda: wrong_s)

    async def go(number: int) -> None:
        await made.start()
        made.event(numbered(number, EventPhase.NEW), 0.1)
        made.event(numbered(number, EventPhase.END, 12), 0.1)
        while not made.idle:  # noqa: ASYNC110 - another thread writes
            await asyncio.sleep(0.01)
        await made.close()

    asyncio.run(go(0))
    assert old.exists()
    monkeypatch.setattr(time, "monotonic", lambda: begun_s + 700.0)
    monkeypatch.setattr(time, "time", lambda: wrong_s + 700.0)
    made = ClipSink(ClipSettings(dir=tmp_path, min_free_mb=0, keep_days=1.0), tmp_path, {"porch": ring})
    made._steady.lasts(wrong_s, begun_s)  # a reading of ten minutes before
    made._prune()
    assert not old.exists()


def test_a_long_event_has_one_clip_among_thousands_of_others(tmp_path: Path, ring: PacketRing) -> None:
    """Its later messages do not start another clip, however many events began meanwhile."""
    made = ClipSink(ClipSettings(dir=tmp_path, min_free_mb=0, snapshots=False), tmp_path, {"porch": ring})
    made.event(numbered(0, EventPhase.NEW), 0.1)
    first = made.recordings[ulid(0)]
    for number in range(1, 700):
        made.event(numbered(number, EventPhase.NEW), 0.1)
        made.event(numbered(number, EventPhase.END, 11), 0.1)
    made.event(numbered(0, EventPhase.UPDATE), 0.1)
    assert made.recordings == {ulid(0): first}


def test_clips_that_wait_take_a_bounded_memory(
    tmp_path: Path, ring: PacketRing, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """While the disk hangs, waiting clips are left out before they fill the memory; events go on; later clips are written again."""
    hangs, begun = threading.Event(), threading.Event()

    def slow(*given: object) -> None:
        begun.set()
        assert hangs.wait(20.0)
        write_mp4(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(clip_sink, "write_mp4", slow)
    footage = ring.footage(5 * SEGMENT_NS, 17 * SEGMENT_NS)
    assert footage is not None
    monkeypatch.setattr(jobs, "MOST_WAITING_BYTES", 3 * footage.size)
    made = ClipSink(ClipSettings(dir=tmp_path, min_free_mb=0, snapshots=False), tmp_path, {"porch": ring})

    async def go() -> None:
        await made.start()
        for number in range(30):
            made.event(numbered(number, EventPhase.NEW), 0.1)
            made.event(numbered(number, EventPhase.END, 12), 0.1)
        assert await asyncio.to_thread(begun.wait, 10.0)
        hangs.set()
        while not made.idle:  # noqa: ASYNC110 - another thread writes
            await asyncio.sleep(0.01)
        made.event(numbered(40, EventPhase.NEW), 0.1)
        made.event(numbered(40, EventPhase.END, 12), 0.1)
        await made.close()

    asyncio.run(go())
    assert 2 <= made.written <= 6
    assert any(ulid(40) in path.name for path in (tmp_path / "porch").iterdir())
    assert "too many clips wait" in caplog.text


def test_a_large_picture_is_drawn_in_little_memory() -> None:
    """The drawing on a large picture takes less than four pictures of memory; 8K cameras exist, and small machines."""
    picture = np.full((1080, 1920, 3), 90, np.uint8)
    tracemalloc.start()
    try:
        made = drawn(picture, PLACE)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert made.shape == picture.shape
    assert peak < 4 * picture.nbytes


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (7, 1), (3, 5), (47, 63)])
def test_a_snapshot_of_any_size_is_a_picture(size: tuple[int, int]) -> None:
    """Odd and tiny pictures give a JPEG, too."""
    with av.open(io.BytesIO(jpeg(drawn(np.full((*size, 3), 90, np.uint8), PLACE))), "r", format="jpeg_pipe") as file:
        shown = next(file.decode(video=0))
    assert (shown.height, shown.width) == size


@pytest.mark.parametrize("pixels", ["yuv420p", "yuv444p"], ids=["copied", "encoded again"])
def test_a_stream_that_changes_its_size_gives_clips_that_play(tmp_path: Path, pixels: str) -> None:
    """A camera that is set to another resolution within one connection: each clip has one size, and plays without an error."""
    parts = []
    for number, size in enumerate(("64x48", "96x80")):
        part = tmp_path / f"{number}.ts"
        lavfi = ["-f", "lavfi", "-i", f"testsrc=size={size}:rate=10", "-f", "lavfi", "-i", "sine=1000"]
        coded = ["-t", "6", "-c:v", "libx264", "-pix_fmt", pixels, "-g", "10", "-c:a", "aac", "-output_ts_offset", str(6 * number)]
        subprocess.run(["ffmpeg", "-loglevel", "error", "-nostdin", *lavfi, *coded, str(part)], check=True, timeout=60)
        parts.append(part.read_bytes())
    (tmp_path / "both.ts").write_bytes(b"".join(parts))
    ring = PacketRing(60.0)
    for _ in MediaSource(str(tmp_path / "both.ts"), Look(picture=(8, 8), frames_per_second=2), speed="max", tap=ring).items():
        pass
    sizes = []
    for begin_s, end_s in ((1, 5), (8, 11), (3, 9)):
        footage = ring.footage(begin_s * SEGMENT_NS, end_s * SEGMENT_NS)
        assert footage is not None
        write_mp4(tmp_path / "clip.mp4", footage)
        check = ["ffmpeg", "-loglevel", "error", "-nostdin", "-i", str(tmp_path / "clip.mp4"), "-f", "null", "-"]
        assert subprocess.run(check, check=True, capture_output=True, text=True, timeout=60).stderr == ""
        with av.open(str(tmp_path / "clip.mp4")) as clip:
            sizes.append({(frame.width, frame.height) for frame in clip.decode(video=0)})
            assert (clip.duration or 0) / 1e6 == pytest.approx(end_s - begin_s, abs=1.4)
    assert sizes == [{(64, 48)}, {(96, 80)}, {(64, 48)}]


def test_pictures_without_a_key_frame_do_not_cost_the_sound(tmp_path: Path) -> None:
    """A camera that sends key frames every minute: before the first one an event has the sound; after it, the pictures from there on."""
    ring = ring_of(write_counting(tmp_path / "all.ts", 20, key_s=100))
    footage = ring.footage(12 * SEGMENT_NS, 14 * SEGMENT_NS)
    assert footage is not None
    write_mp4(tmp_path / "clip.mp4", footage)
    assert seconds_of(tmp_path / "clip.mp4")[0] == 0
    late = PacketRing(60.0)
    late.begin(("sound", "picture"))
    for kind, data, pts_ns, _, _, key in footage.packets:
        assert kind in {"sound", "picture"}
        assert data
        assert key or pts_ns >= 0


# A viewer


def test_a_clip_that_is_deleted_while_it_is_asked_for_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Retention may delete a file between the moment it was found and the moment it is sent: the answer is 404, and no error of ours."""
    need_api()
    (tmp_path / "clips" / "porch").mkdir(parents=True)
    file = tmp_path / "clips" / "porch" / f"20260914T102231Z_bark_{ulid(4)}.mp4"
    file.write_bytes(b"clip")
    from streamav.api import routes

    def vanishing(folder: Path, identifier: str, suffix: str) -> Path | None:
        path = find_clip(folder, identifier, suffix)
        if path is not None:
            path.unlink()
        return path

    monkeypatch.setattr(routes, "find_clip", vanishing)
    with served(clips=tmp_path / "clips") as api:
        answer = ask(api.address, f"api/events/{ulid(4)}/clip")
        assert answer.status == 404
        assert "there is no clip" in answer.json["error"]


def test_what_is_written_is_never_seen_half(tmp_path: Path, ring: PacketRing, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a clip is being written, and after a full disk cut it off, there is no file under its final name."""

    def cut(path: Path, *given: object) -> None:
        write_mp4(path, *given)  # type: ignore[arg-type]
        assert not list(path.parent.glob("[!.]*.mp4"))
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(clip_sink, "write_mp4", cut)
    run_sink(tmp_path / "clips", ring, [event(EventPhase.NEW, 10), event(EventPhase.END, 10, 12)], snapshots=False)
    assert not list((tmp_path / "clips" / "porch").iterdir())
