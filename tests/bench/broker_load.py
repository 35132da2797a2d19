"""Measures what one Mosquitto carries: events a second and subscribers, until the 95th percentile of the delay passes 100 ms.

    python -m tests.bench.broker_load

Each message is an event of the contract at QoS 1, published by one client as fast as the step asks. One subscriber measures the delay from
publish to arrival; the others are mosquitto_sub programs that read everything. All share this machine, so the figures are lower bounds.
`broker_cores` is the broker's own processor time in a second: it uses one core at most, so the rest of that core is what it has left.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from rigs.mosquitto import Broker
from rigs.published_events import MODEL, make_event

from streamav.engines.machine import processor_name
from streamav.publish import describe

LIMIT_S = 0.1
RATES = (100, 300, 1000, 2000, 4000, 8000)
READERS = (1, 4, 16, 64)


def payload() -> bytes:
    """Return an event message of usual size."""
    return describe(make_event(1, 3, source="porch", seconds=10), MODEL, 0.1, 3).to_bytes()


def processor_s(process: int) -> float:
    """Return the processor time of a process since its start, s (Linux)."""
    fields = Path(f"/proc/{process}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def step(broker: Broker, rate: int, seconds: float, text: bytes) -> dict[str, float]:
    """Publish at a rate and return the delays, s."""
    port = broker.port
    delays: list[float] = []
    sent: dict[int, float] = {}
    came = threading.Event()
    reader = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
    count = round(rate * seconds)

    def take(_client: object, _data: object, message: mqtt.MQTTMessage) -> None:
        number = int(message.topic.rpartition("/")[2])
        delays.append(time.perf_counter() - sent[number])
        if len(delays) == count:
            came.set()

    reader.on_message = take
    ready = threading.Event()
    reader.on_connect = lambda client, *_: client.subscribe("load/#", qos=1)
    reader.on_subscribe = lambda *_: ready.set()
    reader.connect("127.0.0.1", port)
    reader.loop_start()
    ready.wait(10)
    writer = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
    writer.max_inflight_messages_set(100)
    writer.connect("127.0.0.1", port)
    writer.loop_start()
    before_s, began_s = processor_s(broker.pid), time.perf_counter()
    for number in range(count):
        wait_s = began_s + number / rate - time.perf_counter()
        if wait_s > 0:
            time.sleep(wait_s)
        sent[number] = time.perf_counter()
        writer.publish(f"load/{number}", text, qos=1)
    sent_s = time.perf_counter() - began_s
    came.wait(max(5.0, 2 * seconds))
    broker_cores = (processor_s(broker.pid) - before_s) / (time.perf_counter() - began_s)
    for client in (reader, writer):
        client.loop_stop()
        client.disconnect()
    p50 = statistics.median(delays) if delays else float("inf")
    p95 = statistics.quantiles(delays, n=20)[-1] if len(delays) > 1 else float("inf")
    row = {"rate": rate, "sent_a_second": round(count / sent_s, 1), "arrived": len(delays), "sent": count}
    return row | {"p50_s": p50, "p95_s": p95, "broker_cores": round(broker_cores, 3)}


def measure(seconds: float) -> dict[str, object]:
    """For each number of subscribers raise the rate until the delay passes the limit."""
    text = payload()
    program = shutil.which("mosquitto_sub")
    rows: list[dict[str, float]] = []
    for readers in READERS:
        with ExitStack() as stack:
            broker = Broker(
                Path(stack.enter_context(tempfile.TemporaryDirectory())) / "broker",
                options=("max_queued_messages 0", "set_tcp_nodelay true"),
                logs="error",
            ).start()
            stack.callback(broker.stop)
            for _ in range(readers - 1 if program else 0):
                command = [str(program), "-p", str(broker.port), "-q", "1", "-t", "load/#"]
                one = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
                stack.callback(one.wait)
                stack.callback(one.terminate)
            time.sleep(1.0)
            for rate in RATES:
                row = {"subscribers": float(readers), **step(broker, rate, seconds, text)}
                rows.append(row)
                sys.stderr.write(json.dumps(row) + "\n")
                if row["p95_s"] > LIMIT_S or row["arrived"] < row["sent"] or row["sent_a_second"] < 0.9 * rate:
                    break
    return {"machine": f"{processor_name()}, {len(os.sched_getaffinity(0))} cores", "bytes": len(text), "rows": rows}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=4.0, help="length of each step")
    sys.stdout.write(json.dumps(measure(parser.parse_args().seconds), indent=1) + "\n")
