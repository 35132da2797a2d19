"""Adds, releases and reopens sources while a run goes on, and lets everything that tells of sources follow.

prepare (any thread)   labels, plan, source, lane: all that can fail, and nothing that the run notices
apply   (any thread)   hands the exchange to the loop, which makes it between two turns: ends first, then beginnings
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from streamav.app.detection import check_entities, named
from streamav.app.outlets import known_source, packet_rings, subject

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from concurrent.futures import Future

    from streamav.api import HttpApi
    from streamav.app.detection import PlanMaker
    from streamav.app.setups import SetupMaker
    from streamav.bundle import ModelCard
    from streamav.clips import ClipSink, PacketRing
    from streamav.config import OneOfSources, Settings
    from streamav.control import Controls
    from streamav.labels import Label
    from streamav.localizer import VscgLocalizer
    from streamav.pipeline import Lane, Pipeline
    from streamav.publish.mqtt import MqttSink
    from streamav.view import LivePage

__all__ = ["Followers", "Prepared", "SourceExchange"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Followers:
    """What must know of a source before it hears of it: clips, broker, live page and HTTP API. Called on the loop."""

    controls: Controls
    card: ModelCard
    clips: ClipSink | None = None
    mqtt: MqttSink | None = None
    page: LivePage | None = None
    api: HttpApi | None = None

    def add(self, one: Prepared) -> None:
        """Follow a source that is added or starts again."""
        plan = self.controls.plan(one.settings.id)
        setup = replace(one.lane.setup, labels=plan.labels, latency_segments=plan.latency_segments)
        clips, mqtt, page, api, ring = self.clips, self.mqtt, self.page, self.api, one.ring
        if clips is not None and ring is not None:
            _try(lambda: clips.add_source(setup.id, ring))
        if page is not None:
            _try(lambda: page.add_source(subject(setup, self.card)))
        if api is not None:
            _try(lambda: api.add_source(known_source(setup, self.controls, self.card)))
        if mqtt is not None:
            _try(lambda: mqtt.add_source(setup.id, list(self.controls.labels(setup.id))))
        _try(lambda: self.controls.tell(setup.id))  # before the first segment: the privacy of the source

    def drop(self, source: str) -> None:
        """Let go of a source that is gone for good."""
        for follower in (self.clips, self.page, self.api, self.mqtt):
            if follower is not None:
                _try(partial(follower.drop_source, source))


def _try(follow: Callable[[], object]) -> None:
    try:
        follow()
    except Exception:  # noqa: BLE001 - one part that cannot follow must not end the run
        _log.exception("a part of the run could not follow a change of its sources")


@dataclass(frozen=True, slots=True)
class Prepared:
    """A source that is ready to begin."""

    settings: OneOfSources
    labels: tuple[Label, ...]
    lane: Lane
    ring: PacketRing | None


@dataclass(frozen=True, slots=True)
class SourceExchange:
    """Changes which sources a run has. One thread calls it at a time."""

    maker: SetupMaker
    plans: PlanMaker
    localizer: VscgLocalizer
    pipeline: Pipeline
    followers: Followers

    def prepare(self, settings: Settings, coming: Sequence[OneOfSources]) -> list[Prepared]:
        """Build sources; nothing of the run changes, and nothing is opened.

        Args:
            settings: the new settings of the run, to name a source in an error.
            coming: complete settings of the sources that are added or start again.

        Raises:
            SettingsError: when a source contradicts the model, or its settings contradict each other.
            CaptureError: when a file cannot be read.
        """
        maker = replace(self.maker, settings=settings)
        rings = packet_rings(self.maker.settings, coming)
        found = []
        for one in coming:
            with named(one, settings):
                labels = self.plans.labels(one)
                plan = self.plans.plan(one.id, one.detection, labels)
            setup = maker.setup(one, ring=rings.get(one.id), joining=plan)
            found.append(Prepared(one, labels, self.pipeline.sources.prepare(setup), rings.get(one.id)))
        stay = {one.id: self.plans.chosen[one.id] for one in settings.each_source() if one.id in self.plans.chosen}
        check_entities(settings, stay | {one.settings.id: one.labels for one in found})
        return found

    def apply(self, prepared: Sequence[Prepared], gone: Sequence[str]) -> Future[None]:
        """End the sources that are *gone*, and start those that were prepared; a source that runs already starts again.

        Returns:
            What is done once it has happened; it never is when the run ends before.
        """
        controls = self.followers.controls
        for one in prepared:
            self.plans.chosen[one.settings.id] = one.labels
            controls.add(one.settings.id, one.settings.detection)
        for source in gone:
            controls.remove(source)
        leaving: dict[str, Callable[[], None]] = {source: partial(self.followers.drop, source) for source in gone}
        leaving |= {one.settings.id: _nothing for one in prepared}
        begin = [(one.lane, partial(self.followers.add, one)) for one in prepared]
        return self.pipeline.sources.exchange(leaving, begin, self._columns() if prepared else _nothing)

    def _columns(self) -> Callable[[], None]:
        """Return what adds the scores of the labels that came; the columns of all others stay where they are."""
        evidence = self.plans.table.evidence()
        return _nothing if evidence is None else partial(self.localizer.use, evidence)


def _nothing() -> None:
    pass
