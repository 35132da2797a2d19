"""From exact seconds of sound and picture to features; it knows numpy and the role Engine, no torch."""

from __future__ import annotations

from streamav.features.extractor import SegmentExtractor
from streamav.features.logmel import LogMelOptions, log_mel

__all__ = ["LogMelOptions", "SegmentExtractor", "log_mel"]
