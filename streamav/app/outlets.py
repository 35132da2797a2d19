"""Builds what takes the events of a run: files, clips, the journal, the broker, the live page and the HTTP API."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from streamav.journal import JournalSink, journal_path
from streamav.publish import JsonlSink

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from streamav.api import HttpApi, KnownSource
    from streamav.app.membership import Membership
    from streamav.bundle import Bundle, ModelCard
    from streamav.clips import ClipSink, PacketRing
    from streamav.clips.masks import ClipMasks
    from streamav.clips.ready import ReadyMedia
    from streamav.config import OneOfSources, Settings
    from streamav.control import Controls
    from streamav.pipeline import SourceSetup
    from streamav.privacy_modes import Privacy
    from streamav.protocols import Engine, Observer, Sink
    from streamav.publish import ModelEntry
    from streamav.publish.mqtt import MqttSink
    from streamav.thresholds import Thresholds
    from streamav.view import LivePage, Subject

__all__ = ["Outlets", "build_outlets", "known_source", "mqtt_sink", "packet_rings", "subject"]


@dataclass(frozen=True, slots=True)
class Outlets:
    """What takes the events of a run; None for what the settings do not ask for."""

    lines: JsonlSink | None
    clips: ClipSink | None
    journal: JournalSink | None
    mqtt: MqttSink | None
    page: LivePage | None
    api: HttpApi | None

    def sinks(self, further: Sequence[Sink]) -> list[Sink]:
        """Return all that take events, in the order in which they get them; *further* before the page and the API."""
        every = [self.lines, self.clips, self.journal, self.mqtt, *further, self.page, self.api]
        return [one for one in every if one is not None]

    def observers(self, further: Observer | None) -> list[Observer]:
        """Return all that see every turn; *further* last."""
        return [one for one in (self.page, self.api, further) if one is not None]


def build_outlets(  # noqa: PLR0913 - each argument is one part of a run
    settings: Settings,
    model: Callable[[], ModelEntry],
    setups: Sequence[SourceSetup],
    bundle: Bundle,
    controls: Controls,
    rings: Mapping[str, PacketRing],
    *,
    keeps_journal: bool,
    member: Membership | None,
    stop: Callable[[], None],
    idle_s: Callable[[], float],
) -> Outlets:
    """Build what takes the events of a run.

    Args:
        settings: all settings of the run.
        model: returns what computes events now.
        setups: the sources.
        bundle: the model.
        controls: what each source detects.
        rings: packets of each source, for clips.
        keeps_journal: True for a run that lasts.
        member: set in a worker of a cluster.
        stop: called when nobody reads the lines any more.
        idle_s: returns how long the run has computed nothing, s.
    """
    card = bundle.card
    mqtt = mqtt_sink(settings, model, controls, member)
    journal = _journal_sink(settings, model) if keeps_journal else None
    page = _live_page(settings, model, setups, card, controls, journal, mqtt)
    api = _http_api(settings, model, setups, controls, idle_s, journal, mqtt, card=card)
    lines = _jsonl_sink(settings, model, stop)
    clips = _clip_sink(settings, rings, _tell_media(settings, mqtt, api), bundle, controls)
    return Outlets(lines=lines, clips=clips, journal=journal, mqtt=mqtt, page=page, api=api)


def packet_rings(settings: Settings, sources: Sequence[OneOfSources]) -> dict[str, PacketRing]:
    """Return a ring of packets for each source, when clips are wanted."""
    if settings.clips.dir is None:
        return {}
    from streamav.clips import PacketRing, horizon_s

    return {one.id: PacketRing(horizon_s(settings.clips, one.capture.queue_segments)) for one in sources}


def _jsonl_sink(settings: Settings, model: Callable[[], ModelEntry], stop: Callable[[], None]) -> JsonlSink | None:
    """Build the writer of JSON lines, or return None when no file is set; *stop* is called when nobody reads the lines any more."""
    return None if settings.jsonl is None else JsonlSink(settings.jsonl, model, on_gone=stop)


def _clip_sink(
    settings: Settings, rings: Mapping[str, PacketRing], tell: Callable[[ReadyMedia], None], bundle: Bundle, controls: Controls
) -> ClipSink | None:
    """Build the writer of clips, or return None when no folder is set; *tell* is told on the loop which clip or snapshot is ready."""
    if settings.clips.dir is None:
        return None
    from streamav.clips import ClipSink

    sink = ClipSink(settings.clips, settings.clips.dir, rings, tell=tell, masks=_clip_masks(settings, bundle))
    controls.watch(lambda plan: sink.set_privacy(plan.source, plan.privacy))
    return sink


def _clip_masks(settings: Settings, bundle: Bundle) -> Callable[[Privacy], ClipMasks]:
    """Return what makes the masks of a clip; its engine is opened at the first clip that needs one, in the thread that writes clips."""
    from streamav.clips.masks import ClipMasks
    from streamav.engines import open_engine
    from streamav.privacy import FaceCover, FaceFinder, SpeechFinder

    @cache
    def engine() -> Engine:
        return open_engine(bundle, settings.model)

    @cache
    def faces() -> FaceFinder:
        return FaceFinder(engine(), bundle)

    @cache
    def speech() -> SpeechFinder:
        return SpeechFinder(engine(), bundle)

    def masks(privacy: Privacy) -> ClipMasks:
        return ClipMasks(FaceCover(faces()) if "blur" in privacy else None, speech().heard if "mute_speech" in privacy else None)

    return masks


def _tell_media(settings: Settings, mqtt: MqttSink | None, api: HttpApi | None) -> Callable[[ReadyMedia], None]:
    """Return what tells the broker where a clip or snapshot can be fetched: nowhere without the HTTP API, which serves them."""

    def tell(ready: ReadyMedia) -> None:
        base = settings.clips.url or (None if api is None else api.address)
        url = None if base is None or api is None else f"{base.rstrip('/')}/api/events/{ready.event_id}/{ready.kind}"
        if mqtt is not None and ready.jpeg is not None:
            mqtt.snapshot(ready.source, ready.jpeg)
        if mqtt is not None and url is not None:
            mqtt.media(ready.event_id, **({"clip_url": url} if ready.kind == "clip" else {"snapshot_url": url}))

    return tell


def _journal_sink(settings: Settings, model: Callable[[], ModelEntry]) -> JournalSink | None:
    """Build the journal, or return None where the settings turn it off."""
    if not settings.journal.enabled:
        return None
    return JournalSink(journal_path(settings.state_dir), settings.journal, model)


def mqtt_sink(settings: Settings, model: Callable[[], ModelEntry], controls: Controls, member: Membership | None = None) -> MqttSink | None:
    """Build the client of the broker, or return None when no broker is set."""
    if settings.mqtt is None:
        return None
    from streamav.publish.mqtt import MqttIdentity, MqttSink

    names = {label: own.name for label, own in settings.labels.items() if own.name is not None}
    if member is not None:  # its sources come with orders, and what they detect is decided by the settings alone
        identity = MqttIdentity(model=model, sources={}, names=names, worker=member.worker, permit=member.permit)
        return MqttSink(settings.mqtt, identity, settings.state_dir)
    sources = {source: list(controls.labels(source)) for source in controls.sources}
    return MqttSink(settings.mqtt, MqttIdentity(model=model, sources=sources, names=names, controls=controls), settings.state_dir)


def _live_page(
    settings: Settings,
    model: Callable[[], ModelEntry],
    setups: Sequence[SourceSetup],
    card: ModelCard,
    controls: Controls,
    journal: JournalSink | None,
    mqtt: MqttSink | None,
) -> LivePage | None:
    """Build the live page, or return None when nobody asks for it; its packages are an extra, and are loaded only here."""
    if not settings.view.enabled:
        return None
    from streamav.journal import explain_moment
    from streamav.privacy import mosaic
    from streamav.publish.state_folder import default_state_dir
    from streamav.review import Answers, Desk, Reviewed, broker_state, review_routes
    from streamav.view import LivePage

    def thresholds(source: str) -> dict[str, Thresholds]:
        return {one.label: one.thresholds for one in controls.plan(source).labels}

    answers = Answers(
        thresholds=thresholds,
        why=lambda history, source, at_s: explain_moment(history, source, at_s, lambda _: controls.plan(source).labels, card.visual.grid),
        reviewed=Reviewed((settings.state_dir or default_state_dir()) / "reviewed"),
        journal=None if journal is None else journal.path,
        clips=settings.clips.dir,
        change=controls.change,
        zones=lambda source: controls.plan(source).detection.zones,
    )
    whole = np.ones((card.visual.grid, card.visual.grid), np.bool_)
    page = LivePage(
        settings.view,
        model,
        [subject(setup, card) for setup in setups],
        further=lambda moments, tokens: review_routes(Desk(answers), moments, tokens),
        offers={"changes": True, "journal": answers.journal is not None},
        broker=lambda: None if mqtt is None else broker_state(mqtt.counters),
        hide=lambda picture: mosaic(picture, whole),
    )
    controls.watch(lambda plan: page.set_privacy(plan.source, plan.privacy))
    controls.listen(lambda plan: page.changed(plan.source, thresholds(plan.source)))
    return page


def subject(setup: SourceSetup, card: ModelCard) -> Subject:
    """Return what the page, or a report, must know of a source."""
    from streamav.features import log_mel_options
    from streamav.view import ShownLabel, Subject

    return Subject(
        id=setup.id,
        labels=tuple(ShownLabel(label=one.label, name=one.label_name, thresholds=one.thresholds) for one in setup.labels),
        columns=tuple(one.place for one in setup.labels),
        latency_segments=setup.latency_segments,
        live=setup.source.live,
        front_end=log_mel_options(card.audio),
    )


def known_source(setup: SourceSetup, controls: Controls, card: ModelCard) -> KnownSource:
    """Return what the HTTP API must know of a source."""
    from streamav.api import KnownSource

    return KnownSource(
        id=setup.id,
        live=setup.source.live,
        latency_segments=setup.latency_segments,
        labels=lambda: controls.plan(setup.id).labels,
        grid=card.visual.grid,
        detection=lambda: controls.plan(setup.id).detection,
    )


def _http_api(  # noqa: PLR0913 - each argument is one part of a run
    settings: Settings,
    model: Callable[[], ModelEntry],
    setups: Sequence[SourceSetup],
    controls: Controls,
    idle_s: Callable[[], float],
    journal: JournalSink | None,
    mqtt: MqttSink | None,
    *,
    card: ModelCard,
) -> HttpApi | None:
    """Build the HTTP API, or return None when nobody asks for it; its packages are an extra, and are loaded only here."""
    if settings.http.listen is None:
        return None
    from streamav.api import Facts, HttpApi
    from streamav.engines import gpu_memory_bytes

    facts = Facts(
        sources=[known_source(setup, controls, card) for setup in setups],
        model=model,
        idle_s=idle_s,
        journal=None if journal is None else journal.path,
        journal_lost=lambda: 0 if journal is None else journal.lost,
        clips=settings.clips.dir,
        mqtt=None if mqtt is None else mqtt.counters,
        gpu_memory=gpu_memory_bytes,
        change=controls.change if settings.http.commands else None,
    )
    return HttpApi(settings.http, facts)
