"""Decides which labels a source has, and how each of them becomes events, at the start and at each change."""

from __future__ import annotations

import difflib
import json
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from streamav.app.label_rules import label_rules
from streamav.capture.address import is_live
from streamav.config import ClassSettings
from streamav.control import Controls, SourcePlan, kept_path
from streamav.errors import CaptureError, SettingsError
from streamav.labels import MODEL, Label
from streamav.privacy import cannot_hear_speech
from streamav.publish.homeassistant import Devices, shared_entity
from streamav.publish.state_folder import default_state_dir
from streamav.publish.topics import Topics
from streamav.tracker import LabelOptions

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from streamav.bundle import ModelCard
    from streamav.config import DetectionSettings, OneOfSources, Settings
    from streamav.labels import LabelTable

__all__ = ["PlanMaker", "check_entities", "chosen_labels", "kept_note", "label_options", "named", "source_controls"]

_MOST_TOLD = 5
_HOME = "home"
"""Preset of cameras and network streams."""


_LONGEST_NAME = 100
"""Letters of a name that are compared and shown; labels have at most 64."""


@dataclass(frozen=True, slots=True)
class PlanMaker:
    """Turns the detection of a source into its plan."""

    table: LabelTable
    """Labels of the run; those of the sources are added to it."""
    card: ModelCard
    chosen: dict[str, tuple[Label, ...]] = field(default_factory=dict)
    """Labels of each source."""

    def labels(self, one: OneOfSources, *, live: bool | None = None) -> tuple[Label, ...]:
        """Return the labels of a source; arguments and errors are those of `chosen_labels`."""
        return chosen_labels(self.table, one, self.card, live=live)

    def plan(self, source: str, detection: DetectionSettings, labels: Sequence[Label] | None = None) -> SourcePlan:
        """Return the plan of a source.

        Args:
            source: its id.
            detection: complete settings of its detection.
            labels: its labels; None for those in `chosen`.

        Raises:
            SettingsError: when the settings contradict the model.
        """
        card = self.card
        if "mute_speech" in detection.privacy and card.evidence is None:
            msg = f"detection.privacy: {cannot_hear_speech(card.name)}"
            raise SettingsError(msg)
        return SourcePlan(
            source=source,
            detection=detection,
            labels=label_options(card, detection, self.chosen[source] if labels is None else labels),
            latency_segments=detection.latency_segments or card.detection.latency_segments,
            on=card.detection.on if detection.on is None else detection.on,
        )


def source_controls(settings: Settings, plans: PlanMaker, *, keep: bool = False, live: Mapping[str, bool] | None = None) -> Controls:
    """Return what each source detects, ready for changes.

    Args:
        settings: all settings of the run.
        plans: makes the plans; the labels of the sources are added to it.
        keep: True uses the changes that an earlier run kept, and keeps new ones.
        live: source id -> whether it is live, for sources that the settings do not describe.

    Raises:
        SettingsError: when the settings contradict the model; where there are several sources it names the source.
    """
    sources = settings.each_source()
    for one in sources:
        with named(one, settings):
            plans.chosen[one.id] = plans.labels(one, live=(live or {}).get(one.id))
    for one in sources:
        with named(one, settings):
            plans.plan(one.id, one.detection)
    check_entities(settings, plans.chosen)
    path = kept_path(settings.state_dir if settings.state_dir is not None else default_state_dir()) if keep else None
    return Controls({one.id: one.detection for one in sources}, plans.plan, path)


def check_entities(settings: Settings, chosen: Mapping[str, Sequence[Label]]) -> None:
    """Check that all entities of Home Assistant have ids of their own, where it is told of the sources.

    Args:
        settings: settings of the run.
        chosen: labels of each source.

    Raises:
        SettingsError: when two entities would have one id.
    """
    mqtt = settings.mqtt
    if mqtt is None or not mqtt.homeassistant:
        return
    labels = {source: [label.entry.slug for label in each] for source, each in chosen.items()}
    found = shared_entity(Devices(Topics(mqtt.base), mqtt.homeassistant_prefix, labels, commands=mqtt.commands))
    if found is not None:
        entity, sources = found
        msg = (
            f"sources: Home Assistant would get one id, {entity}, for two entities, of {' and of '.join(sources)}, and drop the second; "
            "set another id for one of the sources, or set mqtt.homeassistant = false"
        )
        raise SettingsError(msg)


