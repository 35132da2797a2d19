"""Tests that a run of a cluster which was killed leaves no event open for ever."""

from __future__ import annotations

from pathlib import Path

import pytest
from rigs.published_events import MODEL, make_event

from streamav.cluster.open_events import OpenEvents
from streamav.publish import describe
from streamav.types import EventPhase


def message(number: int, phase: EventPhase = EventPhase.NEW, source: str = "porch") -> bytes:
    return describe(make_event(number, 3, phase, source=source, seconds=10), MODEL, 0.1, 3).to_bytes()


def test_what_a_killed_run_left_open_is_known_to_the_next(tmp_path: Path) -> None:
    """The newest message of each open event is in the file; what has ended is not. Anything else on the topics is left out."""
    path = tmp_path / "service" / "open-events.json"
    first = OpenEvents(path)
    first.take(message(1))
    first.take(message(2, source="yard"))
    first.take(message(2, EventPhase.END, source="yard"))
    first.take(b"no event")
    first.save()
    second = OpenEvents(path)
    assert second.of("porch") == (message(1),)
    assert second.of("yard") == ()
    assert len(second) == 1


def test_a_run_that_ended_in_order_leaves_nothing(tmp_path: Path) -> None:
    """The next run ends no event a second time."""
    path = tmp_path / "open-events.json"
    first = OpenEvents(path)
    first.take(message(1))
    first.save()
    first.take(message(1, EventPhase.END))
    first.save()
    assert not OpenEvents(path)


@pytest.mark.parametrize("content", ["", "{", "{}", "[1, null]", '["x"]'])
def test_a_broken_file_counts_as_none(tmp_path: Path, content: str) -> None:
    """A run starts whatever is in the file."""
    path = tmp_path / "open-events.json"
    path.write_text(content, encoding="utf-8")
    assert not OpenEvents(path)
