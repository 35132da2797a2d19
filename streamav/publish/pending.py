"""Holds what is to be published to one broker: the sink puts it in, the session of the open connection takes it out.

It lasts longer than one connection. Only the thread of the event loop uses it, so it has no locks. It opens and sends nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from streamav.publish.message import fitted
from streamav.publish.store import Saved, Store

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from streamav.publish.ledger import Ledger
    from streamav.publish.message import EventMessage
    from streamav.publish.outbox import Outbox, Parcel
    from streamav.publish.retained import Retained

__all__ = ["Answer", "MqttCounters", "Pending"]

MOST_ANSWERS = 100
"""Most answers to commands that wait; the oldest are dropped (our choice)."""
MOST_FLEETING = 1000
"""Most values of QoS 0 that wait (our choice: 15 s of the scores of 64 sources)."""
CLOSED_SHORTEN, CLOSED_SET_ASIDE = 3, 6
"""After the broker closed the connection this often on one message, the message is shortened; then set aside (our choice)."""
LEAST_SUSPECT_BYTES = 512
"""A smaller retained value is no reason to close a connection: the broker ends for another one (our choice)."""
UNSURE_S, MOST_UNSURE = 1.0, 100
"""A broker that is killed may lose ends of events that it acknowledged up to `UNSURE_S` seconds before its last answer. At most
`MOST_UNSURE` of them are sent again (our choice; the longest time measured with Mosquitto 2.0 is 0.12 s)."""
REPORT_DROPS_S = 60.0
"""Shortest time between two log lines about lost messages, seconds (contract, section 9)."""

_CLOSES = "the broker closes the connection at this message: raise its limit of message size, or read its log"

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to a command."""

    topic: str
    payload: bytes
    correlation: bytes | None = None
    """Correlation data of the command (MQTT 5)."""


@dataclass(slots=True)
class MqttCounters:
    """What the sink has done since it was built."""

    connected: bool = False
    connects: int = 0
    """Connections that the broker accepted."""
    attempts: int = 0
    published: int = 0
    """Messages about events that the broker has acknowledged."""
    failed: int = 0
    """Publishes of messages about events that ended in an error and were tried again."""
    queue_depth: int = 0
    dropped: int = 0
    """Messages about events that the full outbox dropped."""
    merged: int = 0
    """Updates that the full outbox removed because a later message holds the same."""
    refused: int = 0
    """Messages about events that the broker did not accept; they are set aside."""
    shortened: int = 0
    """Messages about events that were sent with fewer segments because of the broker's limit."""
    restated: int = 0
    """How often all retained values were sent again, because a command asked for it or another client declared the service offline."""
    greeted: int = 0
    """Retained values that the last greeting sent, besides the status."""
    probe_failures: int = 0
    """Connects after which the broker did not deliver our own probe."""
    proven: bool = False
    """True once the broker has delivered our own probe: what we publish arrives."""
    unproven: bool = False
    """True once a probe did not come back from a broker that acknowledges also what it denies (MQTT 3.1.1)."""


