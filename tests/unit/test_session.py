"""Tests that a recorded run is repeated exactly, with the real loop and the tiny stages of rigs.roles."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import shutil
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pytest
from rigs.roles import EPOCH_NS, LABELS, PICTURE, FakeClock, FakeExtractor, FakeLocalizer, FakeSource, seconds

from streamav.config import Settings
from streamav.errors import CaptureError, DataError, SettingsError
from streamav.pipeline import Pipeline, SourceSetup, Turns
from streamav.pipeline.turns import TurnRecord
from streamav.publish.message import ModelEntry
from streamav.segmenter import SegmenterOptions
from streamav.session import Recorder, ReplayedSource, Transcript, compare_events, read_card, read_turns
from streamav.session import recorder as recorder_module
from streamav.session.folder import EVENTS, append_line, items_file, media_file
from streamav.session.masks import ItemMask
from streamav.session.recorder import Trace
from streamav.thresholds import Thresholds
from streamav.tracker import LabelOptions
from streamav.types import (
    SAMPLE_RATE_HZ,
    SEGMENT_NS,
    AudioBlock,
    Segment,
    SegmentFeatures,
    SourceContent,
    SourceState,
    StateChange,
    VideoFrame,
)

MODEL = ModelEntry(name="tiny", version="1", sha256="ab", backend="fake")
LOUD = [0.9] * 6 + [0.0] * 4 + [0.9] * 5
Item = AudioBlock | VideoFrame | StateChange | SourceContent


class Thinning(FakeExtractor):
    """An extractor that is slow at first, so that live sources lose segments."""

    def __init__(self, slow: threading.Event | None = None) -> None:
        super().__init__()
        self.slow = slow

    def extract(self, segments: Sequence[Segment]) -> list[SegmentFeatures]:
        if self.slow is not None and sum(self.batches) == 3:
            self.slow.wait(60.0)
        return super().extract(segments)


class Lines:
    """A sink that writes messages as JsonlSink does."""

    def __init__(self, path: Path) -> None:
        from streamav.publish import JsonlSink

        self.sink = JsonlSink(path, lambda: MODEL)


def labels() -> tuple[LabelOptions, ...]:
    return tuple(
        LabelOptions(label=label, label_name=label.title(), class_id=number, thresholds=Thresholds(on=0.6, off=0.35))
        for number, label in enumerate(LABELS)
    )


def setup(name: str, source: object, **changes: object) -> SourceSetup:
    values: dict[str, object] = {
        "id": name,
        "source": source,
        "segmenter": SegmenterOptions(frames_per_second=2, picture=PICTURE, patience_s=1.5),
        "labels": labels(),
        "latency_segments": 2,
        "paced": False,
        "queue_segments": 2,
    }
    return SourceSetup(**{**values, **changes})  # type: ignore[arg-type]


def record(
    folder: Path,
    sources: dict[str, FakeSource],
    *,
    extractor: FakeExtractor | None = None,
    most_bytes: int = 50_000_000,
    mask: ItemMask | None = None,
    settings: Settings | None = None,
) -> Recorder:
    """Record a run of these sources; an error of a source is part of the recording."""
    recorder = Recorder(folder, most_bytes)
    traces = {name: Trace(source, folder, name, PICTURE, 2, mask) for name, source in sources.items()}
    sink = Lines(folder / EVENTS).sink
    setups = [setup(name, trace) for name, trace in traces.items()]
    pipeline = Pipeline(setups, extractor or FakeExtractor(), FakeLocalizer(), sink, FakeClock(), turns=Turns(recorder))
    if settings is None:
        several = [{"id": name, "uri": f"/films/{name}.mp4", "speed": "max"} for name in sources]
        settings = Settings.model_validate({"sources": several})
    pairs = [(one, traces[one.id]) for one in settings.each_source()]
    recorder.begin(settings, pairs, MODEL.model_dump(), masks=(), end=pipeline.stop)
    with contextlib.suppress(CaptureError):
        asyncio.run(pipeline.run())
    recorder.close()
    return recorder


def replay(folder: Path, speed: float | None = None) -> tuple[Transcript, dict[str, ReplayedSource]]:
    """Replay a recording through new stages, with a clock of another time."""
    from streamav.app.sessions import replayed_run

    card, run = read_card(folder), replayed_run(folder, read_card(folder))
    sources = {one.id: ReplayedSource(folder, one, speed=speed, clock=FakeClock()) for one in card.sources}
    transcript = Transcript(len(run.script))
    transcript.model = lambda: MODEL
    setups = [setup(one.id, sources[one.id], replay=run.sources[one.id]) for one in card.sources]
    clock = FakeClock(epoch_ns=EPOCH_NS + 10**18, step_ns=7_777_777)
    pipeline = Pipeline(setups, FakeExtractor(), FakeLocalizer(), transcript, clock, turns=Turns(transcript, run))
    with contextlib.suppress(CaptureError):
        asyncio.run(pipeline.run())
    return transcript, sources


def losing(given: threading.Event) -> Iterator[AudioBlock | VideoFrame | StateChange | Exception]:
    """Yield a live source that is lost and comes back, and then fails for good; set *given* before it is lost."""
    yield from seconds(LOUD)
    given.set()
    yield from (StateChange(SourceState.LOST, "no data"), StateChange(SourceState.ONLINE))
    yield from seconds([0.9] * 6, first=30)
    yield CaptureError("the camera is gone")


def test_a_file_is_repeated_byte_for_byte(tmp_path: Path) -> None:
    """The messages of a replay equal those of the recorded run: scores, ids, UTC and latency, at any speed and on another clock."""
    folder = tmp_path / "session"
    record(folder, {"porch": FakeSource(seconds(LOUD))})
    recorded = (folder / EVENTS).read_bytes()
    assert recorded.count(b'"type":"end"') == 2
    for speed in (None, 1.0, 50.0):
        assert replay(folder, speed)[0].content(cut=False) == recorded


def test_a_live_run_is_repeated_with_its_losses_and_its_dropped_segments(tmp_path: Path) -> None:
    """A loss, a return, a failure at the end and segments that were dropped because the machine was slow give the same messages again."""
    folder = tmp_path / "session"
    given = threading.Event()
    record(folder, {"porch": FakeSource(losing(given), live=True)}, extractor=Thinning(given))
    recorded = (folder / EVENTS).read_bytes()
    processed = {one.index for turn in read_turns(folder) for one in turn if one.index is not None}
    assert not set(range(15)) <= processed  # some were dropped, so the replay must drop the same
    assert b'"end_reason":"source_lost"' in recorded
    assert replay(folder)[0].content(cut=False) == recorded


def test_several_sources_are_repeated_in_the_order_of_their_turns(tmp_path: Path) -> None:
    """The messages of several sources come in the recorded order, because each turn takes the items that it took."""
    folder = tmp_path / "session"
    record(folder, {name: FakeSource(seconds([0.9] * length)) for name, length in (("a", 14), ("b", 9), ("c", 12))})
    recorded = (folder / EVENTS).read_bytes()
    assert {json.loads(line)["source"] for line in recorded.splitlines()} == {"a", "b", "c"}
    for _ in range(3):
        assert replay(folder)[0].content(cut=False) == recorded


def test_a_run_that_was_stopped_is_repeated(tmp_path: Path) -> None:
    """Events that were open when the run was stopped end as they did then."""
    folder = tmp_path / "session"
    source = FakeSource([*seconds([0.9] * 12), threading.Event()])

    class Stopping(FakeExtractor):
        def extract(self, segments: Sequence[Segment]) -> list[SegmentFeatures]:
            if sum(self.batches) == 10:
                source.close()
                stops[0]()
            return super().extract(segments)

    stops: list[Callable[[], None]] = []
    recorder = Recorder(folder, 50_000_000)
    trace = Trace(source, folder, "porch", PICTURE, 2)
    pipeline = Pipeline(
        [setup("porch", trace)], Stopping(), FakeLocalizer(), Lines(folder / EVENTS).sink, FakeClock(), turns=Turns(recorder)
    )
    stops.append(pipeline.stop)
    settings = Settings.model_validate({"source": {"id": "porch", "uri": "x.mp4", "speed": "max"}})
    recorder.begin(settings, [(settings.each_source()[0], trace)], MODEL.model_dump(), masks=(), end=pipeline.stop)
    asyncio.run(pipeline.run())
    recorder.close()
    recorded = (folder / EVENTS).read_bytes()
    assert b'"end_reason":"shutdown"' in recorded
    assert replay(folder)[0].content(cut=False) == recorded


@pytest.mark.parametrize("share", [0.1, 0.35, 0.5, 0.77, 0.999])
@pytest.mark.parametrize("which", ["media", "items", "turns"])
def test_a_recording_that_was_cut_off_is_replayed_up_to_the_cut(tmp_path: Path, which: str, share: float) -> None:
    """Wherever a killed recorder left a file, the messages before the cut are those of the recorded run."""
    folder = tmp_path / "session"
    record(folder, {"porch": FakeSource(seconds(LOUD))})
    path = {"media": media_file, "items": items_file}.get(which, lambda base, _: base / "turns.jsonl")(folder, "porch")
    for lines in (items_file(folder, "porch"), folder / "turns.jsonl"):  # a killed recorder writes no end
        content = lines.read_bytes().splitlines(keepends=True)
        lines.write_bytes(b"".join(content[:-1]))
    os.truncate(path, round(path.stat().st_size * share))
    transcript, sources = replay(folder)
    assert sources["porch"].cut
    recorded = (folder / EVENTS).read_bytes()
    _, difference = compare_events(recorded, transcript.content(cut=True), cut=True)
    assert difference is None
    if which == "turns":  # what the clocks said is lost after the cut, the scores are not
        kept = [json.loads(line)["score"] for line in transcript.content(cut=False).splitlines()]
        assert kept == [json.loads(line)["score"] for line in recorded.splitlines()]


def test_damage_before_the_end_is_told(tmp_path: Path) -> None:
    """Media that are not what was recorded are an error that names the file, not other events."""
    folder = tmp_path / "session"
    record(folder, {"porch": FakeSource(seconds(LOUD))})
    path = media_file(folder, "porch")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"porch is damaged at item \d+.*copy the session again"):
        list(ReplayedSource(folder, read_card(folder).sources[0]).items())


def test_a_recording_ends_at_its_limit(tmp_path: Path) -> None:
    """The run ends when the recording has the size of the limit, and what is recorded can be replayed."""
    recorder = record(tmp_path / "session", {"porch": FakeSource(seconds([0.9] * 400))}, most_bytes=1_000_000)
    assert "limit" in str(recorder.ended)
    assert not recorder.failed
    assert sum(path.stat().st_size for path in (tmp_path / "session").rglob("*") if path.is_file()) < 1_200_000
    assert replay(tmp_path / "session")[0].content(cut=False) == (tmp_path / "session" / EVENTS).read_bytes()


def test_a_full_disk_ends_the_run_and_leaves_a_recording(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the disk is full the run ends, the reason is kept, and what was recorded before can be replayed."""
    left = [300]

    def append(file: BinaryIO, value: object) -> int:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return append_line(file, value)

    monkeypatch.setattr(recorder_module, "append_line", append)
    recorder = record(tmp_path / "session", {"porch": FakeSource(seconds([0.9] * 400))})
    assert recorder.failed
    assert "No space left" in str(recorder.ended)
    _, difference = compare_events(
        (tmp_path / "session" / EVENTS).read_bytes(), replay(tmp_path / "session")[0].content(cut=True), cut=True
    )
    assert difference is None


