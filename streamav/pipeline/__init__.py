"""Drives the stages through their roles. It uses no device, file, broker, network library or GPU."""

from __future__ import annotations

from streamav.pipeline.feed import SourceSetup
from streamav.pipeline.loop import Pipeline
from streamav.pipeline.measure import RunSummary, SourceSummary

__all__ = ["Pipeline", "RunSummary", "SourceSetup", "SourceSummary"]