def kept_note(controls: Controls) -> str | None:
    """Return which kept changes hold instead of the configuration, as a sentence for the user; None without any."""
    found = controls.differences()
    if not found:
        return None
    told = [f"{one.source} detection.{one.setting} = {json.dumps(one.value)}" for one in found[:_MOST_TOLD]]
    rest = len(found) - len(told)
    more = f" and {rest} more" if rest else ""
    return f"changes that earlier runs kept hold instead of the configuration: {', '.join(told)}{more} (streamav changes shows them)"


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


def chosen_labels(table: LabelTable, one: OneOfSources, card: ModelCard, *, live: bool | None = None) -> tuple[Label, ...]:
    """Return the labels of a source: those of its settings, else the preset `home` for cameras and network streams, else the model's.

    A model that a user trained on clips keeps its own labels, which the user chose.

    Args:
        table: all labels that there are.
        one: the source.
        card: the model's card.
        live: whether the source is live; None where its settings say so.

    Raises:
        SettingsError: when the settings name a label that does not exist.
    """
    wanted = one.detection.labels
    if live is None:
        live = one.camera_device is not None or one.mic_device is not None or (one.uri is not None and is_live(one.uri))
    if wanted is None and live and card.evidence is not None and card.profile != "custom":
        labels = table.choose((_HOME,))
        table.note(
            f"labels of the preset {_HOME}, the default of cameras and network streams ({len(labels)} labels); "
            f"for the {len(card.classes)} of the model add --labels {MODEL}"
        )
        return labels
    return table.choose(wanted)


def label_options(card: ModelCard, detection: DetectionSettings, labels: Sequence[Label] | None = None) -> tuple[LabelOptions, ...]:
    """Return how each enabled label becomes events; `thresholds.resolve` and `label_rules` define where each value is taken from.

    Args:
        card: the model's card; its values for a single class hold for that class as it was trained, not for a label by definition.
        detection: settings of the source.
        labels: labels of the source; None for all of the model.

    Raises:
        SettingsError: when the settings name a label that neither the source nor the model has, leave none, put
            `off` above `on`, or give a rule that cannot be.
    """
    if labels is None:
        labels = [Label(entry=entry, column=number) for number, entry in enumerate(card.classes)]
    known = list(dict.fromkeys([*(label.entry.slug for label in labels), *card.slugs]))
    for name in detection.classes:
        if name not in known:
            shown = name[:_LONGEST_NAME]  # the search for the nearest takes minutes for a name of 100,000 letters
            near = difflib.get_close_matches(shown, known, n=1, cutoff=0.0)[0]
            msg = f"detection.classes.{shown}: model {card.name} has no such label; the nearest is {near}, all are: {', '.join(known)}"
            raise SettingsError(msg)
    own = {name: detection.classes.get(name, ClassSettings()) for name in known}
    options = tuple(
        LabelOptions(
            label=(slug := label.entry.slug),
            label_name=label.entry.name,
            class_id=card.slugs.index(label.entry.slug) if label.trained else label.column,
            column=label.column,
            thresholds=card.detection.thresholds(slug, detection, own[slug], trained=label.trained),
            rules=label_rules(slug, detection, own[slug], seen="picture" in label.modalities),
            modalities=label.modalities,
            trained=label.trained,
        )
        for label in labels
        if own[label.entry.slug].enabled
    )
    if not options:
        msg = "detection.classes must leave at least one label enabled, got none"
        raise SettingsError(msg)
    return options
