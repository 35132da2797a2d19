"""Measures what faults of broker, network, disk and process cost: `make faults`, or `python -m tests.bench.faults --short`.

A process publishes events of four sources through the real sink to a real Mosquitto, while the broker is killed, frozen, slow or away, the
network is cut, the disk is full, or the process itself is killed. A subscriber with a persistent session records what arrives. The truth
is what the process had on disk.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import signal
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import aiomqtt
from rigs.mosquitto import Broker
from rigs.published_events import MODEL, make_event, ulid
from rigs.wire import Wire

from streamav.config import MqttSettings, OutboxSettings
from streamav.publish.message import decode
from streamav.publish.mqtt import MqttIdentity, MqttSink
from streamav.types import EventPhase

ROOT = Path(__file__).parents[2]
SOURCES = ("s0", "s1", "s2", "s3")
TICK_S = 0.1
"""Every tick each source sends one message: 40 messages a second."""
UPDATES = 2
MOST_ENDINGS = 30
"""Most idle processes that deliver what is left; more means that it is never delivered."""


@dataclass
class Heard:
    """What the subscriber received."""

    messages: list[tuple[float, str, int, str]] = field(default_factory=list)
    """Time, id, seq, type."""
    statuses: list[bytes] = field(default_factory=list)


@dataclass
class Row:
    """One line of the table."""

    fault: str
    events: int = 0
    lost: int = 0
    open: int = 0
    disorder: int = 0
    duplicates: int = 0
    dropped: int = 0
    recovery_s: list[float] = field(default_factory=list)
    exits: list[int] = field(default_factory=list)
    wrong: int = 0

    def text(self) -> str:
        """Return the line as Markdown."""
        times = sorted(self.recovery_s)
        p50 = f"{statistics.median(times):.1f}" if times else "-"
        p95 = f"{times[min(len(times) - 1, int(0.95 * len(times)))]:.1f}" if times else "-"
        cells = (self.fault, self.events, self.lost, self.open, self.disorder, self.duplicates, self.dropped, self.wrong, p50, p95)
        return "| " + " | ".join(map(str, (*cells, " ".join(map(str, self.exits))))) + " |"


def fill_disk() -> None:
    """Let no file grow, as on a full disk; SQLite gets an error at each write."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (1, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


def free_disk() -> None:
    """Let files grow again."""
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))


async def publish(port: int, state: Path, first: int, most: int) -> int:
    """Publish events until SIGTERM; return 0 when everything was delivered, else 5. Each message on disk is a line of standard output."""
    settings = MqttSettings(host="127.0.0.1", port=port, outbox=OutboxSettings(messages=most))
    sink = MqttSink(settings, MqttIdentity(model=lambda: MODEL, sources={source: ["bark"] for source in SOURCES}), state)
    stopped = asyncio.Event()
    for signum, call in ((signal.SIGTERM, stopped.set), (signal.SIGUSR1, fill_disk), (signal.SIGUSR2, free_disk)):
        asyncio.get_running_loop().add_signal_handler(signum, call)
    await sink.start()
    print("ready", flush=True)
    phases = [EventPhase.NEW, *[EventPhase.UPDATE] * UPDATES, EventPhase.END]
    number = first
    while first >= 0 and not stopped.is_set():
        for place, phase in enumerate(phases):
            for offset, source in enumerate(SOURCES):
                sink.event(make_event(number + offset, place + 1, phase, source=source, seconds=place + 1), 0.1)
            await sink._pending.store.settle()
            print(*(ulid(number + offset) for offset in range(len(SOURCES))), flush=True)
            await asyncio.sleep(TICK_S)
        number += len(SOURCES)
    if first < 0:
        await stopped.wait()
    await sink.close()
    print("dropped", sink.counters.dropped, flush=True)
    return 0 if sink.shortfall is None else 5


