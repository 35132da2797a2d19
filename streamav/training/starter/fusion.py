"""Adds evidence to a model: fits it on labelled real recordings, and writes the bundle.

    python -m streamav.training.starter.fusion --model runs/edge --probes probes.npz --recordings data/real
        --weights data/weights --work runs/fusion --out streamav/models/edge

The recordings run once through the encoders and the localizer of the model, as in a live run; their scores stay in the work folder. The
command prints figures of a cross-validation by group, and fits the bundle on all recordings. It trains no network.
"""

from __future__ import annotations

import argparse
import logging
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from streamav.bundle import DetectionCard, load_bundle, write_bundle
from streamav.bundle.tensors import PARTS
from streamav.config import ModelSettings
from streamav.errors import DataError
from streamav.evaluation.counting import said_events
from streamav.evaluation.recorded import JudgedRecording, figures_of
from streamav.evaluation.recordings import Span
from streamav.evidence import LabelEvidence, competitors, defined, probe_logits
from streamav.offline import OfflineRun
from streamav.thresholds import PartialThresholds
from streamav.training.starter.evidence import fit_evidence, reference_arrays, sensed_in
from streamav.training.starter.recorded import LATENCY_SEGMENTS, labelled_recordings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from streamav.bundle import Bundle, ClassEntry, EvidenceCard, ModelCard
    from streamav.training.starter.evidence import LabelledRecording

__all__ = ["NETWORK_WEIGHT", "SHORT_LABELS", "Fused", "Material", "Operation", "cross_validated", "fuse", "gather", "write_fused"]

_log = logging.getLogger(__name__)

NETWORK_WEIGHT = 0.4
"""Weight of the localizer's own answer. On real recordings (cross-validated by group) 0.2 to 0.4 gave the same figures; on composite
streams each step up helped: event-F1 0.26 without it, 0.35 with 0.2, 0.51 with 0.4."""
SHORT_LABELS = ("bark", "bird", "cat", "cow", "frog", "gunshot", "lion", "pig", "rooster_hen", "sheep_goat")
"""Labels of sounds of half a second: one segment is enough, at a higher threshold."""
FOLDS = 6
"""Parts of the cross-validation (our choice)."""
OFF_SHARE = 0.6
"""`off` as a share of `on`."""


@dataclass(frozen=True, eq=False, slots=True)
class Fused:
    """The evidence of a model."""

    card: EvidenceCard
    labels: tuple[ClassEntry, ...]
    arrays: dict[str, NDArray[np.float32]]
    """By the names of `streamav.evidence.ARRAYS`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """What is chosen for a model by cross-validation over the groups of the real recordings; the defaults are those of edge."""

    network: float = NETWORK_WEIGHT
    """Weight of the localizer's answer."""
    on: float = 0.35
    """Threshold of a label, reached by two segments."""
    short_on: float | None = 0.5
    """Threshold of `SHORT_LABELS`, reached by one segment; None treats them as the others."""
    speech_on: float | None = None
    """Threshold of speech, whose false events are the most: voices of people who are not in the picture; None treats it as the others."""

    def thresholds(self, labels: Sequence[str]) -> DetectionCard:
        """Return the thresholds of the card of a model with these labels."""
        classes: dict[str, PartialThresholds] = {}
        if self.short_on is not None:
            short = PartialThresholds(on=self.short_on, off=round(OFF_SHARE * self.short_on, 3), min_segments=1)
            classes |= {label: short for label in SHORT_LABELS if label in labels}
        if self.speech_on is not None and "speech" in labels:
            classes["speech"] = PartialThresholds(on=self.speech_on, off=round(OFF_SHARE * self.speech_on, 3))
        return DetectionCard(
            on=self.on,
            off=round(OFF_SHARE * self.on, 3),
            min_segments=2,
            gap_segments=1,
            latency_segments=LATENCY_SEGMENTS,
            classes=classes,
        )


@dataclass(frozen=True, eq=False, slots=True)
class Material:
    """What evidence is fitted on."""

    recordings: list[LabelledRecording]
    labels: tuple[ClassEntry, ...]
    probes: tuple[str, ...]
    own: dict[str, NDArray[np.float32]]
    """The arrays probes.* and drawn.* of `streamav.evidence.ARRAYS`."""


def gather(
    bundle: Bundle, probes: Mapping[str, NDArray[np.float32]], folders: Sequence[Path], settings: ModelSettings, work: Path
) -> Material:
    """Run a bundle over labelled recordings, or read what an earlier run kept.

    Args:
        bundle: a model without evidence, whose encoders score their own classes.
        probes: "names" of further picture classes, and the arrays probes.* and drawn.* of `streamav.evidence.ARRAYS`.
        folders: folders of recordings with labels.csv.
        settings: engine, and the folder of the encoders that the bundle does not contain.
        work: folder for the scores of the recordings.

    Raises:
        DataError: when there is no recording.
        EngineError: when no engine can run the model.
    """
    labels = _defined(bundle.card)
    names = tuple(str(name) for name in probes["names"])
    own = {name: np.asarray(probes[name], np.float32) for name in ("probes.weight", "probes.bias", "drawn.weight", "drawn.bias")}
    run = OfflineRun(bundle, settings, "segment", LATENCY_SEGMENTS)
    probed = partial(probe_logits, weight=own["probes.weight"], bias=own["probes.bias"])
    recordings: list[LabelledRecording] = []
    for number, folder in enumerate(folders):
        recordings += labelled_recordings(folder, bundle.card, run, probed, work / f"{number}-{folder.name}")
    if not recordings:
        msg = f"there must be recordings with labels.csv in {', '.join(map(str, folders))}, got none"
        raise DataError(msg)
    return Material(recordings, labels, names, own)