@dataclass(slots=True)
class Pending:
    """Messages about events in order, the newest of every other value, and whether the sink is closing."""

    broker: str
    """Name of the broker in the log."""
    ledger: Ledger
    outbox: Outbox
    monotonic: Callable[[], float]
    """Monotonic clock, seconds."""
    counters: MqttCounters = field(default_factory=MqttCounters)
    changed: dict[str, Retained] = field(default_factory=dict)
    """Topic -> retained value that the broker does not have yet; cleared at each connect, because the greeting sends all of them."""
    largest: int | None = None
    """Largest payload that is still sent, bytes: less than the smallest that the broker has refused; None when it refused none."""
    begun: bool = False
    """True on a connection whose greeting was read from the ledger: what changes from then on must be put here."""
    careful_until: int = 0
    """Messages about events up to this number are sent one by one; 0 for none."""
    on_way: dict[str, bytes] = field(default_factory=dict)
    """Topic -> retained value that is being sent, in their order; what the broker did not answer stays until `note_closed`."""
    one_by_one: bool = False
    """True after the broker closed the connection at one of several retained values: they are sent one by one until a greeting passes."""
    retired: set[str] = field(default_factory=set)
    """Ids of events of earlier runs that this start, or an earlier one, has ended with `restart`."""
    kept: dict[str, str] = field(default_factory=dict)
    """Topics at which the broker may hold a retained value of ours, also of earlier runs, with the notes of these values."""
    fleeting: deque[tuple[str, bytes]] = field(default_factory=lambda: deque(maxlen=MOST_FLEETING))
    """Topics and values of QoS 0, oldest first; discarded without a connection, the oldest also when the connection is slow."""
    snapshots: dict[str, bytes] = field(default_factory=dict)
    """Topic -> newest JPEG that was not sent yet; discarded without a connection."""
    answers: deque[Answer] = field(default_factory=lambda: deque(maxlen=MOST_ANSWERS))
    """Answers to commands, oldest first."""
    word: bytes = b""
    """What this run last wrote at `Topics.kept`; empty: nothing."""
    _acked: dict[str, bytes] = field(default_factory=dict)
    """Topic -> retained value that the broker has acknowledged last."""
    _settled: dict[str, bytes] = field(default_factory=dict)
    """Topic -> value that was acknowledged before `word`, and not replaced since."""
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when there is something to do."""
    closing: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the session must end as soon as nothing waits."""
    said_farewell: bool = False
    """True after the session has published that the service is offline."""
    store: Store = field(init=False)
    """What a later start must know, on disk."""
    _open: dict[str, EventMessage] = field(default_factory=dict)
    _accepted: deque[tuple[float, Parcel]] = field(default_factory=lambda: deque(maxlen=MOST_UNSURE))
    """Newest ends of events that the broker of this connection acknowledged, each with the time of its acknowledgement (monotonic, s)."""
    _unsure: dict[Parcel, None] = field(default_factory=dict)
    """Ends of events that a broker acknowledged shortly before the connection was lost, and that were not acknowledged again since."""
    _closed: tuple[str, int] = ("", 0)
    _barred: dict[str, int] = field(default_factory=dict)
    _refused_by_answer: bool = False
    _said: set[str] = field(default_factory=set)
    _told_info: bytes = b""
    _told_drops: tuple[int, float] = (0, float("-inf"))

    def __post_init__(self) -> None:
        """Begin without a file."""
        self.store = Store(None, self._snapshot)

    def load(self, path: Path | None) -> Saved:
        """Open the file of an earlier run and return its content; None keeps everything in memory only. Blocks."""
        self.store = Store(path, self._snapshot)
        return self.store.load()

    def restore(self, saved: Saved) -> None:
        """Take over what an earlier run left; its messages go before all others."""
        already = len(self.outbox)
        self.retired |= saved.retired
        self.kept |= saved.retained
        self.outbox.announce(message.id for message in saved.open_events)
        self.outbox.restore(saved.parcels)
        for parcel in list(self.outbox)[len(self.outbox) - already :]:
            self._keep(parcel)
        self.count()

    def retire(self, event_id: str) -> None:
        """Note that no later event may use the id."""
        self.retired.add(event_id)
        self.store.retire(event_id)

    def put(self, parcels: Sequence[Parcel], values: Sequence[Retained]) -> None:
        """Queue messages about events, and store retained values that changed."""
        for parcel in parcels:
            mine, removed = self.outbox.put(parcel)
            self.store.remove(removed)
            if mine is not None:
                self._keep(mine)
            for event_id in {one.event_id for one in removed} & self._open.keys():
                if self.outbox.is_gone(event_id):
                    del self._open[event_id]
                    self.store.forget_event(event_id)
        for value in values:
            self.changed.pop(value.topic, None)
            self.changed[f"{value.topic} first" if value.first else value.topic] = value
        self.count()
        self.wake.set()

    def clear(self, values: Sequence[Retained]) -> None:
        """Publish the last values of topics that are no longer ours; drop what waits for them. A later connect clears them, too."""
        for value in values:
            if not value.payload:
                self.changed.pop(f"{value.topic} first", None)
                self.snapshots.pop(value.topic, None)
                if value.topic not in self.kept:
                    self.kept[value.topic] = ""
                    self.store.retain(value.topic, "")
        self.put([], values)

    def note_event(self, message: EventMessage) -> None:
        """Note the last message of an event, so that a later start can end it."""
        if message.active:
            self._open[message.id] = message
        else:
            self._open.pop(message.id, None)
        self.store.note_event(message)

    def unsure(self) -> list[Parcel]:
        """Return the ends of events that the broker acknowledged just before the last connection was lost, oldest first.

        A broker acknowledges a message before it has passed it on or saved it, so one that is killed loses some. An end holds all of its
        event, so no event is lost or stays open, and no `new` comes a second time. Events that are open are told again anyway.
        """
        since_s = self._accepted[-1][0] - UNSURE_S if self._accepted else 0.0
        self._unsure.update(dict.fromkeys(parcel for when_s, parcel in self._accepted if when_s >= since_s))
        self._accepted.clear()
        return sorted(self._unsure, key=lambda parcel: parcel.number)

    def done(self, parcel: Parcel, *, accepted: bool = True) -> None:
        """Forget a message that the broker has acknowledged or refused."""
        self._unsure.pop(parcel, None)
        if accepted and parcel.is_end:
            self._accepted.append((self.monotonic(), parcel))
        self.outbox.acknowledge(parcel)
        self.store.remove([parcel])
        self.count()

    def put_fleeting(self, topic: str, payload: bytes) -> None:
        """Queue a value of QoS 0; without a connection it is discarded."""
        if self.counters.connected:
            self.fleeting.append((topic, payload))
            self.wake.set()

    def put_snapshot(self, topic: str, picture: bytes) -> None:
        """Let a picture be sent at QoS 0; it replaces an earlier one that waits. Without a connection it is discarded."""
        if self.counters.connected:
            self.snapshots[topic] = picture
            self.wake.set()

    def answer(self, answer: Answer) -> None:
        """Queue an answer to a command."""
        self.answers.append(answer)
        self.wake.set()

    def begin(self, *, remembered: bool = False) -> Sequence[Retained]:
        """Start on a new connection: return the retained values to send, except the status, in the order in which they are sent.

        Values of topics that are no longer ours, such as those of a source that was renamed, are cleared.

        Args:
            remembered: True when the broker still has the word of this run (`Topics.kept`), and with it all settled values: only what
                differs is sent. A broker that lost its memory, or went back to an older one, has another word or none.
        """
        if self._refused_by_answer:  # the broker may have another limit by now, and says again if not
            self.largest, self._refused_by_answer = None, False
        settled, self._settled, self.word, self.begun = self._settled, {}, b"", True
        if not remembered:
            self._acked.clear()
            settled = {}
        return [one for one in self._everything() if settled.get(one.topic) != one.payload]

    def settle(self, word: bytes) -> None:
        """Note that the broker has the word, and all values that it acknowledged before."""
        self.word, self._settled = word, dict(self._acked)

    def _everything(self) -> list[Retained]:
        self.changed.clear()
        self.fleeting.clear()
        self.snapshots.clear()
        info = self.ledger.retained.info()
        self._told_info = info.payload
        stale = sorted(self.kept.keys() - self.ledger.retained.topics())
        return [
            info,
            *self.ledger.retained.announced(self.kept),
            *self.ledger.retained.values(),
            *(self.ledger.retained.cleared(topic) for topic in stale),
        ]

    def differs(self, value: Retained) -> bool:
        """Return whether the broker does not have exactly this value."""
        return self._acked.get(value.topic) != value.payload

    def note_retained(self, value: Retained) -> None:
        """Note that the broker has a retained value of ours, or no longer has it when its payload is empty."""
        if self._settled.get(value.topic) != value.payload:
            self._settled.pop(value.topic, None)
        self._acked[value.topic] = value.payload
        if value.payload and self.kept.get(value.topic) != value.note:
            self.kept[value.topic] = value.note
            self.store.retain(value.topic, value.note)
        elif not value.payload:
            self.kept.pop(value.topic, None)
            self.store.release(value.topic)

    def follow_info(self) -> None:
        """Publish the info value when it has changed (contract, section 3.1); called with each event and with telemetry."""
        info = self.ledger.retained.info()
        if info.payload != self._told_info:
            self._told_info = info.payload
            self.put([], [info])

    def note_closed(self, *, too_large: bool = False) -> None:
        """Note that the broker closed the connection, perhaps because of a message that was on its way.

        MQTT 3.1.1 brokers do not say why. What was on its way is sent one by one from now on, so that it is known which message it was. A
        message that costs the connection again and again is shortened, then set aside, so that it does not block the later ones.

        Args:
            too_large: the broker said that a message was too large; it need not happen again to be believed.
        """
        suspects = self.outbox.on_their_way
        if not suspects:
            self._note_closed_at_value(too_large=too_large)
            return
        self.careful_until = max(self.careful_until, suspects[-1].number)
        parcel = suspects[0]
        shorten, aside = self._closings(len(suspects), too_large=too_large)
        times = self._times(str(parcel.number))
        if times == shorten:
            self.refuse_size(len(fitted(parcel.payload, 0)) + 1)
        elif times >= aside:
            self.set_aside(parcel, _CLOSES)
            self.done(parcel, accepted=False)

    def _note_closed_at_value(self, *, too_large: bool) -> None:
        """Note that the broker closed the connection while retained values, or nothing, were on their way."""
        if len(self.on_way) != 1:
            self.one_by_one = self.one_by_one or bool(self.on_way)
            return
        ((topic, payload),) = self.on_way.items()
        if len(payload) < LEAST_SUSPECT_BYTES:
            return
        shorten, aside = self._closings(1, too_large=too_large)
        times = self._times(topic)
        if times == shorten:
            self.refuse_size(len(fitted(payload, 0)) + 1)
        elif times >= aside:
            self._barred[topic] = len(payload)
            self.tell_once(f"a retained value was set aside topic={topic} bytes={len(payload)}: {_CLOSES}", f"retained {_CLOSES}")
        self.one_by_one = True

    def _times(self, suspect: str) -> int:
        """Count and return how often in a row the broker closed the connection at one message."""
        before, times = self._closed
        self._closed = suspect, times + 1 if before == suspect else 1
        return self._closed[1]

    @staticmethod
    def _closings(suspects: int, *, too_large: bool) -> tuple[int, int]:
        """Return after how many closings a message is shortened, and set aside; the broker's word counts once it is known which it was."""
        return (1, 2) if too_large and suspects == 1 else (CLOSED_SHORTEN, CLOSED_SET_ASIDE)

    def barred(self, topic: str, payload: bytes) -> bool:
        """Return whether a retained value is as large as one at the same topic at which the broker closed the connection."""
        return len(payload) >= self._barred.get(topic, len(payload) + 1)

    def be_careful(self) -> None:
        """Send all that waits one by one: the broker had no room for a message, and a later one must not overtake it."""
        self.careful_until = max((parcel.number for parcel in self.outbox), default=0)

    def refuse_size(self, size: int, *, answered: bool = False) -> None:
        """Note that the broker does not accept a payload of *size* bytes; *answered*: it says so, so it may be asked again."""
        self.largest = size - 1 if self.largest is None else min(self.largest, size - 1)
        self._refused_by_answer = answered

    def set_aside(self, parcel: Parcel, reason: str) -> None:
        """Count a message that the broker does not accept, and say the reason once."""
        self.counters.refused += 1
        self.tell_once(f"a message was set aside topic={parcel.topic} bytes={len(parcel.payload)}: {reason}", reason)

    def tell_once(self, text: str, key: str = "") -> None:
        """Log a warning, unless one with the same key was logged before."""
        if (key or text) not in self._said:
            self._said.add(key or text)
            _log.warning("%s", text)

    def count(self) -> None:
        """Update the counters, and log lost messages at most once a minute."""
        self.counters.queue_depth = len(self.outbox)
        self.counters.dropped = self.outbox.dropped
        self.counters.merged = self.outbox.merged
        told, when_s = self._told_drops
        if self.outbox.dropped > told and self.monotonic() - when_s >= REPORT_DROPS_S:
            _log.warning("the outbox is full, whole events were dropped messages=%d", self.outbox.dropped - told)
            self._told_drops = (self.outbox.dropped, self.monotonic())

    def _keep(self, parcel: Parcel) -> None:
        self.store.add(parcel)
        if parcel.message is not None:
            self.note_event(parcel.message)

    def _snapshot(self) -> Saved:
        return Saved(list(self.outbox), list(self._open.values()), frozenset(self.retired), dict(self.kept))
