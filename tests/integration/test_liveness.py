"""Tests, on encoded recordings, that dead cameras and microphones are recognised, and that working ones are not taken for dead."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from rigs.dead_devices import Recording, write_recording
from rigs.roles import FakeExtractor, FakeLocalizer, RecordingSink

from streamav.capture.look import Look
from streamav.capture.media import MediaSource
from streamav.pipeline import Pipeline, SourceSetup
from streamav.segmenter import SegmenterOptions
from streamav.types import SourceState

PICTURE = (112, 112)


def states_of(file: Path) -> list[tuple[SourceState, str]]:
    """Run a file through capture, segments and the loop; return the states after the start and their reasons."""
    source = MediaSource(str(file), Look(picture=PICTURE, frames_per_second=4), speed="max")
    options = SegmenterOptions(frames_per_second=4, picture=PICTURE)
    setup = SourceSetup(id="porch", source=source, segmenter=options, labels=(), latency_segments=1, paced=False)
    sink = RecordingSink()
    asyncio.run(Pipeline([setup], FakeExtractor(), FakeLocalizer(), sink).run())
    return sink.states[2:]  # after starting and warming_up


@pytest.mark.slow
@pytest.mark.parametrize(
    ("made", "reason", "remedy"),
    [
        (Recording(picture="frozen", codec="mjpeg"), "frozen", "restart the camera"),
        (Recording(picture="frozen"), "frozen", "restart the camera"),
        (Recording(picture="frozen", codec="mpeg4"), "frozen", "restart the camera"),
        (Recording(picture="frozen with a clock"), "frozen", "restart the camera"),
        (Recording(picture="black"), "black", "night view"),
        (Recording(picture="covered"), "even surface", "covers the camera"),
        (Recording(sound="silence"), "digital silence", "muting"),
        (Recording(sound="clipped"), "clipped", "gain"),
        (Recording(sound="offset"), "offset", "another input"),
        (Recording(sound="one channel"), "one of the two channels", "plug"),
    ],
    ids=lambda value: f"{value.picture}, {value.sound}, {value.codec}" if isinstance(value, Recording) else "",
)
def test_a_source_that_sees_or_hears_nothing_is_degraded(tmp_path: Path, made: Recording, reason: str, remedy: str) -> None:
    """The state is degraded, never online before it, and the reason names the one fault and what to do."""
    states = states_of(write_recording(tmp_path / "porch.mkv", made))
    assert states[-1][0] is SourceState.DEGRADED
    assert all(state is SourceState.DEGRADED for state, _ in states) or made.picture.startswith("frozen")
    assert reason in states[-1][1]
    assert remedy in states[-1][1]
    assert ";" not in states[-1][1]


@pytest.mark.slow
@pytest.mark.parametrize(
    "made",
    [
        Recording(),
        Recording(picture="still"),
        Recording(picture="still", codec="mpeg4"),
        Recording(picture="still", codec="mjpeg"),
        Recording(picture="dusk"),
        Recording(sound="quiet"),
        Recording(sound="two channels"),
    ],
    ids=lambda made: f"{made.picture}, {made.sound}, {made.codec}",
)
def test_a_source_that_works_is_online(tmp_path: Path, made: Recording) -> None:
    """A scene in which nothing moves, a dim one and a quiet room are no faults: the sensor's noise shows that the camera works."""
    assert [state for state, _ in states_of(write_recording(tmp_path / "porch.mkv", made))] == [SourceState.ONLINE]


@pytest.mark.slow
def test_a_source_that_recovers_is_online_again(tmp_path: Path) -> None:
    """A microphone is muted for a while: the source is degraded meanwhile, and online ten good seconds later."""
    file = write_recording(tmp_path / "porch.mkv", Recording(seconds=40, muted=range(12, 26)))
    assert [state for state, _ in states_of(file)] == [SourceState.ONLINE, SourceState.DEGRADED, SourceState.ONLINE]
