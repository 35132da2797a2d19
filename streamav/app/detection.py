"""Decides which labels a source has, and how each of them becomes events."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

from streamav.capture.address import is_live
from streamav.config import ClassSettings
from streamav.errors import SettingsError
from streamav.labels import MODEL, Label, LabelTable
from streamav.tracker import LabelOptions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streamav.bundle import ModelCard
    from streamav.config import DetectionSettings, OneOfSources

__all__ = ["chosen_labels", "label_options"]

_HOME = "home"
"""Preset of cameras and network streams."""


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
        live = one.camera is not None or one.mic is not None or (one.uri is not None and is_live(one.uri))
    if wanted is None and live and card.evidence is not None and card.profile != "custom":
        labels = table.choose((_HOME,))
        table.note(
            f"labels of the preset {_HOME}, the default of cameras and network streams ({len(labels)} labels); "
            f"for the {len(card.classes)} of the model add --labels {MODEL}"
        )
        return labels
    return table.choose(wanted)


def label_options(card: ModelCard, detection: DetectionSettings, labels: Sequence[Label] | None = None) -> tuple[LabelOptions, ...]:
    """Return how each enabled label becomes events; `thresholds.resolve` defines where each value is taken from.

    Args:
        card: the model's card; its values for a single class hold for that class as it was trained, not for a label by definition.
        detection: settings of the source.
        labels: labels of the source; None for all of the model.

    Raises:
        SettingsError: when the settings name a label that neither the source nor the model has, leave none, or put `off` above `on`.
    """
    if labels is None:
        labels = [Label(entry=entry, column=number) for number, entry in enumerate(card.classes)]
    known = list(dict.fromkeys([*(label.entry.slug for label in labels), *card.slugs]))
    for name in detection.classes:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.0)[0]
            msg = f"detection.classes.{name}: model {card.name} has no such label; the nearest is {near}, all are: {', '.join(known)}"
            raise SettingsError(msg)
    own = {name: detection.classes.get(name, ClassSettings()) for name in known}
    options = tuple(
        LabelOptions(
            label=(slug := label.entry.slug),
            label_name=label.entry.name,
            class_id=card.slugs.index(label.entry.slug) if label.trained else label.column,
            column=label.column,
            thresholds=card.detection.thresholds(slug, detection, own[slug], trained=label.trained),
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
