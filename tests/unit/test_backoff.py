"""Tests of the pauses between attempts, and of the log lines about failures."""

from __future__ import annotations

import logging
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rigs.published_events import dice

from streamav.backoff import Backoff
from streamav.config import BackoffSettings
from streamav.publish.patience import Failure, Patience

AWAY = Failure(reason="connection refused")
REFUSED = Failure(reason="wrong password", fatal=True)
TAKEN_OVER = Failure(reason="another client uses our client id", taken_over=True)
CLOSED = Failure(reason="the broker closed the connection", closed=True)


class Upper(Random):
    """A random generator that always draws the upper end."""

    def uniform(self, a: float, b: float) -> float:
        return b


def test_the_bound_doubles_up_to_the_cap_and_starts_again() -> None:
    """The bound is 1, 2, 4 ... up to the cap; after a reset it starts again."""
    backoff = Backoff(1.0, 10.0, Upper())
    assert [backoff.next_s() for _ in range(6)] == [1.0, 2.0, 4.0, 8.0, 10.0, 10.0]
    backoff.reset()
    assert backoff.next_s() == 1.0


@given(seed=st.integers(), attempts=st.integers(1, 3000))
def test_pauses_are_jittered_and_never_above_the_cap(seed: int, attempts: int) -> None:
    """Pauses never exceed the cap, also after thousands of failures (no overflow), and two publishers get different pauses."""
    one, other = Backoff(1.0, 60.0, dice(seed)), Backoff(1.0, 60.0, dice(seed + 1))
    pauses = [(one.next_s(), other.next_s()) for _ in range(attempts)]
    assert all(0.0 <= pause <= 60.0 for pair in pauses for pause in pair)
    assert all(a != b for a, b in pauses)


def test_a_source_is_not_opened_again_before_the_least_pause() -> None:
    """With a least pause, the back-off grows to its limit, stays within its bounds, and starts again after data."""
    backoff = Backoff(1.0, 8.0, dice(1), least_s=1.0)
    pauses = [backoff.next_s() for _ in range(200)]
    assert pauses[0] == 1.0
    assert pauses[1] <= 2.0
    assert all(1.0 <= pause <= 8.0 for pause in pauses)
    assert max(pauses) > 7.0
    assert len(set(pauses)) > 100
    backoff.reset()
    assert backoff.next_s() == 1.0


def test_a_cap_below_the_first_pause_counts_as_the_first_pause() -> None:
    """reconnect_min_s above reconnect_max_s gives equal pauses instead of an error in the middle of a run."""
    backoff = Backoff(2.0, 1.0, Upper(), least_s=2.0)
    assert [backoff.next_s() for _ in range(3)] == [2.0, 2.0, 2.0]


def patience() -> Patience:
    return Patience("broker:1883", "streamav-x", Backoff(1.0, 8.0, Upper()), 60.0)


def levels(caplog: pytest.LogCaptureFixture) -> list[int]:
    return [record.levelno for record in caplog.records if record.levelno > logging.DEBUG]


def test_a_refusal_is_said_once_and_tried_again_at_the_cap_only(caplog: pytest.LogCaptureFixture) -> None:
    """A wrong password is logged once, and all attempts follow after the longest pause."""
    loop = patience()
    assert [loop.failed(REFUSED, float(60 * i), None) for i in range(5)] == [60.0] * 5
    assert levels(caplog) == [logging.ERROR]
    assert "wrong password" in caplog.text


def test_an_absent_broker_is_said_once_with_growing_pauses(caplog: pytest.LogCaptureFixture) -> None:
    """An absent broker is logged once with growing pauses, and again only when the reason changes."""
    loop = patience()
    assert [loop.failed(AWAY, 0.0, None) for _ in range(4)] == [1.0, 2.0, 4.0, 8.0]
    assert levels(caplog) == [logging.WARNING]
    loop.failed(Failure(reason="timed out"), 0.0, None)
    assert levels(caplog) == [logging.WARNING] * 2


def test_the_pauses_start_again_only_after_a_connection_that_lasted() -> None:
    """A broker that accepts and closes at once does not reset the pauses."""
    loop = patience()
    assert [loop.failed(AWAY, 0.0, stood_s=0.5) for _ in range(3)] == [1.0, 2.0, 4.0]
    assert loop.failed(AWAY, 0.0, stood_s=11.0) == 1.0


def test_three_takeovers_within_a_minute_are_a_second_client(caplog: pytest.LogCaptureFixture) -> None:
    """Three takeovers within a minute are logged as an error with what to do, and then the longest pause follows."""
    loop = patience()
    assert [loop.failed(TAKEN_OVER, float(t), stood_s=1.0) for t in (0, 5, 10)] == [1.0, 2.0, 60.0]
    assert "mqtt.client_id" in caplog.text
    assert levels(caplog)[-1] == logging.ERROR


def test_takeovers_far_apart_are_no_second_client() -> None:
    """Takeovers far apart, as of a broker that restarts now and then, are no error."""
    loop = patience()
    assert [loop.failed(TAKEN_OVER, float(t), stood_s=20.0) for t in (0, 50, 100)] == [1.0, 1.0, 1.0]


def test_a_broker_that_restarts_is_not_taken_for_a_second_client(caplog: pytest.LogCaptureFixture) -> None:
    """Connections that are closed without a reason, however often, get the usual pauses; the third is logged with the possibility."""
    loop = patience()
    assert [loop.failed(CLOSED, float(t), stood_s=1.0) for t in (0, 5, 10, 15)] == [1.0, 2.0, 4.0, 8.0]
    assert levels(caplog) == [logging.WARNING, logging.WARNING]
    assert "if another client uses our client id streamav-x" in caplog.text


def test_the_default_pauses_find_a_broker_again_within_five_seconds() -> None:
    """The first attempt follows within 1 s; in 2000 outages of random length, no attempt begins more than 5 s after the broker is back."""
    pauses, random = BackoffSettings(), dice(1)
    for _ in range(2000):
        backoff = Backoff(pauses.min_s, pauses.max_s, random)
        back_s, now_s = random.uniform(0.0, 120.0), backoff.next_s()
        assert now_s <= 1.0
        while now_s < back_s:
            now_s += backoff.next_s()
        assert now_s - back_s <= 5.0
