"""Builds each source of a run and its options, from its settings and the model's card."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from streamav.app.detection import chosen_labels, label_options
from streamav.capture import open_source
from streamav.errors import CaptureError, SettingsError
from streamav.pipeline import SourceSetup
from streamav.segmenter import SegmenterOptions

if TYPE_CHECKING:
    from collections.abc import Iterator

    from streamav.bundle import ModelCard
    from streamav.clips import PacketRing
    from streamav.config import OneOfSources, Settings
    from streamav.labels import LabelTable
    from streamav.protocols import Source
    from streamav.tracker import LabelOptions

__all__ = ["SetupMaker", "named"]

_LIVE_PATIENCE_S = 1.5
"""How long a live segment waits for the modality that is late. It is above 1 s because the microphone confirms a loss for 1 s."""


@dataclass(frozen=True, slots=True)
class SetupMaker:
    """Builds the sources of one run."""

    settings: Settings
    table: LabelTable
    card: ModelCard
    frames_per_second: int

    def labels(self, one: OneOfSources) -> tuple[LabelOptions, ...]:
        """Return how each label of a source becomes events. Where there are several sources, an error names the source."""
        with named(one, self.settings):
            return label_options(self.card, one.detection, chosen_labels(self.table, one, self.card))

    def setup(self, one: OneOfSources, given: Source | None = None, ring: PacketRing | None = None) -> SourceSetup:
        """Build one source and its options.

        Args:
            one: its complete settings.
            given: a source that replaces the one of the settings; None for none.
            ring: takes the encoded packets of the source, for clips; None for nobody.

        Raises:
            SettingsError: when the settings contradict the model or each other.
            CaptureError: when they name no sound or no picture.
        """
        labels = self.labels(one)
        with named(one, self.settings):
            source = given or open_source(
                one, one.capture, picture=self.card.visual.picture, frames_per_second=self.frames_per_second, tap=ring
            )
            if one.begin_s and source.live:
                msg = f"source.begin_s is for files, which have a beginning; a live source must leave it out, got {one.begin_s}"
                raise SettingsError(msg)
        return SourceSetup(
            id=one.id,
            source=source,
            segmenter=self._segmenter(one, live=source.live),
            labels=labels,
            latency_segments=one.detection.latency_segments or self.card.detection.latency_segments,
            queue_segments=one.capture.queue_segments,
            paced=source.live or one.speed == "1",
            duration_s=one.duration_s,
        )

    def _segmenter(self, one: OneOfSources, *, live: bool) -> SegmenterOptions:
        frames, picture = self.frames_per_second, self.card.visual.picture
        if live:
            return SegmenterOptions(frames_per_second=frames, picture=picture, patience_s=_LIVE_PATIENCE_S)
        return SegmenterOptions(frames_per_second=frames, picture=picture, first_index=one.begin_s)


@contextmanager
def named(one: OneOfSources, settings: Settings) -> Iterator[None]:
    """Add the name of the source to an error where there are several sources."""
    try:
        yield
    except (SettingsError, CaptureError) as exc:
        if not settings.sources:
            raise
        msg = f"source {one.id}: {exc}"
        raise type(exc)(msg) from exc
