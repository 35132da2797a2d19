"""Keeps what a new viewer is shown at once: the newest turns of every source, its state, and the newest events.

It encodes each message once, whatever the number of viewers. It uses no thread and no socket, and its memory is bounded.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections import OrderedDict, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from streamav.privacy_modes import METADATA_ONLY, stricter
from streamav.types import SAMPLES_PER_SEGMENT, SEGMENT_NS
from streamav.view.hiding import Hiding, visible
from streamav.view.messages import event_message, privacy_message, state_message, telemetry_message, text, turn_message
from streamav.view.moments import Moments
from streamav.view.pictures import PictureEncoder, mel_text

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from streamav.features import LogMelOptions
    from streamav.privacy_modes import Privacy
    from streamav.types import Event, Observation, SourceState, Telemetry

__all__ = ["MOST_EVENTS", "Board", "kept_turns"]

MOST_EVENTS = 60
"""Newest events that a new viewer is shown, of all sources together (our choice)."""
_MOST_TURNS = 60
_LEAST_TURNS = 12
"""Most turns that are kept of a source, and least (our choice)."""
_ALL_TURNS = 480
"""A turn takes about 30 kB with its pictures, so the turns of all sources take at most 15 to 25 MB."""


def kept_turns(sources: int) -> int:
    """Return how many turns of each source are kept: 60 for one source, fewer for many, never fewer than 12."""
    return max(_LEAST_TURNS, min(_MOST_TURNS, _ALL_TURNS // max(1, sources)))


@dataclass
class _Kept:
    """What is kept of one source."""

    turns: deque[str]
    pictures: OrderedDict[int, str] = field(default_factory=OrderedDict)
    """The middle picture of each segment that is kept, by index: thumbnails of events come from here."""
    state: str | None = None
    telemetry: str | None = None
    privacy: Privacy = ()
    """What held when this was taken."""
    encoder: PictureEncoder = field(default_factory=PictureEncoder)


class Board:
    """Encodes messages and keeps the newest."""

    def __init__(
        self,
        front_ends: dict[str, LogMelOptions],
        columns: dict[str, tuple[int, ...]],
        *,
        hide: Callable[[NDArray[np.uint8]], NDArray[np.uint8]] | None = None,
        hiding: Hiding | None = None,
    ) -> None:
        """Start empty.

        Args:
            front_ends: options of the log-mel front end by id of the source.
            columns: columns of the source's labels in the scores, by id of the source.
            hide: makes people in one picture, shape (h, w, 3) RGB, unrecognisable; None blackens the picture.
            hiding: knows the privacy of each source; None hides nothing.
        """
        self._hide, self._hiding = hide, hiding or Hiding()
        self._front_ends, self._columns = dict(front_ends), dict(columns)
        self._turns = kept_turns(len(front_ends))
        self._sources = {source: _Kept(deque(maxlen=self._turns)) for source in front_ends}
        self._events: OrderedDict[str, dict[str, Any]] = OrderedDict()
        self.moments = Moments(list(front_ends))

    def add_source(self, source: str, front_end: LogMelOptions, columns: tuple[int, ...]) -> None:
        """Add a source, or start it again. Any thread may call it before the first turn of the source."""
        self._front_ends[source], self._columns[source] = front_end, columns
        self.moments.add_source(source)
        self._sources = {**self._sources, source: _Kept(deque(maxlen=self._turns))}  # replaced as a whole: another thread may read it

    def drop_source(self, source: str) -> None:
        """Forget a source and its events."""
        self._sources = {name: one for name, one in self._sources.items() if name != source}
        for identifier in [one for one, event in self._events.items() if event["source"] == source]:
            del self._events[identifier]
        self.moments.drop_source(source)

    def turn(self, source: str, observation: Observation) -> str:
        """Take one turn of a source; return its message."""
        kept, segment = self._sources[source], observation.segment
        pictures: list[str] = []
        mel = None
        if segment is not None:
            self.refresh(source)
            shown = visible(segment, kept.privacy, self._hide)
            mel = mel_text(shown.audio, self._front_ends[source])
            if METADATA_ONLY not in kept.privacy:
                encoded = kept.encoder.pictures(shown)
                self.moments.add(source, shown, encoded, kept.privacy)
                pictures = [b64encode(one).decode("ascii") for one in encoded]
                kept.pictures[segment.index] = pictures[len(pictures) // 2]
            while len(kept.pictures) > self._turns:
                kept.pictures.popitem(last=False)
        message = text(turn_message(source, observation, pictures, mel, self._columns[source], kept.privacy))
        kept.turns.append(message)
        return message

    def refresh(self, source: str) -> str:
        """Use the privacy that holds now, and drop what was kept where it has become stricter; return the message about it."""
        kept = self._sources[source]
        before, kept.privacy = kept.privacy, self._hiding.of(source)
        if stricter(before, kept.privacy) != before:
            kept.pictures.clear()
            self.moments.forget(source)
            silence = mel_text(np.zeros(SAMPLES_PER_SEGMENT, np.float32), self._front_ends[source])
            for place, turn in enumerate(kept.turns):
                message = json.loads(turn)
                if message["segment"] is not None:
                    message["segment"] |= {"pictures": [], "mel": silence}
                    kept.turns[place] = text(message)
            for event in self._events.values():
                if event["source"] == source:
                    event["thumbnail"] = None
        return text(privacy_message(source, kept.privacy))

    def event(self, event: Event, latency_s: float) -> str:
        """Take one message about an event; return it with a picture of the event's best segment."""
        self.refresh(event.source)
        older = self._events.pop(event.id, None)
        if event.confirmed:
            self.moments.event(event)
        thumbnail = self._thumbnail(event)
        if thumbnail is None and older is not None:
            thumbnail = older["thumbnail"]
        message = event_message(event, latency_s, thumbnail)
        self._events[event.id] = message
        while len(self._events) > MOST_EVENTS:
            self._events.popitem(last=False)
        return text(message)

    def state(self, source: str, state: SourceState, reason: str) -> str:
        """Take a change of a source's state; return its message."""
        kept = self._sources[source]
        kept.state = text(state_message(source, state, reason))
        return kept.state

    def telemetry(self, source: str, telemetry: Telemetry) -> str:
        """Take the telemetry of a source; return its message."""
        kept = self._sources[source]
        kept.telemetry = text(telemetry_message(source, telemetry))
        return kept.telemetry

    def newest(self) -> Sequence[str]:
        """Return all messages that a new viewer needs, in order."""
        messages: list[str] = []
        for kept in self._sources.values():
            messages += [one for one in (kept.state, kept.telemetry) if one is not None]
            messages += kept.turns
        return messages + [text(event) for event in self._events.values()]

    def _thumbnail(self, event: Event) -> str | None:
        """Return the picture of the segment with the highest score that is still kept, or None."""
        pictures = self._sources[event.source].pictures
        known = [(one.score, one.start_ns // SEGMENT_NS) for one in event.segments if one.start_ns // SEGMENT_NS in pictures]
        return pictures[max(known)[1]] if known else None