class Trial:
    """A broker, a subscriber, and the process that publishes."""

    def __init__(self, folder: Path, fault: str, most: int = 10_000, *, wired: bool = False) -> None:
        self.broker = Broker(folder / "broker", persistent=True)
        self.row = Row(fault)
        self.heard = Heard()
        self.folder, self._most, self._first = folder, most, 0
        self.wire = Wire(self.broker.port)
        self._port = self.wire.port if wired else self.broker.port
        self.stored: set[str] = set()
        self._process: asyncio.subprocess.Process | None = None
        self._readers: list[asyncio.Task[None]] = []
        self._ready = asyncio.Event()

    async def begin(self, *, idle: bool = False) -> None:
        """Start the process; *idle*: it publishes no new events."""
        self._first += 100_000
        self._ready = asyncio.Event()
        first = -1 if idle else self._first
        arguments = ("--publish", str(self._port), str(self.folder), str(first), str(self._most))
        command = (sys.executable, "-m", "tests.bench.faults", *arguments)
        paths = os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}
        self._process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, cwd=ROOT, env=paths)
        self._readers.append(asyncio.create_task(self._read(self._process, self._ready)))

    async def _read(self, process: asyncio.subprocess.Process, ready: asyncio.Event) -> None:
        """Take what a process says it has on disk, and that it has begun."""
        while process.stdout is not None and (line := await process.stdout.readline()):
            words = line.decode("ascii").split()
            if words[0] == "ready":
                ready.set()
            elif words[0] == "dropped":
                self.row.dropped += int(words[1])
            else:
                self.stored |= set(words)

    def tell(self, number: signal.Signals) -> None:
        """Send a signal to the process."""
        if self._process is not None:
            self._process.send_signal(number)

    async def end(self, number: signal.Signals) -> None:
        """End the process by a signal and note its exit status."""
        if self._process is not None:
            if number != signal.SIGKILL:  # a message that the broker kept may come before the process takes signals
                await asyncio.wait_for(self._ready.wait(), 90)
            self._process.send_signal(number)
            self.row.exits.append(await self._process.wait())

    async def listen(self) -> None:
        """Record what arrives, and connect again at once whenever the broker was away."""
        while True:
            with suppress(aiomqtt.MqttError):
                async with aiomqtt.Client("127.0.0.1", self.broker.port, identifier="faults", clean_session=False, timeout=2) as client:
                    await client.subscribe([("streamav/+/event", 1), ("streamav/status", 1)])
                    async for message in client.messages:
                        if str(message.topic) == "streamav/status":
                            self.heard.statuses.append(bytes(message.payload))
                        else:
                            one = decode(bytes(message.payload))
                            self.heard.messages.append((time.monotonic(), one.id, one.seq, one.type))
            await asyncio.sleep(0.02)

    async def recovered(self) -> None:
        """Wait for the next message and note how long it took."""
        count, began_s = len(self.heard.messages), time.monotonic()
        while len(self.heard.messages) == count and time.monotonic() - began_s < 90:  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.02)
        self.row.recovery_s.append(time.monotonic() - began_s)

    async def online(self) -> None:
        """Wait until the process has connected."""
        began_s = time.monotonic()
        while b"online" not in self.heard.statuses and time.monotonic() - began_s < 90:  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.02)

    async def judge(self) -> None:
        """Compare what arrived with the truth, and what the broker keeps with what a stopped service leaves."""
        await asyncio.gather(*self._readers)
        by_id: dict[str, list[tuple[int, str]]] = defaultdict(list)
        for _, event_id, seq, kind in self.heard.messages:
            by_id[event_id].append((seq, kind))
        self.row.events = len(self.stored)
        self.row.lost = len(self.stored - by_id.keys())
        for told in by_id.values():
            new = list(dict.fromkeys(told))
            self.row.duplicates += len(told) - len(new)
            self.row.disorder += [seq for seq, _ in new] != sorted(seq for seq, _ in new)
            self.row.open += [kind for _, kind in new].count("end") != 1
        kept = await self._kept()
        wanted = {"streamav/status": b"offline"}
        for source in SOURCES:
            wanted |= {f"streamav/{source}/availability": b"offline", f"streamav/{source}/class/bark/state": b"OFF"}
        self.row.wrong = sum(kept.get(topic) != value for topic, value in wanted.items())

    async def _kept(self) -> dict[str, bytes]:
        """Return what the broker keeps."""
        kept: dict[str, bytes] = {}
        async with aiomqtt.Client("127.0.0.1", self.broker.port) as client:
            await client.subscribe("streamav/#", 1)
            with suppress(TimeoutError):
                async with asyncio.timeout(1):
                    async for message in client.messages:
                        kept[str(message.topic)] = bytes(message.payload)
        return kept


