"""Tests what privacy removes from clips and snapshots, and what happens when it changes while a clip is recorded, written or told."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray
from rigs.event_clips import event, ring_of, seconds_of, write_counting

from streamav.capture.look import Look
from streamav.capture.media import MediaSource
from streamav.clips import ClipSink, PacketRing
from streamav.clips.masks import ClipMasks
from streamav.clips.mp4 import write_mp4
from streamav.clips.ready import ReadyMedia
from streamav.config import ClipSettings, DetectionSettings
from streamav.privacy_modes import PRIVACY_CHOICES, Privacy, read_privacy, stricter
from streamav.types import SEGMENT_NS, AudioBlock, EventPhase, VideoFrame

OFF: Privacy = ()


def _blank(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    made = picture.copy()
    made[:, :32] = 0
    return made


def test_faces_are_covered_and_speech_is_muted_in_the_clip(tmp_path: Path) -> None:
    """Pictures are covered before they are encoded, seconds with speech are silent, all others sound as before, and the times stay."""
    footage = ring_of(write_counting(tmp_path / "long.mp4", 12)).footage(2 * SEGMENT_NS, 8 * SEGMENT_NS)
    assert footage is not None
    asked: list[int] = []

    def speaks(second: NDArray[np.float32]) -> bool:
        asked.append(second.size)
        return len(asked) in {2, 3}

    write_mp4(tmp_path / "clip.mp4", footage, ClipMasks(_blank, speaks))
    write_mp4(tmp_path / "plain.mp4", footage)
    assert set(asked) == {16_000}
    with av.open(str(tmp_path / "clip.mp4")) as clip, av.open(str(tmp_path / "plain.mp4")) as plain:
        assert clip.streams.video[0].frames == plain.streams.video[0].frames
        shown = [frame.to_ndarray(format="rgb24") for frame in clip.decode(video=0)]
        bright = [frame.to_ndarray(format="rgb24") for frame in plain.decode(video=0)]
    assert all(abs(float(one[:, 40:].mean()) - float(other[:, 40:].mean())) < 4 for one, other in zip(shown, bright, strict=True))
    assert max(float(one[:, :24].mean()) for one in shown) < 6
    levels = []
    for name in ("clip.mp4", "plain.mp4"):
        with av.open(str(tmp_path / name)) as file:
            sound = np.concatenate([frame.to_ndarray()[0] for frame in file.decode(audio=0)])
        levels.append([float(np.abs(sound[48_000 * second + 6_000 : 48_000 * second + 42_000]).mean()) for second in range(5)])
    assert [level < 0.002 for level in levels[0]] == [False, True, True, False, False]
    assert levels[0][3] == pytest.approx(levels[1][3], rel=0.2)


def test_nothing_is_written_where_the_mask_fails(tmp_path: Path) -> None:
    """When faces cannot be looked for, there is no clip and no snapshot, rather than one that shows them."""

    def fails(_: Privacy) -> ClipMasks:
        msg = "no engine"
        raise RuntimeError(msg)

    async def run() -> None:
        ring = ring_of(write_counting(tmp_path / "long.mp4", 20))
        sink = ClipSink(ClipSettings(dir=tmp_path / "clips", min_free_mb=0), tmp_path / "clips", {"porch": ring}, masks=fails)
        sink.set_privacy("porch", ("blur",))
        ring.set_privacy(("blur",))
        await sink.start()
        sink.event(event(EventPhase.NEW, 8), 0.1)
        sink.event(event(EventPhase.END, 8, 11), 0.1)
        await sink.close()

    asyncio.run(run())
    assert not [path for path in (tmp_path / "clips").rglob("*") if path.is_file()]


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ("off", ()),
        ("blur", ("blur",)),
        ("blur, mute_speech", ("blur", "mute_speech")),
        ("metadata_only", ("metadata_only",)),
        ("mute_speech,metadata_only", ("metadata_only",)),
        (["mute_speech", "blur"], ("blur", "mute_speech")),
        ([], ()),
        (["blur"], ("blur",)),
    ],
)
def test_privacy_is_written_as_words(given: object, found: tuple[str, ...]) -> None:
    """One word, several with commas, a list, or off."""
    assert DetectionSettings.model_validate({"privacy": given}).privacy == found


def test_the_stricter_privacy_hides_what_each_hides() -> None:
    """It is the same in any order, hides at least what both hide, and metadata_only is the strictest."""
    all_of_them = [read_privacy(word) for word in PRIVACY_CHOICES]
    for one in all_of_them:
        for other in all_of_them:
            both = stricter(one, other)
            assert both == stricter(other, one)
            assert both == ("metadata_only",) or set(both) == set(one) | set(other)
    assert stricter(("blur",), ("metadata_only",)) == ("metadata_only",)
    assert stricter() == OFF


# What happens when it changes


class Run:
    """A sink that writes clips of a source, of which packets come when the test says so."""

    def __init__(self, folder: Path, made: list[Privacy]) -> None:
        self.folder, self.told, self.made = folder / "clips", list[str](), made
        self.ring = PacketRing(60.0)
        items = MediaSource(str(folder / "all.mp4"), Look(picture=(8, 8), frames_per_second=2), speed="max", tap=self.ring).items()
        self._items = (one for one in items if isinstance(one, AudioBlock | VideoFrame))
        self.now_s = 0.0
        settings = ClipSettings(dir=self.folder, min_free_mb=0, pre_s=2.0, post_s=2.0)
        self.sink = ClipSink(settings, self.folder, {"porch": self.ring}, tell=self._tell, masks=self._masks)
        self.while_writing: Callable[[], None] = lambda: None

    def _tell(self, ready: ReadyMedia) -> None:
        self.told.append(ready.kind)

    def _masks(self, privacy: Privacy) -> ClipMasks:
        self.made.append(privacy)
        self.while_writing()
        return ClipMasks(lambda picture: picture)

    def play(self, until_s: float) -> None:
        """Let packets come until a media time."""
        while self.now_s < until_s:
            self.now_s = next(self._items).end_ns / SEGMENT_NS

    def set(self, word: str) -> None:
        self.sink.set_privacy("porch", read_privacy(word))

    @property
    def files(self) -> dict[str, Path]:
        return {path.suffix: path for path in self.folder.rglob("*") if path.is_file()}


@pytest.fixture
def made() -> list[Privacy]:
    """The privacies for which masks were made, in order."""
    return []


@pytest.fixture
def run(tmp_path: Path, made: list[Privacy]) -> Run:
    write_counting(tmp_path / "all.mp4", 24)
    return Run(tmp_path, made)


def test_nothing_from_before_metadata_only_is_written_later(run: Run) -> None:
    """What is recorded when the switch comes, and what the ring holds, is gone: also after it is switched back at once."""

    async def go() -> None:
        await run.sink.start()
        run.play(8)
        run.sink.event(event(EventPhase.NEW, 7), 0.1)
        run.set("metadata_only")
        run.set("off")
        run.play(12)
        run.sink.event(event(EventPhase.END, 7, 10), 0.1)
        run.play(20)
        await run.sink.close()
        await asyncio.sleep(0)

    asyncio.run(go())
    assert ".mp4" not in run.files
    assert "clip" not in run.told


def test_a_clip_after_metadata_only_begins_after_it(run: Run) -> None:
    """While it holds nothing is kept; a later event has a clip, whose pre-roll does not reach back before the switch."""

    async def go() -> None:
        await run.sink.start()
        run.play(6)
        run.set("metadata_only")
        run.play(10)
        run.set("off")
        run.play(13)
        run.sink.event(event(EventPhase.NEW, 11), 0.1)
        run.sink.event(event(EventPhase.END, 11, 13), 0.1)
        run.play(20)
        await run.sink.close()

    asyncio.run(go())
    assert seconds_of(run.files[".mp4"])[0] >= 10
    assert seconds_of(run.files[".mp4"])[-1] in {14, 15}


def test_an_event_in_metadata_only_has_neither_clip_nor_snapshot(run: Run) -> None:
    """The events themselves go on, and nothing is written, whatever comes later."""

    async def go() -> None:
        await run.sink.start()
        run.set("metadata_only")
        run.play(8)
        run.sink.event(event(EventPhase.NEW, 7), 0.1)
        run.set("off")
        run.play(12)
        run.sink.event(event(EventPhase.END, 7, 10), 0.1)
        run.play(20)
        await run.sink.close()

    asyncio.run(go())
    assert run.files == {}


@pytest.mark.parametrize(
    ("before", "after", "used"),
    [("blur", "off", ("blur",)), ("off", "blur", ("blur",)), ("blur", "mute_speech", ("blur", "mute_speech")), ("off", "off", None)],
)
def test_the_stricter_of_then_and_now_is_removed(run: Run, made: list[Privacy], before: str, after: str, used: Privacy | None) -> None:
    """A clip of seconds that were under `blur` is blurred, whatever holds when it is written; and the other way round."""

    async def go() -> None:
        await run.sink.start()
        run.set(before)
        run.play(10)
        run.sink.event(event(EventPhase.NEW, 8), 0.1)
        run.play(11)
        run.set(after)
        run.sink.event(event(EventPhase.END, 8, 10), 0.1)
        run.play(20)
        await run.sink.close()

    asyncio.run(go())
    assert set(run.files) == {".mp4", ".jpg"}
    assert (made[-1] if made else None) == used


def test_old_footage_is_forgotten_by_what_holds_later(run: Run, made: list[Privacy]) -> None:
    """A clip of which nothing was under `blur` is not blurred, also when `blur` held before."""

    async def go() -> None:
        await run.sink.start()
        run.set("blur")
        run.play(4)
        run.set("off")
        run.play(14)
        run.sink.event(event(EventPhase.NEW, 12), 0.1)
        run.sink.event(event(EventPhase.END, 12, 14), 0.1)
        run.play(20)
        await run.sink.close()

    asyncio.run(go())
    assert set(run.files) == {".mp4", ".jpg"}
    assert made == []


@pytest.mark.parametrize(("word", "left"), [("metadata_only", set()), ("blur,mute_speech", {".mp4", ".jpg"})])
def test_a_change_while_a_clip_is_written_holds_for_it(run: Run, made: list[Privacy], word: str, left: set[str]) -> None:
    """A file that is half done is thrown away, or made again with more removed; nobody is told of what was thrown away."""
    begun, changed = threading.Event(), threading.Event()

    def wait() -> None:
        begun.set()
        assert changed.wait(10.0)

    async def go() -> None:
        await run.sink.start()
        run.set("blur")
        run.play(14)
        run.while_writing = wait
        run.sink.event(event(EventPhase.NEW, 8), 0.1)
        run.sink.event(event(EventPhase.END, 8, 10), 0.1)
        assert await asyncio.to_thread(begun.wait, 10.0)
        run.set(word)
        changed.set()
        await run.sink.close()
        await asyncio.sleep(0)

    asyncio.run(go())
    assert set(run.files) == left
    assert len(run.told) == len(left)
    assert made[-1] == (("blur", "mute_speech") if left else ("blur",))


def test_what_was_written_before_metadata_only_is_not_told_after_it(run: Run) -> None:
    """A file that is complete, and not told yet, is told to nobody: its picture would still go to the broker."""

    async def go() -> None:
        await run.sink.start()
        run.play(14)
        run.sink.event(event(EventPhase.NEW, 8), 0.1)
        while not run.files:
            threading.Event().wait(0.01)
        run.set("metadata_only")
        await asyncio.sleep(0.05)
        await run.sink.close()

    asyncio.run(go())
    assert run.told == []


def test_memory_is_empty_in_metadata_only(run: Run) -> None:
    """The ring holds no packet, no description with a picture, and no recording; packets that come are not kept."""
    run.play(10)
    run.ring.record(0, 60 * SEGMENT_NS, lambda _: None)
    run.set("metadata_only")
    run.play(14)
    held: dict[str, Any] = {name: value for name, value in vars(run.ring).items() if isinstance(value, (bytes, list, dict)) or value}
    assert not any(held.get(name) for name in ("_packets", "_keys", "_samples", "_recordings", "_bytes"))
    assert not run.ring.wanted
    assert run.ring.footage(0, 60 * SEGMENT_NS) is None
