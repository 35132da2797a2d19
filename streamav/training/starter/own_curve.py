"""Measures how good labels from own clips are with 1, 3, 10 and more clips a label, on labelled recordings, cross-validated by group.

    python -m streamav.training.starter.own_curve --data data/real --model edge --weights data/weights --work runs/own-curve

Every label that two groups of recordings hold is learned as if it were a user's, from clips of the other groups. With "new name" the label
gets a name that says nothing, as a class that no list knows; with "known name" its definition is taken. The reference segments are drawn
from recordings of the other groups without any of the labels. The shared weights and the localizer are the model's own.
"""

from __future__ import annotations

import argparse
import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from streamav.bundle import find_bundle
from streamav.config import ModelSettings
from streamav.evaluation.recorded import JudgedRecording, figures_of
from streamav.training.clips.ave_media import local_worker
from streamav.training.clips.features import extract_clips
from streamav.training.clips.own_checks import checked, events_in, spans_in
from streamav.training.clips.own_labels import Learned, final_scores, learn, with_own_labels
from streamav.training.clips.recorded import own_recordings
from streamav.training.clips.rows import ClipOptions
from streamav.training.clips.table import read_clip_table
from streamav.training.starter.evidence import ClassScores, LabelledRecording, reference_arrays
from streamav.training.starter.own_localizer import events_by_localizer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from streamav.bundle import Bundle
    from streamav.evaluation.recordings import Span
    from streamav.training.clips.recorded import OwnRecording

__all__ = ["Fold", "dealt", "folds_of", "judged", "judged_by_labels", "spread"]

_log = logging.getLogger(__name__)
FOLDS = 6
"""Parts of the cross-validation, as in `fusion`."""
_NEW = "own_thing_{}"
"""Name of a label that says nothing; no list of classes has such a name."""


@dataclass(frozen=True, eq=False, slots=True)
class Fold:
    """One part of the recordings, and what labels are learned from."""

    test: list[OwnRecording]
    others: list[OwnRecording]
    arrays: dict[str, NDArray[np.float32]]
    """The model's evidence with reference segments of *others*."""


def folds_of(recordings: Sequence[OwnRecording], arrays: dict[str, NDArray[np.float32]], folds: int = FOLDS) -> list[Fold]:
    """Deal the recordings by group; the reference segments of each part come from the others without any label."""
    groups = sorted({one.group for one in recordings})
    np.random.default_rng(0).shuffle(groups)
    found = []
    for fold in range(folds):
        out = set(groups[fold::folds])
        others = [one for one in recordings if one.group not in out]
        quiet = [_labelled(one) for one in others if not one.truth.any()]
        found.append(Fold([one for one in recordings if one.group in out], others, {**arrays, **reference_arrays(quiet)}))
    return found


def spread(recordings: Sequence[OwnRecording], column: int, count: int, seed: int = 0) -> list[OwnRecording]:
    """Return at most *count* clips that hold a label, from as many groups as there are, in random order."""
    rng = np.random.default_rng([seed, column, count])
    groups: dict[str, list[OwnRecording]] = {}
    holding = [one for one in recordings if one.truth[:, column].any()]
    for place in rng.permutation(len(holding)):
        groups.setdefault(holding[place].group, []).append(holding[place])
    found: list[OwnRecording] = []
    while len(found) < count and any(groups.values()):
        found += [clips.pop() for clips in groups.values() if clips]
    return found[:count]


def dealt(fold: Fold, labels: int, count: int) -> list[OwnRecording]:
    """Return the clips of a user who has *count* of each label."""
    chosen = {one.file for column in range(labels) for one in spread(fold.others, column, count)}
    return [one for one in fold.others if one.file in chosen]


def judged_by_labels(fold: Fold, slugs: Sequence[str], bundle: Bundle, count: int) -> list[JudgedRecording]:
    """Judge the recordings of a fold by labels learned from *count* clips each; with 0 the definitions alone decide, by their names."""
    clips = dealt(fold, len(slugs), count)
    learned = learn(clips or fold.others, slugs, bundle.card, fold.arrays)
    if not clips:
        learned = _untrained(learned)
    detection = checked(clips, slugs, bundle.card, fold.arrays).detection if clips else {}
    card, arrays = with_own_labels(bundle.card, fold.arrays, learned)
    card = card.model_copy(update={"detection": card.detection.model_copy(update={"classes": {**card.detection.classes, **detection}})})
    chosen = [(card.slugs.index(entry.slug), entry.slug, card.detection.thresholds(entry.slug)) for entry in learned.entries]
    scores = final_scores(fold.test, card, arrays)
    return [judged(one, slugs, events_in(found, chosen)) for one, found in zip(fold.test, scores, strict=True)]


