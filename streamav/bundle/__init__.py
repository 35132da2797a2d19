"""Reads and writes models as bundles: one folder with a card, which describes the model, and its weights.

It uses no torch and no pickle, and runs no code from a bundle.
"""

from __future__ import annotations

from streamav.bundle.automatic import AUTO, choose_bundle
from streamav.bundle.card import (
    SCHEMA,
    AudioCard,
    ClassEntry,
    DetectionCard,
    EvidenceCard,
    LocalizerCard,
    Metrics,
    ModelCard,
    TrainingData,
    VisualCard,
)
from streamav.bundle.classes import AVE_CLASSES
from streamav.bundle.places import bundle_names, encoder_folder, models_folder
from streamav.bundle.store import Bundle, find_bundle, load_bundle, write_bundle

__all__ = [
    "AUTO",
    "AVE_CLASSES",
    "SCHEMA",
    "AudioCard",
    "Bundle",
    "ClassEntry",
    "DetectionCard",
    "EvidenceCard",
    "LocalizerCard",
    "Metrics",
    "ModelCard",
    "TrainingData",
    "VisualCard",
    "bundle_names",
    "choose_bundle",
    "encoder_folder",
    "find_bundle",
    "load_bundle",
    "models_folder",
    "write_bundle",
]
