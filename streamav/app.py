"""The composition root: the only place where settings turn into objects.

It decides nothing about events; it picks the model, the engine, the sources and the sinks, and connects them.
"""

from __future__ import annotations

import asyncio
import difflib
import logging
import os
import signal
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from streamav.bundle import find_bundle
from streamav.capture import open_source
from streamav.config import ClassSettings
from streamav.engines import SwapEngine, open_engine
from streamav.errors import CaptureError, SettingsError
from streamav.features import SegmentExtractor
from streamav.localizer import VscgLocalizer
from streamav.pipeline import Pipeline, SourceSetup
from streamav.publish import FanOut, JsonlSink, ModelEntry
from streamav.segmenter import SegmenterOptions
from streamav.tracker import LabelOptions
from streamav.types import SAMPLES_PER_SEGMENT, SEGMENT_NS, WINDOW_SEGMENTS, Segment, Window

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from streamav.bundle import Bundle, ModelCard
    from streamav.clock import Clock
    from streamav.config import DetectionSettings, OneOfSources, Settings
    from streamav.localizer import Head
    from streamav.pipeline import RunSummary
    from streamav.protocols import Engine, Extractor, Localizer, Sink, Source
    from streamav.types import SegmentFeatures

__all__ = ["Application", "build", "check_model", "label_options", "localizer_head", "run"]

_log = logging.getLogger(__name__)

_LIVE_PATIENCE_S = 1.5
"""How long a live second waits for the modality that is late; a loss at the microphone is held for 1 s before it is believed."""
_INTERRUPTED = 130
"""Exit status of a process that a second Ctrl-C ended: 128 + SIGINT, as shells have it."""


@dataclass(frozen=True, slots=True)
class Application:
    """A run that is ready to start."""

    pipeline: Pipeline
    bundle: Bundle
    engine: Engine
    sources: Mapping[str, Source]
    """By id."""
    frames_per_second: int

    def begin_build(self) -> None:
        """Begin to make the engine that was asked for, where the run begins on another one."""
        if isinstance(self.engine, SwapEngine):
            self.engine.start(self._warm)

    def end_build(self) -> None:
        """End what begin_build() began, if it has not ended by itself."""
        if isinstance(self.engine, SwapEngine):
            self.engine.close()

    def _warm(self, engine: Engine) -> None:
        card = self.bundle.card
        _run_once(SegmentExtractor(engine, card), VscgLocalizer(engine, localizer_head(card)), card, self.frames_per_second)


def build(
    settings: Settings,
    sinks: Sequence[Sink] = (),
    clock: Clock | None = None,
    *,
    sources: Mapping[str, Source] | None = None,
    beside: bool = True,
) -> Application:
    """Make a run of its settings: model, engine and networks are loaded and have run once when this returns.

    Args:
        settings: the whole of them.
        sinks: further takers of events, besides those that the settings name.
        clock: of the loop; None for the machine's.
        sources: sources by id that stand in for what the settings say of them, as in a benchmark; None for none.
        beside: let a run that keeps the world's pace begin on another engine while the wanted one is made; False waits for it.

    Raises:
        SettingsError: when the settings contradict the model or each other.
        CaptureError: when a file cannot be read, or sound or picture is not named.
        ModelError: when the model cannot be used.
        EngineError: when no engine can run it.
    """
    bundle = find_bundle(settings.model.name)
    card = bundle.card
    frames_per_second = settings.model.frames_per_second or card.visual.frames_per_second
    setups = [_setup(one, card, frames_per_second, (sources or {}).get(one.id), settings) for one in settings.each_source()]
    # What keeps the world's pace does not wait for an engine; what does not, waits, so that its results do not depend on time.
    engine = open_engine(bundle, settings.model, beside=beside and all(setup.paced for setup in setups))
    extractor = SegmentExtractor(engine, card)
    localizer = VscgLocalizer(engine, localizer_head(card))
    _run_once(extractor, localizer, card, frames_per_second)
    made: list[Pipeline] = []

    def stop() -> None:
        """End the run when nobody reads the events any more; the sinks exist before the pipeline does."""
        for pipeline in made:
            pipeline.stop()

    def model() -> ModelEntry:
        return ModelEntry(name=card.name, version=card.version, sha256=bundle.sha256, backend=engine.name)

    takers = [*_sinks(settings, model, setups, stop), *sinks]
    pipeline = Pipeline(setups, extractor, localizer, FanOut(takers), clock, gather_s=settings.model.gather_ms / 1e3)
    made.append(pipeline)
    return Application(pipeline, bundle, engine, {setup.id: setup.source for setup in setups}, frames_per_second)


def check_model(settings: Settings) -> None:
    """Check what the settings say of labels and thresholds against the card of their model, for every source.

    Raises:
        SettingsError: when they contradict the card.
        ModelError: when the model cannot be used.
    """
    card = find_bundle(settings.model.name).card
    for one in settings.each_source():
        with _named(one, settings):
            label_options(card, one.detection)


@contextmanager
def _named(one: OneOfSources, settings: Settings) -> Iterator[None]:
    """Name the source in an error, where there are several."""
    try:
        yield
    except (SettingsError, CaptureError) as exc:
        if not settings.sources:
            raise
        msg = f"source {one.id}: {exc}"
        raise type(exc)(msg) from exc


