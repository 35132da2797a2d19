"""Tests that the controller of a cluster goes on while the head of Ray does not answer."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import pytest

from streamav.cluster.ray_fleet import Roster


async def test_a_head_that_does_not_answer_holds_nothing_up(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """The nodes known last are returned after a moment, so leases are renewed; one line of the log says it. Later answers count again."""
    monkeypatch.setattr("streamav.cluster.ray_fleet._HEAD_S", 0.05)
    frozen, asked = threading.Event(), [0]
    frozen.set()

    def ask() -> list[dict[str, Any]]:
        asked[0] += 1
        frozen.wait(30.0)
        return [{"number": asked[0]}]

    roster = Roster(ask)
    monkeypatch.setattr("streamav.cluster.ray_fleet._HEAD_S", 20.0)
    assert await roster.rows() == [{"number": 1}]
    monkeypatch.setattr("streamav.cluster.ray_fleet._HEAD_S", 0.05)
    frozen.clear()
    for _ in range(3):
        assert await roster.rows() == [{"number": 1}]
    assert asked[0] == 2  # it is not asked again before it has answered
    assert caplog.text.count("the head of Ray does not answer") == 1
    frozen.set()
    monkeypatch.setattr("streamav.cluster.ray_fleet._HEAD_S", 20.0)
    assert await roster.rows() == [{"number": 2}]


async def test_an_error_of_the_head_reaches_the_controller() -> None:
    """It is not taken for an empty cluster."""

    def ask() -> list[dict[str, Any]]:
        msg = "gone"
        raise ConnectionError(msg)

    with pytest.raises(ConnectionError, match="gone"):
        await Roster(ask).rows()


def test_a_run_ends_although_the_head_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C does not wait for the thread that asks."""
    monkeypatch.setattr("streamav.cluster.ray_fleet._HEAD_S", 0.05)
    frozen = threading.Event()
    began_s = time.monotonic()
    asyncio.run(Roster(lambda: [{"late": frozen.wait(60.0)}]).rows())
    assert time.monotonic() - began_s < 30.0
    frozen.set()
