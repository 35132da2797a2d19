"""Writes the bundle of a trained VSCG; its card names the encoders of the features and how the network was trained.

It trains nothing and reads no features.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

import numpy as np
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from streamav.bundle import (
    AVE_CLASSES,
    AudioCard,
    DetectionCard,
    LocalizerCard,
    Metrics,
    ModelCard,
    TrainingData,
    VisualCard,
    write_bundle,
)
from streamav.bundle.card import card_name
from streamav.errors import DataError, SettingsError, reason_of
from streamav.features.contrast import LEAST_CONTRAST
from streamav.features.level import LEAST_DBFS
from streamav.files import whole_file
from streamav.networks.options import VSCGOptions

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import nn

    from streamav.bundle import Bundle, ClassEntry
    from streamav.training.experiments.experiment import Outcome

__all__ = [
    "ENCODERS_FILE",
    "ENCODER_WEIGHTS_FILE",
    "UNTUNED",
    "Encoders",
    "encoder_weights",
    "encoders_of",
    "export_bundle",
    "save_encoder_weights",
    "smallest",
    "weights_inside",
    "write_model",
]

ENCODERS_FILE = "encoders.json"
"""File beside extracted features: the audio and visual parts of the card of the encoders that made them."""
ENCODER_WEIGHTS_FILE = "encoders.safetensors"
"""File beside `ENCODERS_FILE`: weights of the encoders that are stored in the bundle; external ones (VGG-19, YAMNet ...) are not."""
_MAX_BYTES = 1 << 20
_MAX_WEIGHTS_BYTES = 4 << 30
"""Largest files of encoders that are read: the description, and the weights."""
Encoders = tuple[AudioCard, VisualCard]

PAPER_ENCODERS: Encoders = (
    AudioCard(network="vggish", log_mel_offset=0.01, size=128, external=True),
    VisualCard(network="vgg19", picture=(224, 224), frames_per_second=16, size=512, grid=7, external=True),
)
"""Source: AVE's feature scripts (VGGish before any post-processing, VGG-19 block5_pool averaged over 16 frames a second)."""
EDGE_ENCODERS: Encoders = (
    AudioCard(network="yamnet", log_mel_offset=0.001, least_dbfs=LEAST_DBFS, size=1024, external=True),
    VisualCard(
        network="efficientnet_lite0",
        picture=(224, 224),
        frames_per_second=4,
        cuts_bars=True,
        least_contrast=LEAST_CONTRAST,
        size=1280,
        grid=7,
        external=True,
    ),
)

UNTUNED = DetectionCard(on=0.6, off=0.35, min_segments=2, gap_segments=1, latency_segments=2)
"""Thresholds of a model without thresholds chosen on streams: medium values, with which a trained model finds most events."""


def encoders_of(folder: Path, audio_size: int, visual_size: int) -> Encoders | None:
    """Return the encoders that made the features of *folder*: from encoders.json, or else from the sizes; None if they are unknown.

    Raises:
        DataError: when encoders.json is wrong or does not fit the sizes.
    """
    path = folder / ENCODERS_FILE
    if path.is_file():
        try:
            tree: dict[str, object] = json.loads(path.read_text(encoding="utf-8")) if path.stat().st_size <= _MAX_BYTES else {}
            audio, visual = AudioCard.model_validate(tree["audio"]), VisualCard.model_validate(tree["visual"])
        except (OSError, ValueError, TypeError, KeyError, ValidationError) as exc:
            msg = f"{path} must hold the audio and visual parts of a model card: {reason_of(exc)}"
            raise DataError(msg) from exc
        if (audio.size, visual.size) != (audio_size, visual_size):
            msg = f"{path} must fit the features ({audio_size} and {visual_size}), got {audio.size} and {visual.size}"
            raise DataError(msg)
        return audio, visual
    for known in (PAPER_ENCODERS, EDGE_ENCODERS):
        if (known[0].size, known[1].size) == (audio_size, visual_size):
            return known
    return None


def encoder_weights(folder: Path, encoders: Encoders) -> dict[str, NDArray[np.float32]]:
    """Read the weights of the encoders that are stored in the bundle; external encoders have none.

    Raises:
        SettingsError: when the file is missing.
        DataError: when the file is damaged.
    """
    parts = _inside(encoders)
    if not parts:
        return {}
    path = folder / ENCODER_WEIGHTS_FILE
    if not path.is_file():
        msg = (
            f"{folder / ENCODERS_FILE} names encoders whose weights must be in {path}, got no such file; "
            "name the model that made the features with --encoders MODEL, or extract the features again"
        )
        raise SettingsError(msg)
    size = path.stat().st_size
    if size > _MAX_WEIGHTS_BYTES:
        msg = f"{path} must be at most {_MAX_WEIGHTS_BYTES} bytes, got {size}"
        raise DataError(msg)
    try:
        found: dict[str, NDArray[np.float32]] = load_file(path)
    except (OSError, SafetensorError, ValueError) as exc:
        msg = f"{path} must be a whole safetensors file: {reason_of(exc)}; extract the features again"
        raise DataError(msg) from exc
    if {name.partition(".")[0] for name in found} != parts:
        msg = f"{path} must hold weights of {' and '.join(sorted(parts))}, got {len(found)} others; extract the features again"
        raise DataError(msg)
    return found


