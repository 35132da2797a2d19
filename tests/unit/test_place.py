"""Tests of the words for a place in the picture."""

from __future__ import annotations

import io
import re
from dataclasses import replace

import pytest
from rich.console import Console
from rigs.published_events import MODEL, make_event

from streamav.cli.console import ConsoleSink
from streamav.cli.place import words_of_place
from streamav.cli.span_formats import FoundEvent
from streamav.cli.subscribe import _line
from streamav.publish.message import describe
from streamav.types import Location

BOX = (0.0, 0.0, 1.0, 1.0)


@pytest.mark.parametrize(
    ("peak", "words"),
    [
        ((0.0, 0.0), "top left"),
        ((0.5, 0.5), "middle centre"),
        ((1.0, 1.0), "bottom right"),
        ((0.9, 0.5), "middle right"),
        ((0.5, 0.1), "top centre"),
        ((0.1, 0.9), "bottom left"),
    ],
)
def test_the_console_and_subscribe_name_a_place_alike(peak: tuple[float, float], words: str) -> None:
    """A place is named from the top, then from the left; `run` and `subscribe` print the same words."""
    event = replace(make_event(), location=Location(grid=(7, 7), peak=peak, box=BOX))
    assert words_of_place(event.location) == words
    assert words in _line(describe(event, MODEL, 0.1), 0.1)
    assert re.search(rf"\b{words}\b", printed(event))


@pytest.mark.parametrize("location", [None, Location(grid=(7, 7), peak=(0.5, 0.5), box=None)])
def test_where_attention_is_flat_the_place_is_not_known(location: Location | None) -> None:
    """The peak of a place without a box is not shown."""
    event = replace(make_event(), location=location)
    line = _line(describe(event, MODEL, 0.1), 0.1)
    assert "somewhere" in line
    assert "0.50, 0.50" not in line
    assert "somewhere" in printed(event)


def test_a_narrow_terminal_shows_an_event_on_two_tidy_lines() -> None:
    """At 80 columns what does not fit stands below the label, not at the left edge; in a pipe an event is one line."""
    event = replace(make_event(), location=Location(grid=(7, 7), peak=(0.5, 0.5), box=BOX))
    out = io.StringIO()
    ConsoleSink(Console(file=out, width=80, force_terminal=True, color_system=None), updates=True).event(event, 0.1)
    first, second = out.getvalue().splitlines()
    assert len(first.rstrip()) <= 80
    assert re.fullmatch(r" {10}\d+\.\d s after its onset", second)
    assert len(printed(event).splitlines()) == 1


def printed(event: object) -> str:
    out = io.StringIO()
    ConsoleSink(Console(file=out, width=200), updates=True).event(event, 0.1)  # type: ignore[arg-type]
    return out.getvalue()


@pytest.mark.parametrize("peak", [(0.5, 0.36), None])
def test_localize_names_a_place_alike(peak: tuple[float, float] | None) -> None:
    """The table of `localize` has the words of `run`; the numbers are in its JSON."""
    found = FoundEvent(
        file="a.mp4", label="bark", label_name="Bark", onset_s=0.0, offset_s=5.0, score=0.9, peak=peak, box=None if peak is None else BOX
    )
    assert words_of_place(found) == ("somewhere" if peak is None else "middle centre")