async def trial(fault: str, work: Callable[[Trial], Awaitable[None]], most: int = 10_000, *, wired: bool = False) -> Row:
    """Run one fault; at the end idle processes deliver what is left, until one of them ends with nothing left."""
    with tempfile.TemporaryDirectory() as folder:
        one = Trial(Path(folder), fault, most, wired=wired)
        await one.wire.open()
        listener = asyncio.create_task(one.listen())
        try:
            await work(one)
            await one.end(signal.SIGTERM)
            for _ in range(MOST_ENDINGS):
                one.heard.statuses.clear()
                await one.begin(idle=True)
                await one.online()
                await asyncio.sleep(5)
                await one.end(signal.SIGTERM)
                if one.row.exits[-1] == 0:
                    break
            await asyncio.sleep(1)
            await one.judge()
        finally:
            listener.cancel()
            await asyncio.wait([listener])
            await one.wire.close()
            one.broker.stop()
        return one.row


async def started(one: Trial) -> None:
    """Start broker and process and wait for the first message; this is not a recovery."""
    one.broker.start()
    await one.begin()
    await one.recovered()
    one.row.recovery_s.clear()


async def broker_killed(one: Trial, times: int) -> None:
    """Kill the broker again and again under load."""
    await started(one)
    for _ in range(times):
        await asyncio.sleep(2)
        one.broker.kill()
        await asyncio.sleep(1)
        one.broker.start()
        await one.recovered()
    await asyncio.sleep(3)


async def broker_frozen(one: Trial, seconds: float) -> None:
    """Freeze the broker: its connections stay open, but nothing is answered."""
    await started(one)
    one.broker.freeze()
    await asyncio.sleep(seconds)
    one.broker.thaw()
    await one.recovered()
    await asyncio.sleep(5)


async def broker_absent(one: Trial, seconds: float) -> None:
    """Start the process first, the broker later."""
    await one.begin()
    while not one.stored:  # noqa: ASYNC110 - another process, which takes its time to load
        await asyncio.sleep(0.1)
    await asyncio.sleep(seconds)
    one.broker.start()
    await one.recovered()
    await asyncio.sleep(5)


async def network_cut(one: Trial, seconds: float) -> None:
    """Keep back every byte between process and broker; no connection is closed."""
    await started(one)
    one.wire.cut()
    await asyncio.sleep(seconds)
    one.wire.mend()
    await one.recovered()
    await asyncio.sleep(5)


async def broker_slow(one: Trial, seconds: float) -> None:
    """Let 400 bytes pass in 0.1 s in each direction: less than the events need, so they wait."""
    await started(one)
    one.wire.slow(0.1, 400)
    await asyncio.sleep(seconds)
    one.wire.slow(0.0, 65_536)
    await one.recovered()
    await asyncio.sleep(5)


async def disk_full(one: Trial, seconds: float) -> None:
    """Let no file of the process grow, and kill the broker meanwhile, so that messages wait in memory."""
    await started(one)
    one.tell(signal.SIGUSR1)
    await asyncio.sleep(seconds / 2)
    one.broker.kill()
    await asyncio.sleep(seconds / 2)
    one.broker.start()
    await one.recovered()
    one.tell(signal.SIGUSR2)
    await asyncio.sleep(12)  # the store tries again after 10 s


