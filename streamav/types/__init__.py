"""Defines the values that pass between the stages. They are frozen; shapes and types are checked when a value is made.

They do not depend on a device, clock, network or broker. Shape letters used everywhere:
T segments of a window (10), C foreground classes, A audio feature size, G side of the visual grid,
V visual feature size, F frames of a segment, N samples of a segment (16 000).
Times are integer nanoseconds on the source's own media clock, whose zero is the first instant of the source.
"""

from __future__ import annotations

from streamav.types.events import EndReason, Event, EventPhase, Location, Modality, ScoredSegment
from streamav.types.media import (
    SAMPLE_RATE_HZ,
    SAMPLES_PER_SEGMENT,
    SEGMENT_NS,
    WINDOW_SEGMENTS,
    AudioBlock,
    Box,
    Quality,
    Segment,
    Signs,
    VideoFrame,
    looked_places,
)
from streamav.types.scores import FinalScores, LookedAt, SegmentFeatures, SegmentScores, Window, WindowScores
from streamav.types.states import (
    TRYING_AGAIN,
    Observation,
    PublishedState,
    SourceContent,
    SourceState,
    StageTimes,
    StateChange,
    Telemetry,
    has_failed,
)

__all__ = [
    "SAMPLES_PER_SEGMENT",
    "SAMPLE_RATE_HZ",
    "SEGMENT_NS",
    "TRYING_AGAIN",
    "WINDOW_SEGMENTS",
    "AudioBlock",
    "Box",
    "EndReason",
    "Event",
    "EventPhase",
    "FinalScores",
    "Location",
    "LookedAt",
    "Modality",
    "Observation",
    "PublishedState",
    "Quality",
    "ScoredSegment",
    "Segment",
    "SegmentFeatures",
    "SegmentScores",
    "Signs",
    "SourceContent",
    "SourceState",
    "StageTimes",
    "StateChange",
    "Telemetry",
    "VideoFrame",
    "Window",
    "WindowScores",
    "has_failed",
    "looked_places",
]
