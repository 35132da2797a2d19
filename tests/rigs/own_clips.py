"""Makes the class scores of clips of an own label, and a small model with evidence to learn them on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from rigs.evidence_arrays import HEARD, SEEN

from streamav.bundle import AudioCard, DetectionCard, EvidenceCard, LocalizerCard, ModelCard, VisualCard
from streamav.evidence import defined
from streamav.training.clips.recorded import OwnRecording
from streamav.vocabulary import find_classes

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["BASE", "SLUGS", "clip", "reference_of"]

SEGMENTS = 8
SLUGS = ("kettle", "bark")
"""Own labels: one with a name that says nothing to the encoders' lists of sounds that are heard here, and one of the base model."""
_LABELS = tuple(entry for entry in defined("labels") if entry.slug in {"bark", "cow", "guitar"})
BASE = ModelCard(
    name="sensing",
    version="1",
    profile="edge",
    classes=_LABELS,
    audio=AudioCard(network="compact_audio", log_mel_offset=0.001, size=1),
    visual=VisualCard(network="compact_visual", picture=(8, 8), frames_per_second=1, size=2, grid=2),
    localizer=LocalizerCard(options={"classes": len(_LABELS)}),
    evidence=EvidenceCard(bias=-1.5, heard=0.4, heard_peak=0.2, seen=0.8, sound_bias=0.3, network=0.4, probes=("face", "helicopter")),
    detection=DetectionCard(on=0.35, off=0.2, min_segments=2, classes={"bark": {"on": 0.5, "off": 0.3, "min_segments": 1}}),
    licence_note="Random numbers.",
)
_SHOWN = {"kettle": ("Boiling", "teapot"), "bark": ("Bark", "beagle")}
"""What the clips of each label hold: a sound and a thing."""


def clip(number: int, label: str | None, *, somewhere: bool = False, group: str | None = None) -> OwnRecording:
    """Return a clip in whose segments 2 to 5 the label is heard and seen, or nothing is; noise differs by *number*."""
    rng = np.random.default_rng(number)
    heard, seen = rng.uniform(0.0, 0.02, (SEGMENTS, HEARD)), rng.gamma(0.1, 1e-4, (SEGMENTS, SEEN))
    truth = np.zeros((SEGMENTS, len(SLUGS)), np.bool_)
    if label is not None:
        sound, thing = _SHOWN[label]
        heard[2:6, find_classes("hear", [sound])[0]] = rng.uniform(0.6, 0.9, 4)
        seen[2:6, find_classes("see", [thing])[0]] = rng.uniform(0.5, 0.8, 4)
        truth[0 if somewhere else 2 : SEGMENTS if somewhere else 6, SLUGS.index(label)] = True
    classes = len(BASE.classes) + 1
    return OwnRecording(
        file=f"{number}.mp4",
        group=group or f"day {number}",
        heard=heard.astype(np.float32),
        seen=seen.astype(np.float32),
        motion=np.zeros(SEGMENTS, np.float32),
        probed=rng.normal(-3.0, 1.0, (SEGMENTS, 2)).astype(np.float32),
        drawn=np.full(SEGMENTS, -9.0, np.float32),
        network=rng.dirichlet(np.full(classes, 3.0), SEGMENTS).astype(np.float32),
        truth=truth,
        somewhere=np.array([somewhere and label == slug for slug in SLUGS]),
    )


def reference_of(arrays: dict[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
    """Return evidence arrays whose reference segments hold none of the labels."""
    rng = np.random.default_rng(9)
    count = len(arrays["reference.heard"])
    heard = rng.uniform(0.0, 0.02, (count, HEARD))
    heard[:, find_classes("hear", ["Speech"])[0]] = rng.uniform(0.0, 1.0, count)
    seen = rng.gamma(0.1, 1e-4, (count, SEEN))
    return {**arrays, "reference.heard": heard.astype(np.float32), "reference.seen": seen.astype(np.float32)}
