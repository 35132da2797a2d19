"""Drives the stages through their roles. It uses no device, file, broker, network library or GPU."""

from __future__ import annotations

from streamav.pipeline.feed import SourceSetup
from streamav.pipeline.lane import Lane
from streamav.pipeline.loop import Pipeline
from streamav.pipeline.measure import RunSummary, SourceSummary
from streamav.pipeline.turns import Replay, SourceReplay, TurnRecord, Turns

__all__ = ["Lane", "Pipeline", "Replay", "RunSummary", "SourceReplay", "SourceSetup", "SourceSummary", "TurnRecord", "Turns"]