def _judged_by_localizer(fold: Fold, slugs: Sequence[str], bundle: Bundle, count: int, places: Mapping[str, Path]) -> list[JudgedRecording]:
    """Judge the recordings of a fold by a localizer trained on *count* clips of each label and on all that hold none."""
    clips = [*dealt(fold, len(slugs), count), *(one for one in fold.others if not one.truth.any())]
    events = events_by_localizer(clips, fold.test, slugs, bundle, places)
    return [judged(one, slugs, found) for one, found in zip(fold.test, events, strict=True)]


def judged(one: OwnRecording, slugs: Sequence[str], found: Sequence[Span]) -> JudgedRecording:
    """Return a recording with its true and found events."""
    true = tuple(span for column, slug in enumerate(slugs) for span in spans_in(one.truth[:, column], slug))
    return JudgedRecording(one.file, one.group, len(one.truth), true, tuple(found))


def _untrained(learned: Learned) -> Learned:
    """Return the definitions without what clips taught."""
    return Learned(tuple(one.model_copy(update={"offset": 0.0}) for one in learned.entries), np.zeros_like(learned.weights), learned.found)


def _labelled(one: OwnRecording) -> LabelledRecording:
    return LabelledRecording(one.file, one.group, ClassScores(one.heard, one.seen, one.probed, one.network, one.motion), one.truth)


def _gathered(
    data: Path, bundle: Bundle, settings: ModelSettings, work: Path
) -> tuple[list[OwnRecording], tuple[str, ...], dict[str, Path]]:
    """Return the recordings with the labels of at least two groups, these labels, and the file of each recording's features."""
    table = read_clip_table(data / "labels.csv", data, together=True)
    found = extract_clips(table, work, bundle, local_worker(bundle, settings), ClipOptions(rows=False))
    recordings = own_recordings(table, found.places, bundle)
    kept = [column for column in range(len(table.labels)) if len({one.group for one in recordings if one.truth[:, column].any()}) > 1]
    recordings = [replace(one, truth=one.truth[:, kept], somewhere=one.somewhere[kept]) for one in recordings]
    places = {table.clips[number].file: place for number, place in found.places.items()}
    return recordings, tuple(table.labels[column] for column in kept), places


def _row(name: str, recordings: Sequence[JudgedRecording]) -> str:
    figures = figures_of(recordings)
    named, false, right = figures.clips_named, figures.false_events, figures.seconds_right
    parts = (f"{named.part:g} of {named.whole:g}", f"{false.part:g}", f"{false.value or 0.0:.1f}", f"{100.0 * (right.value or 0.0):.1f}")
    return f"| {name} | {' | '.join(parts)} |"


def main() -> None:
    """Read the command line, and print one row of a Markdown table for each way of learning."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of recordings with labels.csv")
    parser.add_argument("--model", default="starter", help="name of a model with evidence, or the folder of a bundle")
    parser.add_argument("--weights", type=Path, help="folder with the encoders that the bundle does not contain")
    parser.add_argument("--work", type=Path, required=True, help="folder for the features; they are kept")
    parser.add_argument("--clips", type=int, nargs="+", default=[1, 3, 10, 30], help="numbers of clips of each label")
    parser.add_argument("--folds", type=int, default=FOLDS, help="parts of the cross-validation")
    parser.add_argument("--localizer-only", action="store_true", help="train a localizer alone instead (minutes for each part)")
    given = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s")
    bundle = find_bundle(given.model)
    settings = ModelSettings(name=given.model, weights_dir=given.weights)
    recordings, slugs, places = _gathered(given.data, bundle, settings, given.work)
    folds = folds_of(recordings, bundle.weights("evidence"), given.folds)
    new = [_NEW.format(number) for number in range(len(slugs))]
    lines = [
        f"{len(recordings)} recordings; labels: {', '.join(slugs)}",
        "",
        "| answer | clips named | false events | an hour | seconds right, % |",
    ]
    print("\n".join([*lines, "|---|---|---|---|---|"]))  # noqa: T201
    if given.localizer_only:
        for count in given.clips:
            found = [one for fold in folds for one in _judged_by_localizer(fold, slugs, bundle, count, places)]
            print(_row(f"localizer alone, {count} clips", found), flush=True)  # noqa: T201
        return
    print(_row("always background", [judged(one, slugs, ()) for one in recordings]))  # noqa: T201
    print(_row("definition, untrained", [one for fold in folds for one in judged_by_labels(fold, slugs, bundle, 0)]), flush=True)  # noqa: T201
    for count in given.clips:
        for name, used in (("new name", new), ("known name", slugs)):
            found = [one for fold in folds for one in judged_by_labels(fold, used, bundle, count)]
            print(_row(f"{name}, {count} clips", found), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
