"""Builds each source of a run and its options, from its settings, its plan and the model's card."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from streamav.app.detection import named
from streamav.capture import open_source
from streamav.capture.address import is_network
from streamav.capture.presence import check_devices
from streamav.config import MOST_SOURCES
from streamav.errors import SettingsError
from streamav.pipeline import SourceSetup
from streamav.segmenter import SegmenterOptions

if TYPE_CHECKING:
    from streamav.bundle import ModelCard
    from streamav.clips import PacketRing
    from streamav.config import CaptureSettings, OneOfSources, Settings
    from streamav.control import Controls, SourcePlan
    from streamav.protocols import Source

__all__ = ["SetupMaker", "check_count"]

_LIVE_PATIENCE_S = 1.5
"""How long a live segment waits for the modality that is late. It is above 1 s because the microphone confirms a loss for 1 s."""


@dataclass(frozen=True, slots=True)
class SetupMaker:
    """Builds the sources of one run."""

    settings: Settings
    controls: Controls
    card: ModelCard
    frames_per_second: int

    def setup(
        self, one: OneOfSources, given: Source | None = None, ring: PacketRing | None = None, joining: SourcePlan | None = None
    ) -> SourceSetup:
        """Build one source and its options. Where there are several sources, an error names the source.

        Args:
            one: its complete settings.
            given: a source that replaces the one of the settings; None for none.
            ring: takes the encoded packets of the source, for clips; None for nobody.
            joining: plan of a source that joins a run, which it must not keep from running; None for the one in the controls.

        Raises:
            SettingsError: when the settings contradict each other.
            CaptureError: when they name no sound or no picture.
        """
        plan = self.controls.plan(one.id) if joining is None else joining
        with named(one, self.settings):
            capture = _decided(one, several=joining is not None or len(self.settings.sources) > 1)
            source = given or open_source(
                one, capture, picture=self.card.visual.picture, frames_per_second=self.frames_per_second, tap=ring
            )
            if given is None and source.live and not capture.retry_start:
                check_devices(one)
            if one.begin_s and source.live:
                msg = f"source.begin_s is for files, which have a beginning; a live source must leave it out, got {one.begin_s}"
                raise SettingsError(msg)
        return SourceSetup(
            id=one.id,
            source=source,
            segmenter=self._segmenter(one, live=source.live),
            labels=plan.labels,
            latency_segments=plan.latency_segments,
            queue_segments=one.capture.queue_segments,
            paced=source.live or one.speed == "1",
            duration_s=one.duration_s,
        )

    def _segmenter(self, one: OneOfSources, *, live: bool) -> SegmenterOptions:
        frames, picture = self.frames_per_second, self.card.visual.picture
        if live:
            return SegmenterOptions(frames_per_second=frames, picture=picture, patience_s=_LIVE_PATIENCE_S)
        return SegmenterOptions(frames_per_second=frames, picture=picture, first_index=one.begin_s)


def check_count(settings: Settings) -> None:
    """Check that one process may have so many sources.

    Raises:
        SettingsError: when it may not.
    """
    if (sources := len(settings.each_source())) > MOST_SOURCES:
        msg = f"one process takes at most {MOST_SOURCES} sources, got {sources}; spread them over machines with --cluster (docs/scale.md)"
        raise SettingsError(msg)


def _decided(one: OneOfSources, *, several: bool) -> CaptureSettings:
    """Return the settings of capture of a source; where there are several sources, one must not keep the others from running."""
    network = any(uri is not None and is_network(uri) for uri in (one.uri, one.sound_uri))
    defaults = {"retry_start": several, "isolate": several and network}
    return one.capture.model_copy(update={name: value for name, value in defaults.items() if getattr(one.capture, name) is None})
