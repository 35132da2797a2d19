"""Chooses the labels of each source: those of the model, presets, and labels by definition, and lays them out as columns of scores.

A label by definition was never trained. Its logit is lowered until hardly any of the bundle's reference segments reaches the threshold.
Labels compete for probability, because neighbours do: a banjo is hardly told from a guitar. The model's labels and the competitors always
compete, chosen or not: on 187 labelled recordings this cost no event and left out false ones. Two labels that listen to the same class
do not compete, so a label by definition takes nothing from one that the model was trained for. Labels of another source never compete.
"""

from __future__ import annotations

import difflib
import math
import re
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from streamav.bundle import ClassEntry
from streamav.errors import SettingsError
from streamav.evidence import Column, LabelEvidence, defined, evidence_of, hidden_entries, model_columns
from streamav.vocabulary import class_exists, complete_names, find_classes
from streamav.vocabulary.presets import presets

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from streamav.bundle import Bundle, EvidenceCard
    from streamav.config import LabelSettings
    from streamav.types import Modality

__all__ = ["MODEL", "Label", "LabelTable", "defined_labels", "reference_offset"]

MODEL = "model"
"""Stands for the labels of the model, beside the names of presets."""
REFERENCE_SHARE = 0.01
"""At most this share of the reference segments, which hold no such event, may reach `on` for a label that was never trained."""
_MOST_LOWERED = 2.0
"""Most that a logit is lowered, natural logarithm of odds: a label that needs more is told apart badly, and would never be found."""
_HEARD = 0.5
"""Score from which a class counts as heard in a reference segment."""
_MARGIN = 1e-3
"""The logits stay this far below the threshold, against rounding."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """One label of a source."""

    entry: ClassEntry
    column: int
    """Its place in the scores."""
    trained: bool = True
    """True for a label of the model, False for a label by definition."""

    @property
    def modalities(self) -> tuple[Modality, ...]:
        """In what its events are found."""
        return ("sound",) if self.entry.kind == "sound" else ("sound", "picture")


class LabelTable:
    """All labels of a run. The columns of the scores are the model's classes, then what the sources add."""

    def __init__(self, bundle: Bundle, own: Mapping[str, LabelSettings] | None = None) -> None:
        """Take the labels of the model, and check the labels that the settings define.

        Args:
            bundle: the model.
            own: labels by definition, by slug.

        Raises:
            SettingsError: when a definition names a class that does not exist.
            ModelError: when the bundle lacks an array of its evidence.
        """
        self._bundle = bundle
        self._card = bundle.card
        self._own = {slug: _own_entry(slug, label, self._card.evidence) for slug, label in (own or {}).items()}
        self._entries = list(self._card.classes)
        self._models = frozenset(range(len(self._entries)))
        self._columns = [Column(number, self._models) for number in sorted(self._models)]
        if self._card.evidence is not None:
            self._columns = model_columns(self._card.classes, self._card.evidence)
            self._entries += hidden_entries(self._card.classes, self._card.evidence)
        self._rivals = frozenset(range(len(self._entries)))
        learned, replaced = ((), ()) if self._card.evidence is None else (self._card.evidence.own, self._card.evidence.replaced)
        self._learned = frozenset(place for place in self._models if self._entries[place].slug in learned)
        self._twins = frozenset(place for place in self._rivals - self._models if self._entries[place] in replaced)
        self._classes = [frozenset(find_classes("hear", entry.hear)) for entry in self._entries]
        self._arrays = {} if self._card.evidence is None else bundle.weights("evidence")
        self._offsets: dict[ClassEntry, ClassEntry] = {}
        self.notes: list[str] = []
        """What a user should know, one sentence each."""

    def evidence(self) -> LabelEvidence | None:
        """Return the evidence of all labels chosen so far; None for a model whose localizer alone decides."""
        return evidence_of(self._bundle, self._entries, self._columns)

    def choose(self, wanted: Sequence[str] | None = None) -> tuple[Label, ...]:
        """Return the labels of one source.

        Args:
            wanted: presets and single labels, as in `DetectionSettings.labels`; None for the model's labels and those by definition.

        Raises:
            SettingsError: when there is no such label or preset.
        """
        slugs = self._slugs(wanted)
        if self._card.evidence is None:
            return self._without_evidence(slugs, asked=wanted is not None or bool(self._own))
        found = {slug: entry for slug in slugs if (entry := self._entry(slug, self._card.evidence)) is not None}
        if missing := [slug for slug in slugs if slug not in found]:
            self.note(f"labels left out, because model {self._card.name} has no picture class for them: {', '.join(missing)}")
        if not found:
            msg = f"detection.labels must leave at least one label that model {self._card.name} can find, got {', '.join(slugs)}"
            raise SettingsError(msg)
        places = self._placed(list(found.values()))
        return tuple(
            Label(entry=self._entries[place], column=self._column(place, places), trained=place in self._models) for place in places
        )

    def _slugs(self, wanted: Sequence[str] | None) -> list[str]:
        """Return the slugs that are asked for, in order."""
        groups = {MODEL: self._card.slugs, **presets()}
        words = [MODEL] if wanted is None else wanted
        known = {*self._own, *self._card.slugs, *defined_labels()}
        for word in words:
            if word not in groups and word not in known:
                near = self._nearest(word, sorted({*groups, *known}))
                msg = (
                    f"detection.labels (--labels): there is no label or preset {word!r}; the nearest is {near}; presets are "
                    f"{', '.join(groups)}; look at streamav labels list, or define [labels.{word}]"
                )
                raise SettingsError(msg)
        slugs = [slug for word in words for slug in groups.get(word, (word,))]
        own = self._own if all(word in groups for word in words) else ()
        return list(dict.fromkeys([*slugs, *own]))

    def _nearest(self, word: str, known: Sequence[str]) -> str:
        """Return the label that a word means: one with it in its name or in the names of its classes, else the one that is spelt alike."""
        entries = [*self._own.values(), *self._card.classes, *defined_labels().values()]
        spoken = [(entry, entry.name) for entry in entries] + [(entry, " ".join((*entry.hear, *entry.see))) for entry in entries]
        for entry, names in spoken:
            if word.casefold() in re.findall(r"\w+", names.casefold()):
                return f"{entry.slug} ({entry.name})"
        return difflib.get_close_matches(word, known, n=1, cutoff=0.0)[0]

    def _without_evidence(self, slugs: Sequence[str], *, asked: bool) -> tuple[Label, ...]:
        """Return the model's own labels, all of them when others are asked for."""
        kept = self._card.slugs
        if not set(slugs) & set(self._own) and set(slugs) <= set(kept):
            kept = tuple(slugs)
        elif asked:
            self.note(
                f"model {self._card.name} knows no other labels than its own: its encoders do not score classes, so it keeps "
                f"its {len(kept)} labels; presets and labels by definition need a model such as edge"
            )
        numbers = {slug: number for number, slug in enumerate(self._card.slugs)}
        return tuple(Label(entry=self._card.classes[numbers[slug]], column=numbers[slug]) for slug in kept)

    def _entry(self, slug: str, card: EvidenceCard) -> ClassEntry | None:
        """Return the definition of a label: the user's, the model's, or this project's; None when this model cannot see it."""
        if slug in self._own:
            return self._own[slug]
        if slug in self._card.slugs:
            return self._card.classes[self._card.slugs.index(slug)]
        entry = defined_labels()[slug]
        see = tuple(name for name in entry.see if class_exists("see", name, card.probes))
        if entry.see and not see:
            return None
        return entry.model_copy(update={"see": see})

    def _placed(self, chosen: Sequence[ClassEntry]) -> list[int]:
        """Return the places of the labels among all labels of the run; new ones are calibrated and added."""
        models = {entry: number for number, entry in enumerate(self._card.classes)}
        fresh = [entry for entry in chosen if entry not in models and entry not in self._offsets]
        for entry, ready in zip(fresh, self._calibrated(fresh), strict=True):
            self._offsets[entry] = ready
            self._entries.append(ready)
            self._classes.append(frozenset(find_classes("hear", ready.hear)))
        return [models[entry] if entry in models else self._entries.index(self._offsets[entry]) for entry in chosen]

    def _column(self, place: int, chosen: Sequence[int]) -> int:
        """Return the column of a label among the labels chosen with it, and add it when there is none yet."""
        named = {self._entries[other].slug for other in chosen}
        if place in self._models and self._models >= set(chosen):
            return place
        if self._entries[place].kind == "sound":
            rivals = frozenset[int]()
        else:
            kept = self._models | self._twins
            hidden = {other for other in self._rivals if other in kept or self._entries[other].slug not in named}
            rivals = frozenset(other for other in {*chosen, *hidden} if other == place or self._competes(other, place))
        column = Column(place, rivals)
        if column not in self._columns:
            self._columns.append(column)
        return self._columns.index(column)

    def _competes(self, other: int, place: int) -> bool:
        """Return whether a label takes probability from another.

        All that the model was measured with compete: its labels and the competitors; its own labels only as `model_columns` says. Others
        do when they share no name and no sound. A label that was learned from own clips takes nothing from others.
        """
        if place in self._models and other in self._rivals:
            return other in self._columns[place].rivals
        if other in self._learned:
            return False
        return self._entries[other].slug != self._entries[place].slug and not self._classes[other] & self._classes[place]

    def _calibrated(self, entries: Sequence[ClassEntry]) -> list[ClassEntry]:
        """Return labels by definition with the offset that keeps the reference segments below `on`."""
        card = self._card.evidence
        if card is None or not entries:
            return list(entries)
        evidence = LabelEvidence(card, entries, self._arrays)
        logits = np.concatenate([evidence.logits([one]) for one in evidence.reference()])
        heard = self._arrays["reference.heard"]
        taught = frozenset[int]().union(*self._classes[: len(self._card.classes)])
        on = self._card.detection.on
        ready = []
        for entry, reached in zip(entries, logits.T, strict=True):
            shared = sorted(taught & set(find_classes("hear", entry.hear)))
            quiet = reached[(heard[:, shared] < _HEARD).all(axis=1)]
            ready.append(entry.model_copy(update={"offset": reference_offset(quiet, on)}))
        return ready

    def note(self, sentence: str) -> None:
        """Keep a sentence for the user, once."""
        if sentence not in self.notes:
            self.notes.append(sentence)


