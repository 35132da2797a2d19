"""Holds what one source detects from now on, complete: labels with their rules, latency, and whether it detects at all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from streamav.config import DetectionSettings
    from streamav.privacy_modes import Privacy
    from streamav.tracker import LabelOptions

__all__ = ["SourcePlan"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SourcePlan:
    """What one source detects; a later plan of the same source replaces it as a whole."""

    source: str
    detection: DetectionSettings
    """The settings that it was made of: the configuration with all changes."""
    labels: tuple[LabelOptions, ...]
    """Enabled labels with their thresholds and rules."""
    latency_segments: int
    """L: a segment is final at age L - 1."""
    on: float = 0.5
    """Threshold `on` of the labels that have none of their own."""

    @property
    def enabled(self) -> bool:
        """False: the source is switched off; nothing of it reaches the networks."""
        return self.detection.enabled

    @property
    def privacy(self) -> Privacy:
        """What is kept of people."""
        return self.detection.privacy
