"""What the API must know of a run before it begins."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from streamav.config import DetectionSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from streamav.publish.message import ModelEntry
    from streamav.publish.pending import MqttCounters
    from streamav.thresholds import Thresholds
    from streamav.tracker import LabelOptions

__all__ = ["Facts", "KnownSource"]


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownSource:
    """What is known of a source before the run."""

    id: str
    live: bool
    latency_segments: int
    labels: Callable[[], Sequence[LabelOptions]]
    """Returns the enabled labels with their thresholds and rules as they are now."""
    grid: int
    """Rows, and columns, of the model's attention."""
    detection: Callable[[], DetectionSettings] = DetectionSettings
    """Returns the settings of its detection as they are now."""

    def thresholds(self) -> dict[str, Thresholds]:
        """Return the thresholds of each enabled label as they are now."""
        return {one.label: one.thresholds for one in self.labels()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What the API must know of the run."""

    sources: Sequence[KnownSource]
    """Those that the run begins with."""
    model: Callable[[], ModelEntry]
    """Returns which model and backend compute now."""
    idle_s: Callable[[], float]
    """Returns the seconds since the loop took its last turn."""
    journal: Path | None = None
    """File of the journal; None where it is off."""
    journal_lost: Callable[[], int] = lambda: 0
    """Returns how many entries the journal lacks."""
    clips: Path | None = None
    """Folder of the clips; None where there are none."""
    mqtt: MqttCounters | None = None
    """Counters of the broker's client; None without a broker."""
    change: Callable[[str, Mapping[str, object]], object] | None = None
    """Changes a part of the section detection of a source, or raises a SettingsError; None where the API takes no changes."""
    gpu_memory: Callable[[], int | None] = lambda: None
    """Returns the bytes of GPU memory in use, None without a GPU."""