@cache
def defined_labels() -> Mapping[str, ClassEntry]:
    """Return the definitions by slug: the labels of the models in the package, then labels that no model was trained for."""
    return {entry.slug: entry for file in ("labels", "further") for entry in defined(file)}


def reference_offset(logits: NDArray[np.float32], on: float) -> float:
    """Return what lowers logits, shape (R,), until at most `REFERENCE_SHARE` of them reach the probability *on*; 0 when none needs it.

    Segments where a class is heard that a label of the model listens to are not among *logits*: they may hold the event.
    """
    allowed = math.floor(REFERENCE_SHARE * len(logits))
    if len(logits) <= allowed or not 0.0 < on < 1.0:
        return 0.0
    highest = float(np.sort(logits)[-1 - allowed])
    return round(min(0.0, max(-_MOST_LOWERED, math.log(on / (1.0 - on)) - highest - _MARGIN)), 4)


def _own_entry(slug: str, label: LabelSettings, card: EvidenceCard | None) -> ClassEntry:
    """Return a label of the settings with the names of its classes completed."""
    try:
        hear = complete_names("hear", label.hear)
        see = label.see if card is None else complete_names("see", label.see, card.probes)
    except SettingsError as exc:
        msg = f"labels.{slug}.{exc}"
        raise SettingsError(msg) from exc
    return ClassEntry(slug=slug, name=label.name or slug.replace("_", " ").capitalize(), kind=label.kind, hear=hear, see=see)
