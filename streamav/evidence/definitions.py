"""What a label is made of: classes of the encoders, what competes with it, and its column in the answer."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

from streamav.bundle.card import ClassEntry
from streamav.vocabulary import class_names, definitions, find_classes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streamav.bundle.card import EvidenceCard

__all__ = ["Column", "LabelClasses", "competitors", "defined", "hidden_entries", "model_columns", "resolved"]


class Column(NamedTuple):
    """One column of the probabilities."""

    label: int
    """Which of the labels."""
    rivals: frozenset[int]
    """Labels that share the probability with it; itself and sounds do not count."""


@dataclass(frozen=True, eq=False, slots=True)
class LabelClasses:
    """Indices of the classes of one label."""

    heard: tuple[int, ...]
    """Of AudioSet classes."""
    seen: tuple[int, ...]
    """Of ImageNet classes."""
    probed: tuple[int, ...]
    """Of the bundle's own picture classes."""
    sound: bool
    """Whether it is heard alone."""


def competitors() -> tuple[ClassEntry, ...]:
    """Return the things that compete with every model's labels."""
    return defined("competitors")


@cache
def defined(file: str) -> tuple[ClassEntry, ...]:
    """Return the labels of a file of definitions in the package, without its ending: "labels", "further", "competitors"."""
    return tuple(ClassEntry.model_validate({"slug": slug, **values}) for slug, values in definitions(file).items())


def hidden_entries(classes: Sequence[ClassEntry], card: EvidenceCard) -> list[ClassEntry]:
    """Return what competes with a model's labels and is never published: competitors, and what own labels replaced."""
    slugs = {entry.slug for entry in classes} - set(card.own) | {entry.slug for entry in card.replaced}
    return [*(one for one in competitors() if one.slug not in slugs), *card.replaced]


def model_columns(classes: Sequence[ClassEntry], card: EvidenceCard) -> list[Column]:
    """Return a column for each label of a model, among its labels and its hidden entries in this order.

    Own labels take nothing from the others, so these have the scores of the base model. An own label competes with the other own labels,
    and with everything that has another slug and listens to other classes: my_dog takes nothing from bark, and bark nothing from it.
    """
    entries = [*classes, *hidden_entries(classes, card)]
    own = {number for number, entry in enumerate(classes) if entry.slug in card.own}
    base = frozenset(range(len(entries))) - own
    if not own:
        return [Column(number, base) for number in range(len(classes))]
    hear = [frozenset(find_classes("hear", entry.hear)) for entry in entries]
    columns = []
    for number, entry in enumerate(classes):
        apart = frozenset(other for other in base if entries[other].slug != entry.slug and not hear[other] & hear[number])
        columns.append(Column(number, apart | own if number in own else base))
    return columns


def resolved(label: ClassEntry, probes: Sequence[str]) -> LabelClasses:
    """Return the classes of a label; *probes* are the names of the bundle's own picture classes.

    Raises:
        SettingsError: when a name is no class.
    """
    seen = find_classes("see", label.see, probes)
    count = len(class_names("see"))
    return LabelClasses(
        heard=find_classes("hear", label.hear),
        seen=tuple(index for index in seen if index < count),
        probed=tuple(index - count for index in seen if index >= count),
        sound=label.kind == "sound",
    )
