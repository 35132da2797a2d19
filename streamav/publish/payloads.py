"""Defines the payloads of the small topics, as docs/mqtt.md and the JSON Schema show them; `message` defines that of events.

Every key is always there. The description of a field is its text in the reference.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

from pydantic import BaseModel, ConfigDict, Field

from streamav.publish.message import Score, Share, Similarity, Text, TopicLevel, UtcTime
from streamav.types import PublishedState

if TYPE_CHECKING:
    from streamav.types import FinalScores, Telemetry

__all__ = [
    "AnswerPayload",
    "AttributesPayload",
    "HaEventPayload",
    "InfoModelEntry",
    "InfoPayload",
    "OutboxEntry",
    "Payload",
    "ScoresPayload",
    "SourceEntry",
    "StatsPayload",
    "TelemetryPayload",
    "scores_payload",
    "telemetry_payload",
]

Level = Annotated[float, Field(le=0.0)]
Count = Annotated[int, Field(ge=0)]
Positive = Annotated[float, Field(ge=0.0)]


class Payload(BaseModel):
    """One JSON object of the contract; types are not converted."""

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore", allow_inf_nan=False)

    def to_bytes(self) -> bytes:
        """Return UTF-8 JSON without white space, with every key, in the order of the fields."""
        return json.dumps(self.model_dump(), ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


class InfoModelEntry(Payload):
    """The model of the run."""

    name: Text = Field(description="name of the model")
    version: Text = Field(description="version of the model")
    sha256: Text = Field(description="hash of the weights, hex")


class InfoPayload(Payload):
    """Topic `info`."""

    version: Text = Field(description="version of streamav")
    model: InfoModelEntry = Field(description="model of the run: `name`, `version`, `sha256`")
    backend: Text = Field(description="what computes, such as `onnxruntime-fp32`; it may change once in a run")
    sources: tuple[TopicLevel, ...] = Field(description="ids of the sources")


class HaEventPayload(Payload):
    """Topic `<source>/ha_event`."""

    event_type: TopicLevel = Field(description="the label")
    id: Text = Field(description="id of the event")
    source: TopicLevel = Field(description="id of the source")
    score: Score = Field(description="score of the newest segment")
    start_time: UtcTime = Field(description="start of the event")
    zones: tuple[Text, ...] = Field(description="zones that the event has touched so far")
    snapshot_url: Text | None = Field(description="address of the snapshot; null when there is none")


class AttributesPayload(Payload):
    """Topic `<source>/class/<label>/attributes`."""

    score: Score = Field(description="score at the start of the event; 0 while `OFF`")
    event_id: Text | None = Field(description="id of the event; null while `OFF`")
    since: UtcTime | None = Field(description="start of the event; null while `OFF`")
    zone: Text | None = Field(description="first zone that the event touched; null when there is none, and while `OFF`")


class TelemetryPayload(Payload):
    """Topic `<source>/telemetry`."""

    fps: Positive = Field(description="frames per second that arrive")
    rms_dbfs: Level | None = Field(description="sound level, dBFS; null in digital silence")
    latency_s: float = Field(description="from the end of the newest segment to the hand-over of its events to the publisher, s")
    av_skew_ms: int | None = Field(description="measured delay of sound relative to picture, ms; null when not measured")
    rtf: Positive = Field(description="seconds of computing per second of media")
    dropped: Count = Field(description="segments lost since the start")
    looked_fps: Positive = Field(description="frames per second that the model processed")
    thinned: Count = Field(
        description="segments since the start with fewer processed frames than the model asks for, because the machine is too slow for all"
    )


class ScoresPayload(Payload):
    """Topic `<source>/scores`."""

    ts: float = Field(description="start of the segment, seconds since 1970")
    media_start_s: float = Field(description="start of the segment on the source's own axis, s")
    scores: dict[str, Score] = Field(description="probability of each enabled label")
    background: Score = Field(description="probability that no class of the model is there")
    is_event_score: Score = Field(description="relevance, as in events")
    av_similarity: Similarity = Field(description="agreement, as in events")
    rms_dbfs: Level | None = Field(description="sound level, dBFS; null in digital silence")
    place: tuple[Share, Share] | None = Field(description="x, y of the strongest attention; null when it is flat")


class SourceEntry(Payload):
    """One source in `stats`."""

    status: PublishedState = Field(description="state of the source")
    events: Count = Field(description="confirmed events that have ended since the start")
    retracted: Count = Field(description="provisional events that were retracted")
    dropped: Count = Field(description="segments lost since the start")
    rtf: Positive | None = Field(description="seconds of computing per second of media; null before the first telemetry")
    latency_s: float | None = Field(description="as in telemetry; null before the first telemetry")


class OutboxEntry(Payload):
    """The outbox in `stats`."""

    waiting: Count = Field(description="messages that wait for the broker")
    published: Count = Field(description="messages about events that the broker acknowledged")
    dropped: Count = Field(description="messages that the full outbox dropped")
    refused: Count = Field(description="messages that the broker did not accept")
    connects: Count = Field(description="connections since the start")


class StatsPayload(Payload):
    """Topic `stats`."""

    version: Text = Field(description="version of streamav")
    uptime_s: Positive = Field(description="seconds since the start")
    peak_memory_mb: Positive = Field(description="largest memory of the process so far, MB")
    sources: dict[str, SourceEntry] = Field(description="by id: `status`, `events`, `retracted`, `dropped`, `rtf`, `latency_s`")
    outbox: OutboxEntry = Field(description="`waiting`, `published`, `dropped`, `refused`, `connects`")


class AnswerPayload(Payload):
    """Topics `answer` and `<source>/answer`."""

    topic: str = Field(description="topic of the command")
    accepted: bool = Field(description="true: the value will hold, and is echoed at its `state`")
    reason: str | None = Field(description="why the command is refused; null when it is accepted")


def telemetry_payload(telemetry: Telemetry) -> bytes:
    """Return the JSON of the telemetry topic."""
    return TelemetryPayload(
        fps=round(telemetry.frames_per_second, 2),
        rms_dbfs=None if telemetry.level_dbfs is None else round(telemetry.level_dbfs, 1),
        latency_s=round(telemetry.latency_s, 3),
        av_skew_ms=telemetry.skew_ms,
        rtf=round(telemetry.realtime_factor, 4),
        dropped=telemetry.dropped_segments,
        looked_fps=round(telemetry.looked_frames_per_second, 2),
        thinned=telemetry.thinned_segments,
    ).to_bytes()


def scores_payload(scores: FinalScores) -> bytes:
    """Return the JSON of the scores topic."""
    return ScoresPayload(
        ts=(scores.epoch_ns + scores.start_ns) // 1_000_000 / 1000,
        media_start_s=scores.start_ns // 1_000_000 / 1000,
        scores={label: round(float(value), 4) for label, value in scores.labels.items()},
        background=round(float(scores.background), 4),
        is_event_score=round(float(scores.relevance), 4),
        av_similarity=round(float(scores.agreement), 4),
        rms_dbfs=None if scores.level_dbfs is None else round(float(scores.level_dbfs), 1),
        place=None if scores.place is None else (round(scores.place[0], 4), round(scores.place[1], 4)),
    ).to_bytes()