def _setup(one: OneOfSources, card: ModelCard, frames_per_second: int, given: Source | None, settings: Settings) -> SourceSetup:
    """Make one source and how it is treated; an error names it where there are several."""
    with _named(one, settings):
        labels = label_options(card, one.detection)
        source = given or open_source(one, one.capture, picture=card.visual.picture, frames_per_second=frames_per_second)
    return SourceSetup(
        id=one.id,
        source=source,
        segmenter=_segmenter_options(card, frames_per_second, live=source.live),
        labels=labels,
        latency_segments=one.detection.latency_segments or card.detection.latency_segments,
        queue_segments=one.capture.queue_segments,
        paced=source.live or one.speed == "1",
        duration_s=one.duration_s,
    )


def label_options(card: ModelCard, detection: DetectionSettings) -> tuple[LabelOptions, ...]:
    """Return how each enabled class becomes events; `thresholds.resolve` says where each value comes from.

    Raises:
        SettingsError: when the settings name a label that the model does not have, leave none, or put `off` above `on`.
    """
    for label in detection.classes:
        if label not in card.slugs:
            near = difflib.get_close_matches(label, card.slugs, n=1, cutoff=0.0)[0]
            msg = f"detection.classes.{label}: model {card.name} has no such label; the nearest is {near}, all are: {', '.join(card.slugs)}"
            raise SettingsError(msg)
    own = {label: detection.classes.get(label, ClassSettings()) for label in card.slugs}
    options = tuple(
        LabelOptions(
            label=entry.slug,
            label_name=entry.name,
            class_id=number,
            thresholds=card.detection.thresholds(entry.slug, detection, own[entry.slug]),
        )
        for number, entry in enumerate(card.classes)
        if own[entry.slug].enabled
    )
    if not options:
        msg = "detection.classes must leave at least one label enabled, got none"
        raise SettingsError(msg)
    return options


def localizer_head(card: ModelCard) -> Head:
    """Say which head of the card's network decides on streams."""
    options = card.localizer.options
    untrained = options.get("segment_head") == "untrained" and options.get("supervision", "fully") == "fully"
    return "two_stage" if untrained else "segment"


async def run(application: Application, *, on_interrupt: Callable[[int], None] | None = None) -> RunSummary:
    """Run until all sources have ended or the process is asked to stop.

    The first SIGINT or SIGTERM ends the run in order: events end as shut down, the broker is told. The second ends the
    process at once, with status 130.

    Args:
        application: what build() made.
        on_interrupt: told the number of the first signal.

    Raises:
        StreamavError: as Pipeline.run().
    """
    asked: list[int] = []

    def interrupt(number: int) -> None:
        if asked:
            os._exit(_INTERRUPTED)
        asked.append(number)
        if on_interrupt is not None:
            on_interrupt(number)
        application.pipeline.stop()

    loop = asyncio.get_running_loop()
    numbers = (signal.SIGINT, signal.SIGTERM)
    for number in numbers:
        with suppress(RuntimeError):  # not the main thread
            loop.add_signal_handler(number, interrupt, number)
    application.begin_build()
    try:
        return await application.pipeline.run()
    finally:
        await asyncio.to_thread(application.end_build)
        for number in numbers:
            with suppress(RuntimeError):
                loop.remove_signal_handler(number)


def _segmenter_options(card: ModelCard, frames_per_second: int, *, live: bool) -> SegmenterOptions:
    if live:
        return SegmenterOptions(frames_per_second=frames_per_second, picture=card.visual.picture, patience_s=_LIVE_PATIENCE_S)
    return SegmenterOptions(frames_per_second=frames_per_second, picture=card.visual.picture)


def _sinks(settings: Settings, model: Callable[[], ModelEntry], setups: Sequence[SourceSetup], stop: Callable[[], None]) -> list[Sink]:
    """Make the sinks that the settings name."""
    sinks: list[Sink] = []
    if settings.jsonl is not None:
        sinks.append(JsonlSink(settings.jsonl, model, on_gone=stop))
    if settings.mqtt is not None:
        from streamav.publish.mqtt import MqttIdentity, MqttSink

        sources = {setup.id: [label.label for label in setup.labels] for setup in setups}
        sinks.append(MqttSink(settings.mqtt, MqttIdentity(model=model, sources=sources), settings.state_dir))
    return sinks


def _run_once(extractor: Extractor, localizer: Localizer, card: ModelCard, frames_per_second: int) -> None:
    """Run every network once on nothing, so that the first real second does not pay for lazy set-up."""
    silence = np.zeros(SAMPLES_PER_SEGMENT, np.float32)
    dark = np.zeros((frames_per_second, *card.visual.picture, 3), np.uint8)
    first = extractor.extract([Segment(index=0, start_ns=0, audio=silence, frames=dark)])[0]
    segments = tuple(_moved(first, index) for index in range(WINDOW_SEGMENTS))
    localizer.localize([Window(segments=segments)])


def _moved(features: SegmentFeatures, index: int) -> SegmentFeatures:
    return replace(features, index=index, start_ns=index * SEGMENT_NS)
