"""Tests how long a segment waits for the segments of other sources."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from streamav.pipeline.gather import DueTimes
from streamav.types import SEGMENT_NS

MS = 1_000_000


@given(st.integers(0, 500), st.integers(0, 3000), st.integers(0, 1000), st.lists(st.tuples(st.sampled_from("abcd"), st.integers(0, 3000))))
def test_no_wait_goes_beyond_its_bound(bound_ms: int, first_ms: int, after_ms: int, came: list[tuple[str, int]]) -> None:
    """The wait never ends later than the bound after the first segment of the batch arrived."""
    due = DueTimes(bound_ms * MS)
    for source, at_ms in came:
        due.came(source, at_ms * MS)
    now_ns = (first_ms + after_ms) * MS
    wait_ns = due.wait_ns(first_ms * MS, now_ns, "abcd")
    assert wait_ns == 0 or 0 < wait_ns <= first_ms * MS + bound_ms * MS - now_ns


def test_only_those_that_are_due_are_waited_for() -> None:
    """A source is waited for if it is due within the bound, and not if it is due later, overdue or unknown."""
    due = DueTimes(50 * MS)
    due.came("soon", 30 * MS)
    due.came("late", 400 * MS)
    due.came("stalled", -500 * MS)
    now_ns = SEGMENT_NS
    assert due.wait_ns(now_ns, now_ns, ["soon"]) == 50 * MS  # 30 ms and the jitter
    assert due.wait_ns(now_ns, now_ns + 5 * MS, ["soon", "late", "stalled", "new"]) == 45 * MS
    for absent in (["late"], ["stalled"], ["new"], []):
        assert due.wait_ns(now_ns, now_ns, absent) == 0


def test_a_source_that_stalls_costs_one_bound_at_most() -> None:
    """The first missing segment of a source may be waited for; after that the source is overdue."""
    due = DueTimes(50 * MS)
    due.came("stalls", 0)
    waited = []
    for second in range(1, 5):
        first_ns = second * SEGMENT_NS - 10 * MS
        waited.append(due.wait_ns(first_ns, first_ns, ["stalls"]))
    assert waited == [30 * MS, 0, 0, 0]


def test_without_a_bound_nobody_waits() -> None:
    """With a bound of 0, the default, no segment waits, for one source and for several."""
    due = DueTimes(0)
    due.came("a", 0)
    assert due.wait_ns(SEGMENT_NS, SEGMENT_NS, ["a"]) == 0
