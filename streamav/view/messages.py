"""Turns what the page shows into JSON texts. docs/view.md lists the messages.

It is pure: it uses no clock, socket or thread. Times are seconds on the media clock of the source.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from streamav.privacy_modes import privacy_word
from streamav.redaction import redact
from streamav.remedies import remedy
from streamav.types import SEGMENT_NS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streamav.privacy_modes import Privacy
    from streamav.types import Event, Observation, SegmentScores, SourceState, Telemetry

__all__ = ["cells", "event_message", "privacy_message", "state_message", "telemetry_message", "text", "turn_message"]

_DECIMALS = 3
_ATTENTION_DECIMALS = 4
_PER_MS = 1e6


def text(message: dict[str, Any]) -> str:
    """Return a message as compact JSON."""
    return json.dumps(message, separators=(",", ":"), allow_nan=False)


def turn_message(
    source: str, observation: Observation, pictures: Sequence[str], mel: str | None, columns: Sequence[int], privacy: Privacy = ()
) -> dict[str, Any]:
    """Return the message about one turn: the segment, all scores that changed, and where the time went.

    Args:
        source: its id.
        observation: what the turn did.
        pictures: JPEG in base64, oldest first.
        mel: the log-mel patch in base64; None without a segment.
        columns: of the probabilities, those of the source's labels.
        privacy: what pictures and mel do not show.
    """
    segment = observation.segment
    shown = None
    if segment is not None:
        quality = segment.quality
        shown = {
            "index": segment.index,
            "pictures": list(pictures),
            "mel": mel,
            "frames": len(segment.frames),
            "no_sound": quality.missing_samples >= segment.audio.size,
            "no_picture": quality.picture_missing,
        }
    return {
        "type": "turn",
        "source": source,
        "privacy": privacy_word(privacy),
        "epoch_ms": round(observation.epoch_ns / _PER_MS),
        "segment": shown,
        "cells": cells(observation.scores, columns),
        "times": None if observation.times is None else {key: round(value, 4) for key, value in asdict(observation.times).items()},
        "realtime_factor": round(observation.busy_s, 4),
        "skew_ms": observation.skew_ms,
        "dropped": observation.dropped_segments,
    }


def cells(scores: Sequence[SegmentScores], columns: Sequence[int]) -> list[dict[str, Any]]:
    """Return one cell of the timeline for each segment: scores, probabilities of *columns* and background, attention (rows)."""
    chosen = [*columns, -1]
    return [
        {
            "index": one.index,
            "age": one.age,
            "final": one.final,
            "relevance": round(one.relevance, _DECIMALS),
            "agreement": round(one.agreement, _DECIMALS),
            "classes": np.round(one.class_probabilities[chosen].astype(np.float64), _DECIMALS).tolist(),
            "attention": np.round(one.attention.astype(np.float64), _ATTENTION_DECIMALS).tolist(),
            "level_dbfs": None if one.level_dbfs is None else round(one.level_dbfs, 1),
        }
        for one in scores
    ]


def event_message(event: Event, latency_s: float, thumbnail: str | None) -> dict[str, Any]:
    """Return the message about an event; *thumbnail* is a JPEG in base64."""
    place = event.location
    return {
        "type": "event",
        "source": event.source,
        "id": event.id,
        "phase": event.phase.value,
        "label": event.label,
        "name": event.label_name,
        "start_s": event.start_ns / SEGMENT_NS,
        "end_s": None if event.end_ns is None else event.end_ns / SEGMENT_NS,
        "newest_s": event.newest_end_ns / SEGMENT_NS,
        "epoch_ms": round(event.epoch_ns / _PER_MS),
        "score": round(event.score, _DECIMALS),
        "confirmed": event.confirmed,
        "end_reason": None if event.end_reason is None else event.end_reason.value,
        "peak": None if place is None else place.peak,
        "box": None if place is None else place.box,
        "heat": None if place is None else [[round(share, _ATTENTION_DECIMALS) for share in row] for row in place.heat],
        "latency_s": round(latency_s, _DECIMALS),
        "thumbnail": thumbnail,
    }


def state_message(source: str, state: SourceState, reason: str) -> dict[str, Any]:
    """Return the message about the state of a source, with what to do about it."""
    return {"type": "state", "source": source, "state": state.value, "reason": redact(reason), "remedy": remedy(state, reason)}


def privacy_message(source: str, privacy: Privacy) -> dict[str, Any]:
    """Return the message that what was shown of a source before must not be shown any more, unless its privacy is off."""
    return {"type": "privacy", "source": source, "privacy": privacy_word(privacy)}


def telemetry_message(source: str, telemetry: Telemetry) -> dict[str, Any]:
    """Return the message with the figures of the last ten seconds."""
    return {"type": "telemetry", "source": source} | {
        key: round(value, 4) if isinstance(value, float) else value for key, value in asdict(telemetry).items()
    }
