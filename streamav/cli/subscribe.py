"""`streamav subscribe`: prints the events that a broker delivers, and their latencies.

It is a consumer like any other: it uses only the message contract, not the process that publishes.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from random import SystemRandom
from typing import TYPE_CHECKING, Annotated

import typer

from streamav.backoff import Backoff
from streamav.cli.outputs import check_output, write_output
from streamav.cli.place import words_of_place
from streamav.config import SOURCE_ID_PATTERN
from streamav.config_loading import load_settings
from streamav.errors import BrokerError, SettingsError
from streamav.publish.event_filter import EventFilter
from streamav.publish.subscriber import Subscriber
from streamav.publish.topics import Topics
from streamav.publish.url import EXAMPLE_URL, parse_broker_url
from streamav.types import EventPhase

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from rich.console import Console

    from streamav.config import MqttSettings
    from streamav.publish.credentials import Credentials
    from streamav.publish.message import EventMessage

__all__ = ["broker_of", "subscribe"]

LOCAL_HOST = "127.0.0.1"
"""Host of the broker when none is named."""
MOST_OF_CLIENT_ID = 45
"""Length to which a configured client id is cut before our own part is added; the whole then has at most 64 letters."""
MAX_PAUSE_S = 5.0
"""Longest pause between attempts to connect (s): short, because a person waits at the terminal (our choice)."""
_STYLES = {"new": "bold green", "update": "dim", "end": "bold"}


def subscribe(
    url: Annotated[
        str | None,
        typer.Argument(
            help="MQTT broker: mqtt://[user@]host[:port][/base], or mqtts:// for TLS; parts left out come from the settings, else from "
            f"{EXAMPLE_URL}.",
            show_default=False,
        ),
    ] = None,
    raw: Annotated[bool, typer.Option("--json", help="Print the JSON messages unchanged, one per line.")] = False,
    source: Annotated[list[str] | None, typer.Option("--source", help="Only events of this source; repeatable.")] = None,
    label: Annotated[list[str] | None, typer.Option("--label", help="Only events of this label; repeatable.")] = None,
    zone: Annotated[list[str] | None, typer.Option("--zone", help="Only events that touched this zone; repeatable.")] = None,
    state: Annotated[list[EventPhase] | None, typer.Option("--state", help="Only messages of this kind; repeatable.")] = None,
    min_score: Annotated[
        float, typer.Option("--min-score", min=0.0, max=1.0, help="Only events whose highest score so far is at least this.")
    ] = 0.0,
    confirmed: Annotated[bool, typer.Option("--confirmed", help="Only events that are confirmed.")] = False,
    since_start: Annotated[
        bool, typer.Option("--since-start", help="Only events that began after this command; compares the clocks of both machines.")
    ] = False,
    count: Annotated[int | None, typer.Option("--count", min=1, help="Exit after this many messages.")] = None,
    seconds: Annotated[float | None, typer.Option("--for", min=0.1, help="Exit after this many seconds.")] = None,
    summary: Annotated[Path | None, typer.Option("--summary", help="Write events and latencies to this JSON file at the end.")] = None,
    config: Annotated[
        Path | None, typer.Option("--config", help="TOML file, for example the one of streamav run; only its section mqtt is used.")
    ] = None,
    settings: Annotated[list[str] | None, typer.Option("--set", help="mqtt.key=value; overrides everything else; repeatable.")] = None,
) -> None:
    """Print the events that an MQTT broker delivers, one line each.

    A message must pass each kind of filter; of several values of one kind, one is enough. Filters apply to --json and --summary, too.
    The first message that is shown of an event may be an update, for example with --min-score.

    The password comes from STREAMAV_MQTT_PASSWORD or from a file (mqtt.password_file), never from the command line.

    The exit status is 5 when the broker was never reached.
    """
    check_output("--summary", summary)
    mqtt = broker_of(url, config, settings or ())
    printer = _Printer(raw=raw)
    wanted = EventFilter(
        sources=frozenset(source or ()),
        labels=frozenset(label or ()),
        zones=frozenset(zone or ()),
        states=frozenset(state or ()),
        min_score=min_score,
        confirmed=confirmed,
        since_ts=time.time() if since_start else None,
    )
    for one in wanted.sources:
        if re.fullmatch(SOURCE_ID_PATTERN, one) is None:
            msg = f"--source must be the id of a source: 1 to 64 of a-z, A-Z, 0-9, _ and -, got {one!r}"
            raise SettingsError(msg)
    subscriber = Subscriber(show=printer.show, count=count, wanted=wanted)
    began_s = time.monotonic()
    try:
        asyncio.run(_listen(mqtt, subscriber, printer.say, seconds))
    except BrokenPipeError:  # the reader of our output closed it; what Python still holds goes to /dev/null
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if not subscriber.connects:
        reason = subscriber.obstacle or "it did not answer in this time"
        msg = f"the broker {mqtt.host}:{mqtt.port} was never reached, so nothing was heard: {reason}"
        raise BrokerError(msg)
    if subscriber.discarded:
        printer.say(f"{subscriber.discarded} messages came faster than they could be read and were lost here")
    if summary is not None:
        write_output(summary, json.dumps(subscriber.summary(time.monotonic() - began_s), indent=1, allow_nan=False) + "\n")


def broker_of(url: str | None, config: Path | None, overrides: Sequence[str], environment: Mapping[str, str] | None = None) -> MqttSettings:
    """Return the settings of the broker: 127.0.0.1, unless file, environment (None: the process's), URL or *overrides* name another.

    Raises:
        SettingsError: when one of them is wrong.
    """
    options = {} if url is None else {"mqtt": parse_broker_url(url)}
    mqtt = load_settings(config, overrides, environment, options, defaults={"mqtt": {"host": LOCAL_HOST}}).mqtt
    if mqtt is None:
        msg = f"mqtt must be a section that names a broker, got nothing; name one like {EXAMPLE_URL}"
        raise SettingsError(msg)
    return mqtt


async def _listen(settings: MqttSettings, subscriber: Subscriber, say: Callable[[str], None], seconds: float | None) -> None:
    """Receive until the count is reached, the time is over, or Ctrl-C or SIGTERM arrives."""
    from streamav.publish.credentials import Credentials

    random = SystemRandom()
    # Never use the configured id alone: a run may use the same file, and a broker disconnects one of two clients with the same id.
    client_id = f"{(settings.client_id or 'streamav')[:MOST_OF_CLIENT_ID]}-subscribe-{random.getrandbits(32):08x}"
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
    """Connect and receive until the count is reached; connect again when the connection is lost.

    Raises:
        BrokerError: when a new attempt cannot succeed, for example after a wrong password.
    """
    from streamav.publish.client import open_client
    from streamav.publish.failures import ConnectionFailedError

    said: str | None = None
    broker = f"{settings.host}:{settings.port}/{settings.base}"
    while not subscriber.done:
        try:
            async with open_client(settings, credentials, client_id, None) as client:
                topics = Topics(settings.base)
                filters = [topics.event(one) for one in sorted(subscriber.wanted.sources)] or [topics.any_event]
                if not all([await client.subscribe(one) for one in filters]):
                    say("the broker refused the subscription; its access list must allow this user to read the events")
                say(f"listening to {broker}")
                said, before = None, subscriber.discarded
                subscriber.connects += 1
                backoff.reset()
                async for message in client.messages():
                    if client.discarded and not subscriber.discarded:
                        say("messages come faster than they can be read, some are lost here")
                    subscriber.discarded = client.discarded + before
                    if (wrong := subscriber.take(message.payload, time.time())) is not None:
                        say(wrong)
                    if subscriber.done:
                        return
        except ConnectionFailedError as exc:
            if exc.failure.fatal:
                raise BrokerError(exc.failure.reason) from None
            if exc.failure.reason != said:
                say(f"no connection to {broker}: {exc.failure.reason}")
            said = subscriber.obstacle = exc.failure.reason
        await asyncio.sleep(backoff.next_s())


class _Printer:
    """Prints messages to standard output and everything else to standard error."""

    def __init__(self, *, raw: bool) -> None:
        from rich.console import Console

        self._raw = raw
        self._terminal = sys.stdout.isatty()
        self._out: Console = Console(highlight=False, soft_wrap=True)
        self._error: Console = Console(stderr=True, highlight=False, soft_wrap=True)

    def say(self, text: str) -> None:
        """Print a line about the connection."""
        self._error.print(text, style="dim", markup=False)

    def show(self, message: EventMessage, data: bytes, latency_s: float | None) -> None:
        """Print one message as one line."""
        if self._raw:
            sys.stdout.buffer.write((_printable(data) if self._terminal else data.replace(b"\n", b" ")) + b"\n")
            sys.stdout.buffer.flush()
            return
        self._out.print(_line(message, latency_s), style=_STYLES[message.type], markup=False)


def _printable(data: bytes) -> bytes:
    """Return the same JSON in ASCII without control characters, which could command a terminal."""
    text = re.sub(r"[\x00-\x1f]", " ", data.decode())  # JSON has them between its tokens only
    return re.sub(r"[^ -~]", lambda odd: json.dumps(odd[0])[1:-1] if odd[0] != "\x7f" else "\\u007f", text).encode("ascii")


def _line(message: EventMessage, latency_s: float | None) -> str:
    """Return a message as one line: time, source, phase, label, score, duration, place in the picture, and its age at arrival."""
    parts = [
        f"{message.start_time[11:19]}Z",
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
        parts.append(f"{latency_s + message.duration_s:.1f} s after its onset")
    return "  ".join(part for part in parts if part)


def _place(message: EventMessage) -> str:
    """Return the place in words and, if known, its point: x and y from 0 to 1, from the top left corner."""
    words = words_of_place(message.location)
    if message.location is None or message.location.box is None:
        return words
    x, y = message.location.peak
    return f"{words} ({x:.2f}, {y:.2f})"
