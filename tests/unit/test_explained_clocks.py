"""Tests of explanations from the journal of live sources, whose clocks are corrected, set and restarted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from rigs.published_events import SCORES

from streamav.clock import SteadyClock
from streamav.journal import History, explain_moment
from streamav.review.desk import _stretches
from streamav.thresholds import Thresholds
from streamav.tracker import LabelOptions
from streamav.types import FinalScores

NS, MS = 1_000_000_000, 1_000_000
EPOCH_NS = 1_789_381_200_000_000_000
RULE = Thresholds(on=0.6, off=0.3, min_segments=4, gap_segments=1)


def row(second: int, probability: float, epoch_ns: int) -> FinalScores:
    return replace(SCORES, start_ns=second * NS, epoch_ns=epoch_ns, labels={"bark": probability, "cat": 0.1})


def labels_of(_: Sequence[str]) -> Sequence[LabelOptions]:
    return [LabelOptions(label="bark", label_name="Bark", class_id=0, thresholds=RULE)]


def explained(path: Path, rows: Sequence[FinalScores], at_s: float) -> dict[str, object]:
    with History.writing(path) as history:
        history.write([], [("porch", one) for one in rows])
        return explain_moment(history, "porch", at_s, labels_of, 7)


def barking(epoch_of: object) -> list[FinalScores]:
    """Return thirty segments, barking from 10 to 16; the clock of each is given by a function of its number."""
    assert callable(epoch_of)
    return [row(second, 0.9 if 10 <= second < 16 else 0.05, epoch_of(second)) for second in range(30)]


@pytest.mark.parametrize(
    ("name", "epoch_of"),
    [
        ("steady", lambda _: EPOCH_NS),
        ("a camera that is slow", lambda second: EPOCH_NS + second * MS),
        ("jitter of the network", lambda second: EPOCH_NS - (37 * second % 5) * MS),
        ("over a whole second", lambda second: EPOCH_NS + 999 * MS + second // 13 * MS),
        ("set forward in the event", lambda second: EPOCH_NS + (40 * NS if second >= 13 else 0)),
        ("set back in the event", lambda second: EPOCH_NS - (40 * NS if second >= 13 else 0)),
        ("stepped by NTP", lambda second: EPOCH_NS + (-300 * MS if second >= 12 else 0)),
    ],
)
def test_each_second_of_an_event_is_explained_as_one(tmp_path: Path, name: str, epoch_of: object) -> None:
    """Four segments confirm an event: each of its six seconds is explained with all of them, whatever the clocks do meanwhile."""
    rows = barking(epoch_of)
    for second in range(10, 16):
        found = explained(tmp_path / f"j{second}", rows, (rows[second].epoch_ns + second * NS) / NS + 0.5)
        assert found["event"] is True, (name, second, found["why"])
    if "back" not in name:
        assert explained(tmp_path / "before", rows, (rows[5].epoch_ns + 5 * NS) / NS + 0.5)["event"] is False


def test_a_new_start_of_the_source_is_another_run(tmp_path: Path) -> None:
    """A run that began a few seconds after the one before, with the same media times, is not mixed with it."""
    first = [row(second, 0.9 if second >= 12 else 0.05, EPOCH_NS) for second in range(14)]
    then = [row(second, 0.9 if second == 14 else 0.05, EPOCH_NS + 17 * NS) for second in range(30)]
    found = explained(tmp_path / "j", [*first, *then], EPOCH_NS / NS + 13.5)
    assert (found["event"], found["labels"][0]["held"]) == (False, 2)  # type: ignore[index] # JSON values


def test_what_if_counts_an_event_once_over_a_second_of_the_clock() -> None:
    """A clock that creeps over a whole second does not cut what the live page counts as one stretch."""
    rows = barking(lambda second: EPOCH_NS + 999 * MS + second // 13 * MS)
    assert [len(values) for _, values in _stretches(rows, "bark")] == [30]


def test_a_clock_that_is_wrong_for_a_moment_deletes_nothing() -> None:
    """Age removes nothing until the wall clock has run for ten minutes without a step."""
    steady = SteadyClock()
    assert not steady.lasts(1e9, 100.0)
    assert not steady.lasts(1e9 + 599, 699.0)
    assert steady.lasts(1e9 + 600, 700.0)
    assert not steady.lasts(2e9, 710.0)  # set to the year 2033
    assert not steady.lasts(1e9 + 620, 720.0)  # and back
    assert not steady.lasts(1e9 + 1200, 1300.0)
    assert steady.lasts(1e9 + 1220, 1320.0)
