"""Tests what the diary of the soak makes of segments that are missing."""

from __future__ import annotations

from dataclasses import replace

from rigs.live_page import observation
from rigs.soak import Diary


def test_a_dropped_segment_is_told_from_one_that_did_not_arrive() -> None:
    """Segments that the run dropped are counted as dropped, also when it dropped them before it had processed the one before them."""
    diary = Diary()
    for index, dropped in ((0, 0), (1, 1), (3, 1), (4, 1), (7, 1), (8, 2), (9, 2), (12, 2)):
        diary.observe("porch", replace(observation(index), dropped_segments=dropped))
    assert [(one.segments, one.dropped) for one in diary.holes] == [(1, 1), (2, 0), (2, 1)]