@pytest.mark.parametrize("how", ["removed", "renamed", "replaced"])
def test_a_folder_that_is_taken_away_ends_the_recording(tmp_path: Path, how: str) -> None:
    """Who removes the folder during a recording is told so, and not that it can be repeated."""
    recorder = Recorder(tmp_path / "session", 10**9)
    ended: list[bool] = []
    settings = Settings.model_validate({"source": {"id": "porch", "uri": "/films/porch.mp4"}})
    trace = Trace(FakeSource(seconds(LOUD)), tmp_path / "session", "porch", PICTURE, 2)
    recorder.begin(settings, [(settings.each_source()[0], trace)], MODEL.model_dump(), masks=(), end=lambda: ended.append(True))
    recorder.note([TurnRecord(source="porch", item="segment")])
    assert not ended
    if how == "removed":
        shutil.rmtree(tmp_path / "session")
    else:
        (tmp_path / "session").rename(tmp_path / "elsewhere")
    if how == "replaced":
        shutil.copytree(tmp_path / "elsewhere", tmp_path / "session")
    recorder.note([TurnRecord(source="porch", item="segment")])
    recorder.close()
    assert (recorder.failed, ended) == (True, [True])
    assert "was removed, renamed or replaced" in (recorder.ended or "")


def test_no_secret_and_no_folder_of_a_person_is_recorded(tmp_path: Path) -> None:
    """Passwords of brokers, pages and cameras, and the folders of files, are in no file of a recording."""
    folder = tmp_path / "session"
    tree = {
        "source": {"id": "porch", "uri": "rtsp://admin:s3cr3t@192.0.2.7/stream?token=s3cr3t"},
        "mqtt": {"host": "broker.s3cr3t", "username": "s3cr3t", "password": "s3cr3t"},
        "view": {"token": "s3cr3t-s3cr3t-s3cr3t"},
        "clips": {"dir": "/home/s3cr3t"},
        "jsonl": "/home/s3cr3t/events.jsonl",
    }
    record(folder, {"porch": FakeSource(seconds([0.9] * 4))}, settings=Settings.model_validate(tree))
    for path in folder.rglob("*"):
        if path.is_file():
            assert b"s3cr3t" not in path.read_bytes(), path
            assert path.stat().st_mode & 0o077 == 0, path
    assert read_card(folder).sources[0].shown == "rtsp://...@192.0.2.7/stream?..."


