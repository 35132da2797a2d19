"""Writes a bundle whose labels are found by evidence, with reference segments that hold nothing; its networks are never built."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from streamav.bundle import AudioCard, Bundle, ClassEntry, DetectionCard, EvidenceCard, LocalizerCard, ModelCard, VisualCard, write_bundle
from streamav.types import Quality, SegmentFeatures
from streamav.vocabulary import find_classes

__all__ = ["make_evidence_bundle", "segment_of"]

HEARD, SEEN, PROBES = 521, 1000, ("face",)
CLASSES = (
    ClassEntry(slug="bark", name="Dog bark", hear=("Dog", "Bark"), see=("dog",)),
    ClassEntry(slug="guitar", name="Guitar", hear=("Guitar", "Acoustic guitar"), see=("acoustic guitar", "electric guitar")),
    ClassEntry(slug="speech", name="Speech", hear=("Speech",), see=("face", "microphone")),
)


def make_evidence_bundle(folder: Path, *, segments: int = 200, loud: tuple[str, ...] = (), network: float = 0.0) -> Bundle:
    """Write the bundle; in a tenth of its reference segments the sounds named *loud* are heard and every picture class is seen well."""
    rng = np.random.default_rng(3)
    heard = rng.uniform(0.0, 0.02, (segments, HEARD))
    heard[: segments // 10, list(find_classes("hear", loud))] = 0.999
    seen = rng.dirichlet(np.full(SEEN, 0.5), segments)
    card = ModelCard(
        name="sensing",
        version="1",
        profile="edge",
        classes=CLASSES,
        audio=AudioCard(network="compact_audio", log_mel_offset=0.001, size=1),
        visual=VisualCard(network="compact_visual", picture=(8, 8), frames_per_second=1, size=2, grid=2),
        localizer=LocalizerCard(options={}),
        evidence=EvidenceCard(bias=-2.9, heard=0.43, heard_peak=0.31, seen=1.3, sound_bias=0.29, network=network, probes=PROBES),
        detection=DetectionCard(on=0.6, off=0.36),
        licence_note="Random numbers.",
    )
    arrays = {
        "probes.weight": np.eye(1, 2),
        "probes.bias": np.zeros(1),
        "drawn.weight": np.zeros((1, 2)),
        "drawn.bias": np.full(1, -30.0),
        "reference.heard": heard,
        "reference.seen": seen,
        "reference.probed": rng.normal(size=(segments, 1)),
    }
    tensors = {f"evidence.{name}": array.astype(np.float32) for name, array in arrays.items()}
    return write_bundle(folder, card, tensors | {f"{part}.weight": np.zeros(1, np.float32) for part in ("audio", "visual", "localizer")})


def segment_of(index: int, heard: dict[str, float], seen: dict[str, float], quality: Quality | None = None) -> SegmentFeatures:
    """Return a segment in which classes have the named scores and all others nearly none."""
    scores = np.full(HEARD, 0.002, np.float32)
    for name, value in heard.items():
        scores[list(find_classes("hear", [name]))] = value
    pictures = np.full(SEEN, 0.0003, np.float32)
    for name, value in seen.items():
        pictures[list(find_classes("see", [name]))] = value
    return SegmentFeatures(
        index=index,
        start_ns=index * 1_000_000_000,
        audio=np.zeros(1, np.float32),
        visual=np.zeros((2, 2, 2), np.float32),
        level_dbfs=-20.0,
        quality=quality or Quality(),
        heard=scores,
        seen=pictures,
    )
