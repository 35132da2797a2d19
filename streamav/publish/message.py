"""Encodes an event as the bytes of `streamav.event/1`, and decodes and checks bytes from outside.

It is pure: it uses no clock, broker, file or thread. docs/mqtt.md explains the keys, and a contract test keeps them from changing.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from streamav.errors import ShapeError, StreamavError
from streamav.types import SEGMENT_NS, EndReason, EventPhase

if TYPE_CHECKING:
    from streamav.types import Event, Location

__all__ = [
    "MAX_MESSAGE_BYTES",
    "SCHEMA",
    "EventMessage",
    "MessageError",
    "ModelEntry",
    "decode",
    "describe",
    "encode",
    "ended_by_restart",
    "fitted",
]

SCHEMA = "streamav.event/1"
"""Name and major version of the contract; within one major version keys are added, never changed or removed."""
MAX_MESSAGE_BYTES = 256 * 1024
"""Largest size of a message, in bytes; brokers and consumers may rely on it."""
MAX_SEGMENTS = 10
"""Most entries of `segments`: one window."""

_SCORE_DECIMALS = 4
_LEVEL_DECIMALS = 1
_TIME_PATTERN = r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{3}Z$"

Score = Annotated[float, Field(ge=0.0, le=1.0)]
Similarity = Annotated[float, Field(ge=-1.0, le=1.0)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
"""A coordinate in the picture, 0 to 1, from the left or from the top."""
UtcTime = Annotated[str, Field(pattern=_TIME_PATTERN)]
"""RFC 3339 in UTC with milliseconds and a Z."""
Text = Annotated[str, Field(max_length=1000)]
TopicLevel = Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]


class MessageError(StreamavError):
    """The bytes are not a valid `streamav.event/1` message."""


class _Wire(BaseModel):
    """Immutable part of a message; types are not converted, unknown keys are ignored (a newer minor version may add some)."""

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore", allow_inf_nan=False, populate_by_name=True)


class SegmentEntry(_Wire):
    """One segment of an event."""

    ts: float
    """Start, seconds since 1970."""
    score: Score
    is_event: Score | None


class LocationEntry(_Wire):
    """Where in the picture the event is."""

    grid: tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]]
    """Rows and columns of the attention grid."""
    peak: tuple[Share, Share]
    """x, y."""
    box: tuple[Share, Share, Share, Share] | None
    """x0, y0, x1, y1."""


class AudioEntry(_Wire):
    """The sound of the newest segment."""

    rms_dbfs: Annotated[float, Field(le=0.0)] | None


class ModelEntry(_Wire):
    """What computed the event: the model of the run, and the backend that runs it, which may change once in a run."""

    name: Text
    version: Text
    """Version of the model."""
    sha256: Text
    """Hash of the weights, hex."""
    backend: Text
    """For example "onnxruntime-fp32" or "tensorrt-fp16"."""


class EventMessage(_Wire):
    """One message of `streamav.event/1`; the order of the fields is the order on the wire."""

    schema_name: Annotated[Literal["streamav.event/1"], Field(alias="schema")] = "streamav.event/1"
    type: Literal["new", "update", "end"]
    seq: Annotated[int, Field(ge=1)]
    id: Annotated[str, Field(pattern=r"^[0-9A-HJKMNP-TV-Z]{26}$")]
    source: TopicLevel
    label: TopicLevel
    label_name: Text
    class_id: Annotated[int, Field(ge=0)] | None
    start_time: UtcTime
    end_time: UtcTime | None
    start_ts: float
    end_ts: float | None
    duration_s: Annotated[float, Field(ge=1.0)]
    media_start_s: float
    media_end_s: float | None
    score: Score
    top_score: Score
    is_event_score: Score | None
    av_similarity: Similarity | None
    score_kind: Literal["window_scores", "segment_scores"]
    segments: Annotated[tuple[SegmentEntry, ...], Field(min_length=1, max_length=MAX_SEGMENTS)]
    location: LocationEntry | None
    zones: tuple[Text, ...]
    audio: AudioEntry
    latency_s: float
    av_skew_ms: float | None
    confirmed: bool
    end_reason: Annotated[str, Field(pattern=r"^[a-z_]{1,64}$")] | None
    snapshot_url: Text | None
    clip_url: Text | None
    has_clip: bool
    model: ModelEntry
    modalities: Annotated[tuple[Literal["sound", "picture"], ...], Field(min_length=1, max_length=2)] = ("sound", "picture")
    """In what the event was found; messages of older versions lack it, and were heard and seen."""
    trained: bool = True
    """False for a label by definition, whose thresholds are less certain; messages of older versions lack it."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        """Check the fields that depend on each other."""
        ends = (self.end_time, self.end_ts, self.media_end_s, self.end_reason)
        if len({value is None for value in ends}) != 1:
            msg = "end_time, end_ts, media_end_s and end_reason must be null together or set together"
            raise ValueError(msg)
        if (self.type == "new" and not self.active) or (self.type == "end" and self.active):
            msg = f"a message of type {self.type} must {'not ' if self.type == 'new' else ''}have an end_time"
            raise ValueError(msg)
        if self.end_ts is not None and self.end_ts < self.start_ts:
            msg = "end_ts must not be before start_ts"
            raise ValueError(msg)
        return self

    @property
    def active(self) -> bool:
        """True while the event has not ended; read from `end_time`, not from `type`."""
        return self.end_time is None

    def to_bytes(self) -> bytes:
        """Return UTF-8 JSON without white space, with every key, in the order of the fields."""
        tree = self.model_dump(by_alias=True)
        return json.dumps(tree, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def describe(event: Event, model: ModelEntry, latency_s: float, sequence: int | None = None) -> EventMessage:
    """Return the message that describes *event*.

    Args:
        event: the tracker's message.
        model: what computed it.
        latency_s: from the end of the newest segment of the event to now, seconds.
        sequence: `seq` of the message when the publisher counts by itself; None for the event's own number.

    Raises:
        ShapeError: when a value is out of its range or not finite, which is a bug of the caller.
    """
    end_ms = None if event.end_ns is None else _milliseconds(event.epoch_ns + event.end_ns)
    start_ms = _milliseconds(event.epoch_ns + event.start_ns)
    reach_ns = event.newest_end_ns if event.end_ns is None else event.end_ns
    seen = "picture" in event.modalities
    try:
        return EventMessage(
            type=event.phase.value,
            seq=event.sequence if sequence is None else sequence,
            id=event.id,
            source=event.source,
            label=event.label,
            label_name=event.label_name,
            class_id=event.class_id,
            start_time=_rfc3339(start_ms),
            end_time=None if end_ms is None else _rfc3339(end_ms),
            start_ts=start_ms / 1000,
            end_ts=None if end_ms is None else end_ms / 1000,
            duration_s=_seconds(max(reach_ns - event.start_ns, SEGMENT_NS)),
            media_start_s=_seconds(event.start_ns),
            media_end_s=None if event.end_ns is None else _seconds(event.end_ns),
            score=_rounded(event.score),
            top_score=_rounded(event.top_score),
            is_event_score=_rounded(event.relevance) if seen else None,
            av_similarity=_rounded(event.agreement) if seen else None,
            score_kind="segment_scores",
            segments=_segments(event),
            location=_location(event.location),
            zones=event.zones,
            audio=AudioEntry(rms_dbfs=None if event.level_dbfs is None else _rounded(event.level_dbfs, _LEVEL_DECIMALS)),
            latency_s=_rounded(latency_s, 3),
            av_skew_ms=event.skew_ms,
            confirmed=event.confirmed,
            end_reason=None if event.end_reason is None else event.end_reason.value,
            snapshot_url=None,
            clip_url=None,
            has_clip=False,
            model=model,
            modalities=event.modalities,
            trained=event.trained,
        )
    except ValidationError as exc:
        msg = f"event {event.id} of {event.label} cannot be published: {_explain(exc)}"
        raise ShapeError(msg) from None


def encode(event: Event, model: ModelEntry, latency_s: float) -> bytes:
    """Return the `streamav.event/1` bytes of *event*; arguments and errors as for `describe`."""
    return describe(event, model, latency_s).to_bytes()


def decode(data: bytes) -> EventMessage:
    """Decode and check bytes from outside; they may be anything.

    Raises:
        MessageError: when the bytes are over 256 KiB, not JSON, or break the contract; the error names the first wrong key.
    """
    if len(data) > MAX_MESSAGE_BYTES:
        msg = f"a message must have at most {MAX_MESSAGE_BYTES} bytes, got {len(data)}"
        raise MessageError(msg)
    try:
        if b"NaN" in data or b"Infinity" in data:  # pydantic accepts them in keys that it ignores; they are not JSON
            json.loads(data, parse_constant=_refuse)
        return EventMessage.model_validate_json(data)
    except ValidationError as exc:
        msg = f"not a {SCHEMA} message: {_explain(exc)}"
        raise MessageError(msg) from None
    except (ValueError, RecursionError) as exc:
        msg = f"not a {SCHEMA} message: {exc}"
        raise MessageError(msg) from None


def _refuse(constant: str) -> None:
    msg = f"JSON has no {constant}"
    raise ValueError(msg)


def ended_by_restart(message: EventMessage) -> EventMessage:
    """Return the `end` of an event that a crash left open, built from the last message that may have been published.

    A message that is already an `end` is returned unchanged: sent again it is a duplicate, which consumers drop by its `seq`.
    """
    if not message.active:
        return message
    end_ms = round(message.start_ts * 1000) + round(message.duration_s * 1000)
    changes: dict[str, object] = {
        "type": EventPhase.END.value,
        "seq": message.seq + 1,
        "end_time": _rfc3339(end_ms),
        "end_ts": end_ms / 1000,
        "media_end_s": round(message.media_start_s + message.duration_s, 3),
        "end_reason": EndReason.RESTART.value,
    }
    return message.model_copy(update=changes)


def fitted(payload: bytes, limit: int) -> bytes:
    """Return the payload, or a message with fewer of the oldest `segments`, of at most *limit* bytes; the shortest when none fits.

    A payload that is no `streamav.event/1` message is returned unchanged.
    """
    if len(payload) <= limit:
        return payload
    try:
        message = decode(payload)
    except MessageError:
        return payload
    for count in range(len(message.segments) - 1, 0, -1):
        payload = message.model_copy(update={"segments": message.segments[-count:]}).to_bytes()
        if len(payload) <= limit:
            break
    return payload


def _segments(event: Event) -> tuple[SegmentEntry, ...]:
    return tuple(
        SegmentEntry(
            ts=_milliseconds(event.epoch_ns + segment.start_ns) / 1000,
            score=_rounded(segment.score),
            is_event=_rounded(segment.relevance) if "picture" in event.modalities else None,
        )
        for segment in event.segments
    )


def _location(location: Location | None) -> LocationEntry | None:
    if location is None:
        return None
    (x, y), box = location.peak, location.box
    return LocationEntry(
        grid=location.grid,
        peak=(_rounded(x), _rounded(y)),
        box=None if box is None else (_rounded(box[0]), _rounded(box[1]), _rounded(box[2]), _rounded(box[3])),
    )


def _milliseconds(epoch_ns: int) -> int:
    """Return a UTC time in whole milliseconds, rounded down; `*_time` and `*_ts` both use it, so they name the same instant."""
    return epoch_ns // 1_000_000


def _seconds(span_ns: int) -> float:
    return (span_ns // 1_000_000) / 1000


def _rounded(value: float, decimals: int = _SCORE_DECIMALS) -> float:
    """Return the value rounded, as a plain float (numpy scalars are not JSON), and never as minus zero."""
    return round(float(value), decimals) + 0.0


def _rfc3339(epoch_ms: int) -> str:
    seconds, milliseconds = divmod(epoch_ms, 1000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{milliseconds:03d}Z"


def _explain(exc: ValidationError) -> str:
    """Return the first error with its key and its input, cut to 80 characters because the input may be hostile."""
    error = exc.errors(include_url=False)[0]
    where = ".".join(str(part) for part in error["loc"]) or "the whole message"
    return f"{where}: {error['msg']} (got {repr(error['input'])[:80]})"
