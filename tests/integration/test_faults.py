"""The short form of `make faults` for every change: broker and process are killed under load, and no event may be lost or left open."""

from __future__ import annotations

import asyncio
import signal

import pytest
from bench.faults import Trial, complaint, started, trial
from rigs.mosquitto import need_mosquitto

pytestmark = [pytest.mark.broker, pytest.mark.slow]


async def killed(one: Trial) -> None:
    """Kill the broker under load, then broker and process."""
    await started(one)
    await asyncio.sleep(1)
    one.broker.kill()
    await asyncio.sleep(0.5)
    one.broker.start()
    await one.recovered()
    await asyncio.sleep(1)
    one.broker.kill()
    await asyncio.sleep(0.5)
    await one.end(signal.SIGKILL)
    one.broker.start()
    await one.begin()
    await one.recovered()


async def test_killing_broker_and_process_costs_no_event() -> None:
    """Every event that was on disk arrives, in order, and ends once; the states that are left are those of a stopped service."""
    need_mosquitto()
    row = await trial("killed", killed)
    assert row.events > 8
    assert (row.lost, complaint(row)) == (0, None)
    assert row.exits == [-9, 0, 0]