async def process_killed(one: Trial, times: int) -> None:
    """Kill the process with -9, every second time while the broker is away."""
    await started(one)
    for number in range(times):
        await asyncio.sleep(3)
        if number % 2:
            one.broker.kill()
            await asyncio.sleep(1)
        await one.end(signal.SIGKILL)
        if number % 2:
            one.broker.start()
        await one.begin()
        await one.recovered()
    await asyncio.sleep(3)


@dataclass(frozen=True)
class Scale:
    """How much of each fault."""

    kills: int
    frozen_s: float
    absent_s: float
    deaths: int


FULL, SHORT = Scale(50, 30.0, 60.0, 20), Scale(5, 8.0, 10.0, 4)

Work = Callable[[Trial], Awaitable[None]]
WIRED = ("network cut", "broker slow")
"""Faults of the network: only they need a wire, which costs time at every message."""


def faults(scale: Scale) -> list[tuple[str, Work, int]]:
    """Return every fault: its name, what is done, and the bound of the outbox in messages."""
    return [
        (f"broker killed {scale.kills} times under load", lambda one: broker_killed(one, scale.kills), 10_000),
        (f"broker frozen {scale.frozen_s:.0f} s", lambda one: broker_frozen(one, scale.frozen_s), 10_000),
        (f"broker absent {scale.absent_s:.0f} s at start", lambda one: broker_absent(one, scale.absent_s), 10_000),
        (f"network cut {scale.frozen_s:.0f} s", lambda one: network_cut(one, scale.frozen_s), 10_000),
        (f"broker slow {scale.frozen_s:.0f} s (4 kB/s)", lambda one: broker_slow(one, scale.frozen_s), 10_000),
        (f"disk full {scale.frozen_s:.0f} s, broker killed meanwhile", lambda one: disk_full(one, scale.frozen_s), 10_000),
        (f"outbox of 40 messages, broker absent {scale.absent_s:.0f} s", lambda one: broker_absent(one, scale.absent_s), 40),
        (f"process killed -9 {scale.deaths} times, half of them without a broker", lambda one: process_killed(one, scale.deaths), 10_000),
    ]


def complaint(row: Row) -> str | None:
    """Return what a row breaks of the promise; None for nothing."""
    if row.open or row.disorder or row.wrong or (row.lost and not row.dropped):
        return f"{row.fault}: events were lost, left open or out of order, or retained states are wrong: {json.dumps(vars(row))}"
    return None


async def main(scale: Scale, only: str) -> int:
    """Run the faults whose name holds a text, print the table, and return the exit status."""
    heads = (
        "fault",
        "events",
        "lost",
        "not ended once",
        "out of order",
        "duplicates",
        "dropped",
        "wrong states",
        "p50, s",
        "p95, s",
        "exits",
    )
    print("| " + " | ".join(heads) + " |")
    print("|" + "---|" * len(heads), flush=True)
    complaints = []
    for fault, work, most in faults(scale):
        if only not in fault:
            continue
        row = await trial(fault, work, most, wired=fault.startswith(WIRED))
        print(row.text(), flush=True)
        complaints += [text for text in [complaint(row)] if text is not None]
    for text in complaints:
        print(text, file=sys.stderr)
    return 1 if complaints else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--short", action="store_true", help="a few faults of each kind, some minutes")
    parser.add_argument("--only", default="", help="only faults whose name holds this text")
    parser.add_argument("--publish", nargs=4, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.publish:
        port, folder, first, most = given.publish
        sys.exit(asyncio.run(publish(int(port), Path(folder, "state"), int(first), int(most))))
    sys.exit(asyncio.run(main(SHORT if given.short else FULL, given.only)))
