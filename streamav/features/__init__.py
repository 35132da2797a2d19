"""From a segment to its features: sound and pictures through the encoders, once a second."""

from __future__ import annotations

from streamav.features.extractor import SegmentExtractor
from streamav.features.logmel import LogMelOptions, log_mel

__all__ = ["LogMelOptions", "SegmentExtractor", "log_mel"]
