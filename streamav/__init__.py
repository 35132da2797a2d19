"""Finds, live, what is heard and seen at the same time: streaming audio-visual event localization with events over MQTT."""

from __future__ import annotations

__all__ = ["__version__"]

__version__ = "0.1.0"
