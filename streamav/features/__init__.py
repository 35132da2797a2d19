"""Computes the features of segments: sound and pictures run through the encoders once for each segment."""

from __future__ import annotations

from streamav.features.extractor import SegmentExtractor
from streamav.features.logmel import LogMelOptions, log_mel, log_mel_options

__all__ = ["LogMelOptions", "SegmentExtractor", "log_mel", "log_mel_options"]
