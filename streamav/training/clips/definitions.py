"""Finds the definition of a user's class: by its name, or by the classes that speak for it in the user's clips.

It reads no file and fits no weight. A definition is two lists of names, so a user can read and correct what was found.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from streamav.bundle import ClassEntry
from streamav.labels import defined_labels
from streamav.vocabulary import class_exists, class_names, group_names

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from streamav.bundle import ModelCard
    from streamav.vocabulary import Sense

__all__ = ["found_names", "named_definition"]

_MOST = {"hear": 2, "see": 4}
"""Most classes that are taken from clips. Of 1 to 4 and 2 to 10 tried on 187 recordings, these had the fewest false events."""
_LEAST_APART = 1.0
"""Least mean distance of a class from the reference segments, in their deviations."""
_LEAST_SHARE = 0.4
"""Least distance of a class, as a share of the largest."""
_DOUBT = 0.5
"""Recordings without any distance that are added in the mean: one clip says less than two."""


def named_definition(slug: str, card: ModelCard) -> ClassEntry:
    """Return the definition for the name of a class: a label of the model or the package, or classes of that name. Lists may be empty."""
    evidence = card.evidence
    probes = () if evidence is None else evidence.probes
    held = () if evidence is None else evidence.replaced
    for entry in (*held, *card.classes):
        if entry.slug == slug and not (evidence is not None and slug in evidence.own and entry not in held):
            return entry
    known = defined_labels().get(slug)
    if known is not None:
        return known.model_copy(update={"see": tuple(name for name in known.see if class_exists("see", name, probes))})
    words = slug.replace("_", " ")
    hear, see = (tuple(name for name in (_same_name(sense, words),) if name) for sense in ("hear", "see"))
    return ClassEntry(slug=slug, name=words.capitalize(), hear=hear, see=see)


def found_names(sense: Sense, distances: Sequence[NDArray[np.floating]]) -> tuple[str, ...]:
    """Return the names of the classes that speak for a label, the strongest first; for "hear" at least one.

    Args:
        sense: which list.
        distances: for each recording, how far each class lies above the reference segments, in their deviations, shape (H,) or (K,).
    """
    names = class_names(sense)
    count = len(distances)
    mean = np.sum(distances, axis=0) / (count + _DOUBT)
    order = [int(index) for index in np.argsort(-mean, kind="stable") if index not in _doubled(sense)][: _MOST[sense]]
    least = max(_LEAST_APART * count / (count + _DOUBT), _LEAST_SHARE * float(mean[order[0]]))
    kept = [index for index in order if mean[index] >= least]
    return tuple(names[index] for index in (kept or (order[:1] if sense == "hear" else [])))


@cache
def _doubled(sense: Sense) -> frozenset[int]:
    """Return the places of names that occur twice (a crane is a bird and a machine), which a definition cannot name."""
    names = class_names(sense)
    return frozenset(place for place, name in enumerate(names) if names.count(name) > 1)


def _same_name(sense: Sense, words: str) -> str | None:
    """Return the only class, or the group of classes, with exactly this name or with it between commas."""
    if sense == "see" and words in group_names():
        return words
    names = [name for name in class_names(sense) if words in (part.strip().lower() for part in name.split(","))]
    return names[0] if len(names) == 1 else None
