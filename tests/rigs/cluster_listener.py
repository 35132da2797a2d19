"""Records what a cluster publishes, and judges it against what a single machine finds in the same media."""

from __future__ import annotations

import itertools
import json
import threading
import time
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from streamav.publish import EventMessage, decode

__all__ = ["Expected", "Listener", "Verdict", "gaps_of", "judge"]

WARM_S = 10
"""An event is owed when the window was full at its onset ..."""
FIRM_S = 4
"""... and its first seconds were looked at."""
DOUBLE_S = 0.5
"""Two events of one label that overlap by more are one event published twice."""


@dataclass(frozen=True)
class Expected:
    """An event that one machine finds in a file, on the file's own axis."""

    label: str
    onset_s: float
    offset_s: float


@dataclass
class Heard:
    """One message."""

    at_s: float
    topic: str
    payload: bytes
    epoch: int | None


class Listener:
    """Subscribes to everything below a base, in a thread of its own."""

    def __init__(self, port: int, base: str) -> None:
        self.heard: list[Heard] = []
        self._base = base
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
        self._ready = threading.Event()
        self._client.on_message = self._take
        self._client.on_connect = lambda client, *_: client.subscribe(f"{base}/#", qos=1)
        self._client.on_subscribe = lambda *_: self._ready.set()
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        self._ready.wait(10)

    def _take(self, client: object, userdata: object, message: mqtt.MQTTMessage) -> None:
        pairs = getattr(message.properties, "UserProperty", [])
        epoch = next((int(value) for name, value in pairs if name == "epoch"), None)
        self.heard.append(Heard(time.monotonic(), message.topic.removeprefix(f"{self._base}/"), bytes(message.payload), epoch))

    def close(self) -> None:
        self._client.loop_stop()
        self._client.disconnect()

    def of(self, source: str, kind: str, since_s: float = 0.0) -> list[Heard]:
        """Return the messages of one topic of a source."""
        return [one for one in list(self.heard) if one.topic == f"{source}/{kind}" and one.at_s >= since_s]

    def wait_for(self, holds: Any, seconds: float, what: str) -> None:  # noqa: ANN401 - a condition
        end = time.monotonic() + seconds
        while not holds():
            if time.monotonic() > end:
                msg = f"{what}: not within {seconds} s"
                raise TimeoutError(msg)
            time.sleep(0.2)

    def scored(self, source: str, key: str = "media_start_s") -> list[tuple[float, float]]:
        """Return the segments that were scored: arrival, and time on the source's axis (or UTC with key "ts")."""
        return [(one.at_s, float(json.loads(one.payload)[key])) for one in self.of(source, "scores")]

    def events(self, source: str) -> dict[str, list[EventMessage]]:
        """Return the messages of each event, in the order of their arrival."""
        found: dict[str, list[EventMessage]] = defaultdict(list)
        for one in self.of(source, "event"):
            message = decode(one.payload)
            found[message.id].append(message)
        return found


@dataclass
class Verdict:
    """How the events of all sources compare."""

    owed: int = 0
    lost: list[str] = field(default_factory=list)
    twice: list[str] = field(default_factory=list)
    """Two events for one, or two opening messages, or two ends of one event."""
    open: list[str] = field(default_factory=list)
    """Events without an end."""


def gaps_of(seconds: list[float]) -> list[tuple[float, float]]:
    """Return the stretches of a source's axis that were not scored, as (begin, end), between the first and last scored segment."""
    ordered = sorted(set(seconds))
    return [(one + 1.0, other) for one, other in itertools.pairwise(ordered) if other - one > 1.5]


def judge(listener: Listener, source: str, expected: list[Expected], verdict: Verdict, *, axis: str = "media_start_s") -> None:
    """Add the judgement of one source. *expected* is on the same axis as *axis*: the file's own, or UTC ("ts")."""
    seconds = [value for _, value in listener.scored(source, axis)]
    if not seconds:
        verdict.lost.append(f"{source}: nothing was scored")
        return
    found = _found(listener, source, verdict, axis)
    _look_for_doubles(source, found, verdict)
    gaps, first, last = gaps_of(seconds), min(seconds), max(seconds)
    for one in expected:
        span = (one.onset_s - WARM_S, one.onset_s + FIRM_S)
        if span[0] < first or one.offset_s + 1 > last or any(begin < span[1] and end > span[0] for begin, end in gaps):
            continue
        verdict.owed += 1
        if not any(label == one.label and begin < one.offset_s + 1 and end > one.onset_s - 1 for label, begin, end, _ in found):
            verdict.lost.append(f"{source} {one.label} {one.onset_s}-{one.offset_s}")


_Found = list[tuple[str, float, float, str]]
"""Label, begin, end, id of each confirmed event."""


def _found(listener: Listener, source: str, verdict: Verdict, axis: str) -> _Found:
    """Return the confirmed events of a source; add those that are open, or whose messages are repeated, to the verdict."""
    found = []
    for event_id, messages in listener.events(source).items():
        newest = max(messages, key=lambda one: one.seq)
        if [one.type for one in messages].count("new") > 1 or len({one.seq for one in messages}) < len(messages):
            verdict.twice.append(f"{source} {event_id}: {[(one.type, one.seq) for one in messages]}")
        if newest.active:
            verdict.open.append(f"{source} {event_id} {newest.label} {newest.media_start_s}")
        begin = newest.media_start_s if axis == "media_start_s" else newest.start_ts
        if any(one.confirmed for one in messages) and newest.end_reason != "retracted":
            found.append((newest.label, begin, begin + newest.duration_s, event_id))
    return found


def _look_for_doubles(source: str, found: _Found, verdict: Verdict) -> None:
    """Add two events of one label at the same time to the verdict."""
    for number, (label, begin, end, event_id) in enumerate(found):
        for other, its_begin, its_end, its_id in found[number + 1 :]:
            if other == label and min(end, its_end) - max(begin, its_begin) > DOUBLE_S:
                verdict.twice.append(f"{source} {label}: {event_id} {begin}-{end} and {its_id} {its_begin}-{its_end}")
