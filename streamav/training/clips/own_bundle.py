"""Writes a model with own labels: the base model as it is, with definitions, corrections and thresholds of the labels added."""

from __future__ import annotations

from typing import TYPE_CHECKING

from streamav.bundle import Metrics, TrainingData, write_bundle
from streamav.bundle.card import card_name
from streamav.bundle.tensors import PARTS
from streamav.training.clips.own_labels import with_own_labels
from streamav.training.experiments.export import smallest

if TYPE_CHECKING:
    from pathlib import Path

    from streamav.bundle import Bundle
    from streamav.training.clips.own_checks import Check
    from streamav.training.clips.own_labels import Learned

__all__ = ["write_own_bundle"]


def write_own_bundle(
    path: Path, base: Bundle, learned: Learned, check: Check, *, clips: int, command: str, replace: bool = False
) -> Bundle:
    """Write the bundle.

    Args:
        path: folder to make.
        base: the model that the labels were learned on; its weights are copied.
        learned: the labels.
        check: their thresholds and figures.
        clips: number of clips, for the card.
        command: the command line, for the card.
        replace: replace an existing bundle.

    Raises:
        ModelError: when the bundle cannot be written.
    """
    card, arrays = with_own_labels(base.card, base.weights("evidence"), learned)
    slugs = {entry.slug for entry in learned.entries}
    own = TrainingData(
        name="own clips",
        source="clips given to `streamav train`",
        licence="as of your clips",
        note=f"{clips} clips; the labels {', '.join(sorted(slugs))}",
    )
    classes = {**card.detection.classes, **{slug: one for slug, one in check.detection.items() if slug in slugs}}
    figures = {"own_seconds_right": check.right, "own_always_background": check.background}
    for one in check.labels:
        if one.measured:
            figures |= {f"own_{one.label}_events": one.events, f"own_{one.label}_named": one.named, f"own_{one.label}_false": one.false}
    whole = card.model_copy(
        update={
            "name": card_name(path.absolute().name, "model"),
            "version": "1",
            "profile": "custom",
            "detection": card.detection.model_copy(update={"classes": classes}),
            "training_data": (own, *(one for one in card.training_data if one.name != own.name)),
            "licence_note": f"You added labels from your clips to {base.card.name}: {base.card.licence_note}",
            "metrics": Metrics(command=command, values={name: round(float(value), 4) for name, value in figures.items()}),
        }
    )
    tensors = {f"{part}.{name}": smallest(value) for part in PARTS if part != "evidence" for name, value in base.weights(part).items()}
    tensors |= {f"evidence.{name}": smallest(value) for name, value in arrays.items()}
    return write_bundle(path, whole, tensors, replace=replace)