def fuse(material: Material, recordings: Sequence[LabelledRecording], network: float) -> Fused:
    """Fit the evidence on some of the recordings, with the given weight of the localizer's answer."""
    arrays = material.own | reference_arrays(recordings)
    card, fitted = fit_evidence(recordings, material.labels, arrays, material.probes, network)
    return Fused(card, fitted, arrays)


def cross_validated(material: Material, operation: Operation, folds: int = FOLDS) -> list[JudgedRecording]:
    """Judge every recording by evidence that was fitted on the other groups.

    Args:
        material: at least as many groups as folds.
        operation: weight of the localizer's answer, and thresholds.
        folds: number of parts into which the groups are dealt.
    """
    groups = sorted({one.group for one in material.recordings})
    np.random.default_rng(0).shuffle(groups)
    judged: list[JudgedRecording] = []
    for fold in range(folds):
        out = set(groups[fold::folds])
        fused = fuse(material, [one for one in material.recordings if one.group not in out], operation.network)
        judged += [_judged(fused, one, operation) for one in material.recordings if one.group in out]
    return judged


def _judged(fused: Fused, recording: LabelledRecording, operation: Operation) -> JudgedRecording:
    evidence = LabelEvidence(fused.card, fused.labels, fused.arrays, competitors())
    (scores,) = evidence.together([sensed_in(evidence, recording.scores)], recording.scores.network[None])
    slugs = [label.slug for label in fused.labels]
    card = operation.thresholds(slugs)
    events = said_events(scores, [card.thresholds(slug) for slug in slugs])
    found = tuple(Span(slugs[one.label], one.start, one.end, float(scores[one.start : one.end, one.label].max())) for one in events)
    return JudgedRecording(recording.name, recording.group, len(scores), recording.spans, found)


def write_fused(out: Path, bundle: Bundle, fused: Fused, operation: Operation) -> None:
    """Write the bundle with its evidence and thresholds to *out*; an existing bundle is replaced."""
    card = bundle.card.model_copy(
        update={"classes": fused.labels, "evidence": fused.card, "detection": operation.thresholds([label.slug for label in fused.labels])}
    )
    tensors = {f"{part}.{name}": _half(array) for part in PARTS for name, array in bundle.weights(part).items() if part != "evidence"}
    tensors |= {f"evidence.{name}": _half(array) for name, array in fused.arrays.items()}
    write_bundle(out, card, tensors, replace=True)


def _half(array: NDArray[np.float32]) -> NDArray[np.float16]:
    return array.astype(np.float16)


def _defined(card: ModelCard) -> tuple[ClassEntry, ...]:
    """Return the labels of a card with the definitions of the package.

    Raises:
        DataError: when a label has no definition.
    """
    known = {label.slug: label for label in defined("labels")}
    missing = [slug for slug in card.slugs if slug not in known]
    if missing:
        msg = f"every label of model {card.name} must be defined in streamav/vocabulary/labels.toml, {', '.join(missing)} is not"
        raise DataError(msg)
    return tuple(known[slug] for slug in card.slugs)


def main() -> None:
    """Read the command line, fit the evidence and write the bundle."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="folder of a bundle whose encoders score their own classes")
    parser.add_argument("--probes", type=Path, required=True, help=".npz with names, and the arrays probes.* and drawn.*")
    parser.add_argument("--recordings", type=Path, nargs="+", required=True, help="folders of recordings with labels.csv")
    parser.add_argument("--weights", type=Path, help="folder with the encoders that the bundle does not contain")
    parser.add_argument("--work", type=Path, required=True, help="folder for the scores of the recordings")
    parser.add_argument("--out", type=Path, required=True, help="folder of the bundle to write")
    usual = Operation()
    parser.add_argument("--network", type=float, default=usual.network, help="weight of the localizer's answer")
    parser.add_argument("--on", type=float, default=usual.on, help="threshold of a label, reached by two segments")
    parser.add_argument("--short-on", type=float, default=usual.short_on, help="threshold of short sounds, reached by one segment; 0: none")
    parser.add_argument("--speech-on", type=float, default=usual.speech_on, help="threshold of speech")
    given = parser.parse_args()
    operation = Operation(network=given.network, on=given.on, short_on=given.short_on or None, speech_on=given.speech_on)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    bundle = load_bundle(given.model)
    with np.load(given.probes, allow_pickle=False) as probes:
        settings = ModelSettings(name=str(given.model), weights_dir=given.weights)
        material = gather(bundle, dict(probes), given.recordings, settings, given.work)
    for name, rate in asdict(figures_of(cross_validated(material, operation))).items():
        _log.info("cross-validated %s: %s", name, rate)
    fused = fuse(material, material.recordings, operation.network)
    _log.info("evidence %s offsets %s", fused.card, {label.slug: label.offset for label in fused.labels})
    write_fused(given.out, bundle, fused, operation)


if __name__ == "__main__":
    main()
