"""`streamav subscribe`: shows the events that a broker delivers, and how long they took.

It is a consumer like any other: it knows the contract and nothing of the process that publishes.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import statistics
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import SystemRandom
from typing import TYPE_CHECKING, Annotated

import typer

from streamav.backoff import Backoff
from streamav.config import MqttSettings, load_settings
from streamav.errors import BrokerError, SettingsError
from streamav.publish.consumer import Consumer
from streamav.publish.message import EventMessage, MessageError, decode
from streamav.publish.topics import Topics
from streamav.publish.url import DEFAULT_URL, parse_broker_url

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console

    from streamav.publish.client import Credentials

__all__ = ["subscribe"]

MAX_PAUSE_S = 5.0
"""Longest pause between attempts to connect: a person waits at the terminal (our choice)."""
_STYLES = {"new": "bold green", "update": "dim", "end": "bold"}


def subscribe(
    url: Annotated[str, typer.Argument(help="mqtt://[user@]host[:port][/base], or mqtts:// for TLS.")] = DEFAULT_URL,
    raw: Annotated[bool, typer.Option("--json", help="Print the messages as they are, one a line.")] = False,
    count: Annotated[int | None, typer.Option("--count", min=1, help="End after so many messages.")] = None,
    seconds: Annotated[float | None, typer.Option("--for", min=0.1, help="End after so many seconds.")] = None,
    summary: Annotated[Path | None, typer.Option("--summary", help="At the end write events and latencies to this JSON file.")] = None,
    config: Annotated[Path | None, typer.Option("--config", help="TOML file whose section mqtt holds the password file, TLS, ...")] = None,
    settings: Annotated[list[str] | None, typer.Option("--set", help="mqtt.key=value, over the file.")] = None,
) -> None:
    """Show the events a broker delivers.

    The password comes from STREAMAV_MQTT_PASSWORD or from a file (mqtt.password_file), never from the command line.
    """
    mqtt = load_settings(config, settings or (), base={"mqtt": parse_broker_url(url)}).mqtt
    if mqtt is None:  # not with a base that has the section
        msg = f"subscribe needs a broker, like {DEFAULT_URL}"
        raise SettingsError(msg)
    printer = _Printer(raw=raw)
    subscriber = Subscriber(show=printer.show, count=count)
    began_s = time.monotonic()
    try:
        asyncio.run(_listen(mqtt, subscriber, printer.say, seconds))
    except BrokenPipeError:  # who read our output has enough; what Python still holds for it goes to /dev/null
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if summary is not None:
        summary.write_text(json.dumps(subscriber.summary(time.monotonic() - began_s), indent=1) + "\n", encoding="utf-8")


@dataclass
class Subscriber:
    """What the command has received."""

    show: Callable[[EventMessage, bytes, float | None], None]
    """Called with each message that says something new, its bytes, and its latency in seconds."""
    count: int | None = None
    """End after so many messages."""
    consumer: Consumer = field(default_factory=Consumer)
    shown: int = 0
    invalid: int = 0
    """Messages that break the contract."""
    arrival_s: list[float] = field(default_factory=list)
    """For each message about an event that goes on: end of its newest second to its arrival here, on UTC, seconds."""
    publisher_s: list[float] = field(default_factory=list)
    """The same as the publisher says it, up to the hand-over to its client."""

    @property
    def done(self) -> bool:
        """True when no more is wanted."""
        return self.count is not None and self.shown >= self.count

    def take(self, data: bytes, now_s: float) -> str | None:
        """Take one message that arrived at *now_s* (seconds since 1970); give what is wrong with it, or None."""
        try:
            message = decode(data)
        except MessageError as exc:
            self.invalid += 1
            return str(exc)
        if not self.consumer.take(message):
            return None
        latency_s = None
        if message.active:  # an end comes later than its last second by the pause that ended it
            latency_s = now_s - (message.start_ts + message.duration_s)
            self.arrival_s.append(latency_s)
            self.publisher_s.append(message.latency_s)
        self.shown += 1
        self.show(message, data, latency_s)
        return None

    def summary(self, seconds: float) -> dict[str, object]:
        """Give what was seen as JSON values."""
        return {
            "seconds": round(seconds, 3),
            "messages": self.shown,
            "duplicates": self.consumer.dropped,
            "invalid": self.invalid,
            "arrival_latency_s": _quantiles(self.arrival_s),
            "publisher_latency_s": _quantiles(self.publisher_s),
            "events": [_outline(message) for message in self.consumer.events],
        }


def _outline(message: EventMessage) -> dict[str, object]:
    """Give of the last message of an event what a comparison with the truth needs."""
    keys = {"id", "seq", "source", "label", "start_time", "end_time", "start_ts", "end_ts", "media_start_s", "media_end_s"}
    return message.model_dump(include=keys | {"duration_s", "top_score", "confirmed", "end_reason", "location"})


def _quantiles(values: list[float]) -> dict[str, float | int | None]:
    """Give count, median, 95th percentile (inclusive) and maximum of latencies in seconds."""
    if not values:
        return {"count": 0, "p50": None, "p95": None, "max": None}
    p95 = statistics.quantiles(values, n=20, method="inclusive")[-1] if len(values) > 1 else values[0]
    return {"count": len(values), "p50": round(statistics.median(values), 4), "p95": round(p95, 4), "max": round(max(values), 4)}


async def _listen(settings: MqttSettings, subscriber: Subscriber, say: Callable[[str], None], seconds: float | None) -> None:
    """Receive until enough, the time is over, or the user ends it with Ctrl-C or SIGTERM."""
    from streamav.publish.client import Credentials

    random = SystemRandom()
    client_id = settings.client_id or f"streamav-subscribe-{random.getrandbits(32):08x}"
    backoff = Backoff(settings.backoff.min_s, min(settings.backoff.max_s, MAX_PAUSE_S), random)
    work = asyncio.create_task(_receive_for_ever(settings, Credentials(settings), client_id, subscriber, say, backoff))
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    stop = asyncio.create_task(stopped.wait())
    await asyncio.wait([work, stop], timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    stop.cancel()
    if not work.done():
        work.cancel()
    with suppress(asyncio.CancelledError):
        await work


async def _receive_for_ever(
    settings: MqttSettings,
    credentials: Credentials,
    client_id: str,
    subscriber: Subscriber,
    say: Callable[[str], None],
    backoff: Backoff,
) -> None:
    """Connect, receive until enough, and connect again when the connection is lost.

    Raises:
        BrokerError: when the broker refuses for good.
    """
    from streamav.publish.client import ConnectionFailedError, open_client

    said: str | None = None
    broker = f"{settings.host}:{settings.port}/{settings.base}"
    while not subscriber.done:
        try:
            async with open_client(settings, credentials, client_id, None) as client:
                if not await client.subscribe(Topics(settings.base).any_event):
                    say("the broker refuses the subscription: its access list must let us read the events")
                say(f"listening to {broker}")
                said = None
                backoff.reset()
                async for _, data in client.messages():
                    if (wrong := subscriber.take(data, time.time())) is not None:
                        say(wrong)
                    if subscriber.done:
                        return
        except ConnectionFailedError as exc:
            if exc.failure.fatal:
                raise BrokerError(exc.failure.reason) from None
            if exc.failure.reason != said:
                say(f"no connection to {broker}: {exc.failure.reason}")
            said = exc.failure.reason
        await asyncio.sleep(backoff.next_s())


class _Printer:
    """Messages to standard output, everything else to standard error."""

    def __init__(self, *, raw: bool) -> None:
        from rich.console import Console

        self._raw = raw
        self._out: Console = Console(highlight=False, soft_wrap=True)
        self._error: Console = Console(stderr=True, highlight=False, soft_wrap=True)

    def say(self, text: str) -> None:
        """Say something about the connection."""
        self._error.print(text, style="dim", markup=False)

    def show(self, message: EventMessage, data: bytes, latency_s: float | None) -> None:
        """Print one message as one line."""
        if self._raw:
            sys.stdout.buffer.write(data.replace(b"\n", b" ") + b"\n")
            sys.stdout.buffer.flush()
            return
        self._out.print(_line(message, latency_s), style=_STYLES[message.type], markup=False)


def _line(message: EventMessage, latency_s: float | None) -> str:
    """Say a message in words: when, where, what, how sure, how long, which place in the picture."""
    parts = [
        message.start_time[11:23],
        f"{message.source:<10}",
        f"{message.type:<6}",
        f"{message.label:<14}",
        f"score {message.score:.2f}",
        f"{message.duration_s:>5.1f} s",
        "confirmed  " if message.confirmed else "provisional",
        _place(message),
    ]
    if message.end_reason is not None:
        parts.append(message.end_reason)
    if latency_s is not None:
        parts.append(f"after {latency_s * 1000:.0f} ms")
    return "  ".join(part for part in parts if part)


def _place(message: EventMessage) -> str:
    """Say the place in words, in thirds of the picture."""
    if message.location is None:
        return ""
    x, y = message.location.peak
    column = ("left", "middle", "right")[min(2, int(x * 3))]
    row = ("top", "centre", "bottom")[min(2, int(y * 3))]
    return f"{row} {column} ({x:.2f}, {y:.2f})"
