"""Measures how soon messages that waited for the broker are delivered: one at a time, and as many at once as the broker allows.

    PYTHONPATH=tests python -m tests.bench.waiting_messages

Events of four sources wait in the outbox on disk. A real Mosquitto starts, with a Receive Maximum of 1 and of 20 in turns, directly and
behind a line that is 20 ms long. The time runs from the accepted connection to the last acknowledgement. All share this machine.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

from rigs.mosquitto import Broker
from rigs.published_events import MODEL, make_event
from rigs.wire import Wire

from streamav.config import MqttSettings
from streamav.publish.mqtt import MqttIdentity, MqttSink
from streamav.types import EventPhase

SOURCES = ("s0", "s1", "s2", "s3")
PHASES = (EventPhase.NEW, EventPhase.UPDATE, EventPhase.UPDATE, EventPhase.END)


async def deliver(folder: Path, messages: int, window: int, late_s: float) -> float:
    """Return the messages a second at which waiting messages are delivered."""
    broker = Broker(folder / "broker", options=(f"max_inflight_messages {window}", "set_tcp_nodelay true"))
    wire = Wire(broker.port)
    wire.late(late_s)
    await wire.open()
    settings = MqttSettings(host="127.0.0.1", port=wire.port if late_s else broker.port)
    sink = MqttSink(settings, MqttIdentity(model=lambda: MODEL, sources={source: ["bark"] for source in SOURCES}), folder / "state")
    await sink.start()
    for number in range(messages // len(PHASES)):
        for place, phase in enumerate(PHASES):
            sink.event(make_event(number, place + 1, phase, source=SOURCES[number % 4], seconds=place + 1), 0.1)
    await sink._pending.store.settle()
    broker.start()
    try:
        while not sink.counters.connected:  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.001)
        began_s, left = time.perf_counter(), sink.counters.queue_depth
        while sink.counters.queue_depth:  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.001)
        return left / (time.perf_counter() - began_s)
    finally:
        await sink.close()
        await wire.close()
        broker.stop()


async def measure(messages: int, rounds: int) -> list[dict[str, float]]:
    """Measure all ways in turns."""
    rows = []
    for late_ms in (0.0, 20.0):
        rates: dict[int, list[float]] = {1: [], 20: []}
        for _ in range(rounds):
            for window, found in rates.items():
                with tempfile.TemporaryDirectory() as folder:
                    found.append(await deliver(Path(folder), messages, window, late_ms / 1e3))
        one, many = (statistics.median(found) for found in rates.values())
        ratio = statistics.median(b / a for a, b in zip(*rates.values(), strict=True))
        rows.append({"late_ms": late_ms, "one_at_a_time": round(one, 1), "twenty_at_once": round(many, 1), "ratio": round(ratio, 1)})
    return rows


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    for row in asyncio.run(measure(options.messages, options.rounds)):
        sys.stdout.write(json.dumps(row) + "\n")