def test_a_folder_in_use_is_refused_and_a_folder_that_is_none_is_told(tmp_path: Path) -> None:
    """A recording never mixes with other files; a folder that holds no recording is an error with its remedy."""
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "holiday.mp4").touch()
    with pytest.raises(SettingsError, match=r"new or empty folder.*holiday\.mp4"):
        Recorder(tmp_path / "used", 1)
    with pytest.raises(DataError, match="must be a folder that `streamav record` wrote"):
        read_card(tmp_path / "used")
    (tmp_path / "used" / "session.json").write_text('{"format": "streamav.session/9"}')
    with pytest.raises(DataError, match=r"format streamav\.session/1"):
        read_card(tmp_path / "used")


# What is removed before it is recorded


class Finder:
    """Finds speech in the loud seconds, and a face in the first cell."""

    def heard(self, samples: np.ndarray) -> bool:
        return bool(np.abs(samples).max() > 0.5)

    def cells(self, picture: np.ndarray) -> np.ndarray:
        found = np.zeros((2, 2), np.bool_)
        found[0, 0] = True
        return found


def tone(hz: float, seconds_long: float, start_s: float = 0.0, size: int = 480) -> list[AudioBlock]:
    samples = (0.4 * np.sin(2 * np.pi * hz * np.arange(round(seconds_long * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ)).astype(np.float32)
    return [
        AudioBlock(
            start_ns=round((start_s + place / SAMPLE_RATE_HZ) * 1e9) // 62_500 * 62_500,
            samples=np.ascontiguousarray(samples[place : place + size]),
        )
        for place in range(0, samples.size, size)
    ]


def sound_of(items: Iterable[Item]) -> np.ndarray:
    return np.concatenate([item.samples for item in items if isinstance(item, AudioBlock)])


@pytest.mark.parametrize(("hz", "least", "most"), [(500, 0.99, 1.01), (3000, 0.98, 1.02), (3900, 0.0, 0.001), (7000, 0.0, 0.001)])
def test_sound_above_the_telephone_band_is_removed(hz: float, least: float, most: float) -> None:
    """Tones within the band pass unchanged in level, tones above it are 60 dB lower, however the sound is cut into blocks."""
    mask = ItemMask(None, None, band=True)
    blocks = tone(hz, 2.0, size=333)
    found = list(mask(iter(blocks)))
    assert [(item.start_ns, item.samples.size) for item in found if isinstance(item, AudioBlock)] == [
        (one.start_ns, one.samples.size) for one in blocks
    ]
    level = sound_of(found)[2000:-2000].std() / sound_of(blocks)[2000:-2000].std()
    assert least <= level <= most


def test_only_seconds_with_speech_are_muted_and_nothing_else_changes() -> None:
    """Seconds in which a voice is heard are silent, all others are untouched; items keep order and time stamps."""
    items: list[Item] = []
    loud = np.float32(0.9)
    for second in range(5):
        for place in range(0, SAMPLE_RATE_HZ, 1000):
            start_ns = second * SEGMENT_NS + place * SEGMENT_NS // SAMPLE_RATE_HZ
            if place % 4000 == 0:
                items.append(VideoFrame(start_ns=start_ns, pixels=np.full((4, 4, 3), 9, np.uint8)))
            value = loud if second in {1, 3} and place == 7000 else np.float32(0.1)
            items.append(AudioBlock(start_ns=start_ns, samples=np.full(1000, value, np.float32)))
    found = list(ItemMask(None, Finder(), band=False)(iter(items)))  # type: ignore[arg-type]
    assert [(type(one), getattr(one, "start_ns", 0)) for one in found] == [(type(one), getattr(one, "start_ns", 0)) for one in items]
    sound = sound_of(found).reshape(5, -1)
    assert (sound[[1, 3]] == 0.0).all()
    assert np.array_equal(sound[[0, 2, 4]], sound_of(items).reshape(5, -1)[[0, 2, 4]])


def test_pictures_do_not_wait_for_sound_that_does_not_come() -> None:
    """When the sound stops, pictures pass on after two seconds, and a change of state passes at once."""
    pictures = [VideoFrame(start_ns=second * SEGMENT_NS // 4, pixels=np.zeros((4, 4, 3), np.uint8)) for second in range(40)]

    def items() -> Iterator[Item]:
        yield AudioBlock(start_ns=0, samples=np.zeros(100, np.float32))
        yield from pictures

    gave = 0
    source = ItemMask(None, Finder(), band=False)(items())  # type: ignore[arg-type]
    for item in source:
        gave += isinstance(item, VideoFrame)
        if gave == 20:
            break
    assert gave == 20


def test_faces_become_one_colour_and_the_rest_stays() -> None:
    """A cell in which a face was found is its mean colour; no other pixel changes."""
    pixels = np.arange(4 * 4 * 3, dtype=np.uint8).reshape(4, 4, 3)
    (found,) = ItemMask(Finder(), None, band=False)(iter([VideoFrame(start_ns=0, pixels=pixels)]))  # type: ignore[arg-type]
    assert isinstance(found, VideoFrame)
    assert len(np.unique(found.pixels[:2, :2].reshape(-1, 3), axis=0)) == 1
    assert np.array_equal(found.pixels[2:], pixels[2:])
    assert np.array_equal(found.pixels[:2, 2:], pixels[:2, 2:])


def test_what_was_removed_is_not_in_the_recording(tmp_path: Path) -> None:
    """The recording holds what the mask left, and its events are those of what is left, so it replays like any other."""
    folder = tmp_path / "session"
    mask = ItemMask(Finder(), Finder(), band=True)  # type: ignore[arg-type]
    record(folder, {"porch": FakeSource(seconds([0.9] * 3 + [0.1] * 9))}, mask=mask)
    heard = sound_of(ReplayedSource(folder, read_card(folder).sources[0]).items())
    assert (heard[: 3 * SAMPLE_RATE_HZ] == 0.0).all()
    assert replay(folder)[0].content(cut=False) == (folder / EVENTS).read_bytes()
