"""Tests of the pauses of a worker that cannot run."""

from __future__ import annotations

from streamav.cluster.pauses import FIRST_S, MOST_S, Pauses


def test_a_pause_doubles_up_to_its_bound_also_after_days_of_failures() -> None:
    """The pauses are 5, 10, 20, 40 and then 60 s, also after thousands of failures; a worker that ran begins with 5 s again."""
    pauses = Pauses()
    found = [pauses.fail("a", "no streamav there", 0.0) for _ in range(3000)]
    assert found[:5] == [FIRST_S, 2 * FIRST_S, 4 * FIRST_S, 8 * FIRST_S, MOST_S]
    assert set(found[5:]) == {MOST_S}
    pauses.forget("a")
    assert pauses.fail("a", "no streamav there", 0.0) == FIRST_S