def save_encoder_weights(folder: Path, bundle: Bundle) -> None:
    """Write the weights of the encoders in *bundle* into *folder*, beside the features that they make."""
    tensors = weights_inside(bundle)
    if tensors:
        with whole_file(folder / ENCODER_WEIGHTS_FILE) as part:
            save_file(tensors, part)


def weights_inside(bundle: Bundle) -> dict[str, NDArray[np.float32]]:
    """Return the weights of the encoders in a bundle, by their names in it."""
    parts = sorted(_inside((bundle.card.audio, bundle.card.visual)))
    return {f"{part}.{name}": value for part in parts for name, value in bundle.weights(part).items()}


def _inside(encoders: Encoders) -> set[str]:
    """Return the names of the encoders whose weights are in a bundle."""
    audio, visual = encoders
    return {part for part, external in (("audio", audio.external), ("visual", visual.external)) if not external}


def export_bundle(  # noqa: PLR0913 - the parts of a bundle
    path: Path,
    outcome: Outcome,
    classes: tuple[ClassEntry, ...],
    encoders: Encoders,
    command: str,
    *,
    replace: bool = False,
    weights: Mapping[str, NDArray[np.float32]] | None = None,
    detection: DetectionCard = UNTUNED,
    training_data: tuple[TrainingData, ...] | None = None,
    licence_note: str = "You trained these weights on your data: the terms of these data decide what you may do with the weights.",
) -> Bundle:
    """Write the bundle: the chosen seed's weights, the card, and the weights of encoders that are stored in the bundle.

    Args:
        path: folder to make.
        outcome: the result whose chosen seed is taken.
        classes: in the order of the network's outputs.
        encoders: the audio and visual parts of the card.
        command: the command line, for the card.
        replace: replace an existing bundle.
        weights: weights of the encoders that are stored in the bundle, by their names in it.
        detection: thresholds.
        training_data: for the card; None describes the features of *outcome*.
        licence_note: for the card.

    Raises:
        SettingsError: when the network is a baseline; streams cannot run baselines.
        ModelError: when the bundle cannot be written.
    """
    options = outcome.experiment.network
    if not isinstance(options, VSCGOptions):
        msg = f"the network of a bundle must be vscg, got {options.network}; its scores are in the report"
        raise SettingsError(msg)
    audio, visual = encoders
    card = ModelCard(
        name=card_name(path.absolute().name, "model"),
        version="1",
        profile="paper" if encoders == PAPER_ENCODERS else "custom",
        classes=classes,
        audio=audio,
        visual=visual,
        localizer=LocalizerCard(options=asdict(options)),
        detection=detection,
        training_data=(_features_given(outcome, classes),) if training_data is None else training_data,
        licence_note=licence_note,
        metrics=Metrics(command=command, values=_figures(outcome)),
    )
    return write_model(path, card, outcome.chosen.network, weights or {}, replace=replace)


def write_model(
    path: Path,
    card: ModelCard,
    localizer: nn.Module,
    encoders: Mapping[str, NDArray[np.floating]],
    *,
    half: bool = False,
    replace: bool = False,
) -> Bundle:
    """Write the bundle of a trained model; all trained models are written by this function.

    Args:
        path: folder to make.
        card: the model card.
        localizer: the network; its state is stored.
        encoders: weights of the encoders that are stored in the bundle, by their names in it; stored as float16 if that
            loses nothing, as in the model that they come from.
        half: store the localizer as float16 instead of float32.
        replace: replace an existing bundle.

    Raises:
        ModelError: when the bundle cannot be written.
    """
    stored = np.float16 if half else np.float32
    tensors: dict[str, NDArray[np.generic]] = {name: smallest(value) for name, value in encoders.items()}
    for name, value in localizer.state_dict().items():
        tensors[f"localizer.{name}"] = value.detach().cpu().numpy().astype(stored)
    return write_bundle(path, card, tensors, replace=replace)


def smallest(values: NDArray[np.floating]) -> NDArray[np.generic]:
    """Return the values as float16 if that loses nothing, else unchanged."""
    with np.errstate(over="ignore"):
        half = values.astype(np.float16)
    return half if np.array_equal(half.astype(values.dtype), values) else values


def _features_given(outcome: Outcome, classes: tuple[ClassEntry, ...]) -> TrainingData:
    """Return the card's entry for training data of which only the features are known."""
    chosen = outcome.chosen
    return TrainingData(
        name="AVE" if classes == AVE_CLASSES else "custom",
        source="features given to `streamav train`",
        licence="as of the data; AVE: annotations of YouTube videos, no licence stated",
        note=f"seed {chosen.seed}, best on validation in epoch {chosen.result.best_epoch}",
    )


def _figures(outcome: Outcome) -> dict[str, float]:
    """Return the figures for the card, without NaN and infinite values."""
    chosen = outcome.chosen
    found = {f"test_{name}": value for name, value in chosen.scores.to_dict().items()}
    found["validation_accuracy"] = chosen.result.best_score
    return {name: round(value, 6) for name, value in found.items() if np.isfinite(value)}
