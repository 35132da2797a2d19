"""Builds a run from its settings. It is the only place where settings turn into objects.

It picks the model, the engine and the sources, and connects them with what takes the events. It decides nothing about events.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from streamav.app.detection import PlanMaker, kept_note, source_controls
from streamav.app.exchange import Followers, SourceExchange
from streamav.app.membership import ChangingSources
from streamav.app.outlets import build_outlets, packet_rings, subject
from streamav.app.setups import SetupMaker, check_count
from streamav.bundle import choose_bundle
from streamav.engines import SwapEngine, open_engine
from streamav.features import SegmentExtractor
from streamav.heaps import keep_heaps_few
from streamav.labels import LabelTable
from streamav.localizer import VscgLocalizer
from streamav.pipeline import Pipeline
from streamav.publish import FanOut, JsonlSink, ModelEntry, ObserverFanOut
from streamav.types import SAMPLES_PER_SEGMENT, SEGMENT_NS, WINDOW_SEGMENTS, Segment, Window

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from streamav.api import HttpApi
    from streamav.app.membership import Membership
    from streamav.bundle import Bundle, ModelCard
    from streamav.clips import PacketRing
    from streamav.clock import Clock
    from streamav.config import Settings
    from streamav.control import Controls
    from streamav.evidence import LabelEvidence
    from streamav.localizer import Head
    from streamav.pipeline import SourceSetup, Turns
    from streamav.protocols import Engine, Extractor, Localizer, Observer, Sink, Source
    from streamav.publish.mqtt import MqttSink
    from streamav.types import SegmentFeatures
    from streamav.view import LivePage, Subject

__all__ = ["Application", "build", "check_model", "localizer_head"]

EARLY_PAYS_MS = 40.0
"""Where the pictures of a segment take at least this long, auto encodes them as they come (docs/performance.md, early pictures)."""


@dataclass(frozen=True, slots=True)
class Application:
    """A run that is ready to start."""

    pipeline: Pipeline
    bundle: Bundle
    engine: Engine
    sources: Mapping[str, Source]
    """By id."""
    frames_per_second: int
    controls: Controls
    """What each source detects, and the way to change it while the run goes on."""
    evidence: LabelEvidence | None = None
    """Evidence of the labels of all sources; None where the network alone decides."""
    notes: tuple[str, ...] = ()
    """What a user should know about the choice of model and labels, one sentence each."""
    mqtt: MqttSink | None = None
    files: tuple[JsonlSink, ...] = ()
    """Files of events."""
    page: LivePage | None = None
    """The live page, where the settings ask for it."""
    api: HttpApi | None = None
    """The HTTP API, where the settings ask for it."""
    changing: ChangingSources | None = None
    """Adds and releases sources, in a worker of a cluster."""
    exchange: SourceExchange | None = None
    """Adds and releases sources, in any other run."""

    @property
    def shortfall(self) -> str | None:
        """What was not delivered to the broker, as a sentence, once the run has ended; None when everything was."""
        found = [one.shortfall for one in (self.mqtt, *self.files) if one is not None and one.shortfall is not None]
        return "; ".join(found) or None

    @property
    def model_entry(self) -> ModelEntry:
        """What computes events now, as messages name it."""
        card = self.bundle.card
        return ModelEntry(name=card.name, version=card.version, sha256=self.bundle.sha256, backend=self.engine.name)

    def begin_build(self) -> None:
        """Start to build the requested engine, if the run begins on another one."""
        if isinstance(self.engine, SwapEngine):
            self.engine.start(self._warm)

    def end_build(self) -> None:
        """Stop what begin_build() started, if it has not finished."""
        if isinstance(self.engine, SwapEngine):
            self.engine.close()

    def _warm(self, engine: Engine) -> None:
        card = self.bundle.card
        localizer = VscgLocalizer(engine, localizer_head(card), self.evidence)
        _run_once(SegmentExtractor(engine, card), localizer, card, self.frames_per_second)


def build(  # noqa: PLR0913 - each argument replaces one part of a run
    settings: Settings,
    sinks: Sequence[Sink] = (),
    clock: Clock | None = None,
    *,
    sources: Mapping[str, Source] | None = None,
    beside: bool = True,
    engine: Engine | None = None,
    journal: bool = False,
    observer: Callable[[Sequence[Subject]], Observer] | None = None,
    member: Membership | None = None,
    turns: Turns | None = None,
) -> Application:
    """Build a run from its settings. When this returns, model, engine and networks are loaded and have run once.

    Args:
        settings: all settings of the run.
        sinks: further sinks for events, besides those that the settings name.
        clock: clock of the loop; None for the clock of the machine.
        sources: sources by id that replace those of the settings, as in a benchmark; None for none.
        beside: True lets a paced run begin on another engine while the requested one is built; False waits for it.
        engine: an engine that is already open for this model; None to open the one that the settings name.
        journal: True for a run that lasts: it writes the journal, if the settings allow it, and keeps changes of what it detects.
        observer: makes a further observer, which sees every turn; None for none.
        member: makes the run a worker of a cluster: it starts without a source and goes on until it is stopped. None for any other run.
        turns: whether turns are recorded or repeated; None for neither. The sources of a recorded run must be given.

    Raises:
        SettingsError: when the settings contradict the model or each other.
        CaptureError: when a file cannot be read, or the settings name no sound or no picture.
        ModelError: when the model cannot be used.
        EngineError: when no engine can run it.
    """
    keep_heaps_few()
    bundle, note = choose_bundle(settings.model.name, settings.model.weights_dir)
    card = bundle.card
    frames_per_second = settings.model.frames_per_second or card.visual.frames_per_second
    table = LabelTable(bundle, settings.labels)
    rings = packet_rings(settings, settings.each_source())
    # The columns of scores are those of all sources, whichever of them a worker of a cluster gets.
    live = {name: source.live for name, source in (sources or {}).items()}
    plans = PlanMaker(table, card)
    controls = source_controls(settings, plans, keep=journal and member is None, live=live)
    maker = SetupMaker(settings, controls, card, frames_per_second)
    if member is None:
        check_count(settings)
    setups = [] if member is not None else _setups(settings, maker, sources or {}, rings, turns)
    # A paced run does not wait for an engine. Any other run waits, so that its results do not depend on time.
    if engine is None:
        engine = open_engine(bundle, settings.model, beside=beside and all(setup.paced for setup in setups))
    extractor = SegmentExtractor(engine, card)
    evidence = table.evidence()
    localizer = VscgLocalizer(engine, localizer_head(card), evidence)
    _run_once(extractor, localizer, card, frames_per_second)
    made: list[Pipeline] = []

    def stop() -> None:
        """Stop the run when nobody reads the events any more. The sinks exist before the pipeline, so they get this function."""
        for pipeline in made:
            pipeline.stop()

    def model() -> ModelEntry:
        return ModelEntry(name=card.name, version=card.version, sha256=bundle.sha256, backend=engine.name)

    outlets = build_outlets(
        settings,
        model,
        setups,
        bundle,
        controls,
        rings,
        keeps_journal=journal,
        member=member,
        stop=stop,
        idle_s=lambda: made[0].idle_s if made else 0.0,
    )
    takers = outlets.sinks(sinks)
    observers = outlets.observers(None if observer is None else observer([subject(setup, card) for setup in setups]))
    pipeline = Pipeline(
        setups,
        extractor,
        localizer,
        FanOut(takers),
        clock,
        gather_s=settings.model.gather_ms / 1e3,
        observer=ObserverFanOut(observers) if observers else None,
        most_frames=None if member is None else frames_per_second,
        turns=turns,
        # A recorded run encodes whole segments: its replay must give the same bits.
        ahead=extractor if turns is None and looks_early(settings.model.early, engine, frames_per_second) else None,
    )
    pipeline.controls = None if member is not None else controls
    made.append(pipeline)
    followers = Followers(controls=controls, card=card, clips=outlets.clips, mqtt=outlets.mqtt, page=outlets.page, api=outlets.api)
    notes = tuple(filter(None, (note, *table.notes, kept_note(controls))))
    return Application(
        pipeline=pipeline,
        bundle=bundle,
        engine=engine,
        sources={setup.id: setup.source for setup in setups},
        frames_per_second=frames_per_second,
        controls=controls,
        evidence=evidence,
        notes=notes,
        mqtt=outlets.mqtt,
        files=tuple(one for one in takers if isinstance(one, JsonlSink)),
        page=outlets.page,
        api=outlets.api,
        changing=None if member is None or outlets.mqtt is None else ChangingSources(maker, pipeline, outlets.mqtt),
        exchange=None if member is not None else SourceExchange(maker, plans, localizer, pipeline, followers),
    )


def _setups(
    settings: Settings, maker: SetupMaker, sources: Mapping[str, Source], rings: Mapping[str, PacketRing], turns: Turns | None
) -> list[SourceSetup]:
    """Return the sources of the settings, or those that replace them, and the recorded turns of a replay."""
    setups = [maker.setup(one, sources.get(one.id), rings.get(one.id)) for one in settings.each_source()]
    if turns is None or turns.replay is None:
        return setups
    return [replace(setup, replay=turns.replay.sources[setup.id]) for setup in setups]


def looks_early(early: bool | Literal["auto"], engine: Engine, frames_per_second: int) -> bool:  # noqa: FBT001 - the setting itself
    """Return whether pictures are encoded as they come.

    Args:
        early: `model.early`.
        engine: says what a picture costs (`picture_ms`), where that was recorded when it was made.
        frames_per_second: pictures of a segment.
    """
    if isinstance(early, bool):
        return early
    picture_ms: float | None = getattr(engine, "picture_ms", None)
    return picture_ms is not None and picture_ms * frames_per_second >= EARLY_PAYS_MS


def check_model(settings: Settings) -> None:
    """Check the labels and thresholds of every source against the card of the model.

    Raises:
        SettingsError: when the settings contradict the card.
        ModelError: when the model cannot be used.
    """
    bundle = choose_bundle(settings.model.name, settings.model.weights_dir).bundle
    source_controls(settings, PlanMaker(LabelTable(bundle, settings.labels), bundle.card))


def localizer_head(card: ModelCard) -> Head:
    """Return which head of the card's network decides on streams."""
    options = card.localizer.options
    untrained = options.get("segment_head") == "untrained" and options.get("supervision", "fully") == "fully"
    return "two_stage" if untrained else "segment"


def _run_once(extractor: Extractor, localizer: Localizer, card: ModelCard, frames_per_second: int) -> None:
    """Run every network once on silence and black pictures, so that the first real segment does not pay for lazy set-up."""
    silence = np.zeros(SAMPLES_PER_SEGMENT, np.float32)
    dark = np.zeros((frames_per_second, *card.visual.picture, 3), np.uint8)
    first = extractor.extract([Segment(index=0, start_ns=0, audio=silence, frames=dark)])[0]
    segments = tuple(_moved(first, index) for index in range(WINDOW_SEGMENTS))
    localizer.localize([Window(segments=segments)])


def _moved(features: SegmentFeatures, index: int) -> SegmentFeatures:
    return replace(features, index=index, start_ns=index * SEGMENT_NS)
