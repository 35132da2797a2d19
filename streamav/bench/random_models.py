"""Writes a bundle with the true shapes and random weights, to time networks whose weights are not available.

Its scores have no meaning; only the bench uses it.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import torch

from streamav.bundle import AVE_CLASSES, AudioCard, ClassEntry, DetectionCard, LocalizerCard, ModelCard, VisualCard, write_bundle
from streamav.engines.modules import make_encoder
from streamav.networks.options import VSCGOptions
from streamav.networks.vscg import VSCG

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray
    from torch import nn

    from streamav.bundle import Bundle

__all__ = ["PROFILES", "write_random_bundle"]

PROFILES = ("starter", "edge", "paper")


def write_random_bundle(profile: str, folder: Path, seed: int = 0) -> Bundle:
    """Write a bundle with the networks of a profile and random weights.

    Args:
        profile: starter, edge or paper.
        folder: the folder to make.
        seed: seed of the weights.

    Raises:
        ModelError: when the folder exists already or cannot be written.
    """
    torch.manual_seed(seed)
    audio, visual, hidden, classes = _parts(profile)
    options = VSCGOptions.corrected(
        "fully", audio_size=audio.size, visual_size=visual.size, grid=visual.grid, classes=len(classes), hidden=hidden
    )
    card = ModelCard(
        name=f"random-{profile}",
        version="0",
        profile="custom",
        classes=classes,
        audio=audio,
        visual=visual,
        localizer=LocalizerCard(options=asdict(options)),
        detection=DetectionCard(on=0.5, off=0.5),
        licence_note="Random numbers.",
    )
    modules = {"audio": make_encoder(audio), "visual": make_encoder(visual), "localizer": VSCG(options)}
    return write_bundle(folder, card, {name: array for prefix, module in modules.items() for name, array in _arrays(prefix, module)})


def _parts(profile: str) -> tuple[AudioCard, VisualCard, int, tuple[ClassEntry, ...]]:
    """Return the cards of both encoders, the width of the localizer and the classes."""
    if profile == "paper":
        audio = AudioCard(network="vggish", log_mel_offset=0.01, size=128)
        return audio, VisualCard(network="vgg19", picture=(224, 224), frames_per_second=16, size=512, grid=7), 128, AVE_CLASSES
    few = tuple(ClassEntry(slug=f"class_{number}", name=f"Class {number}") for number in range(24))
    if profile == "edge":
        audio = AudioCard(network="yamnet", log_mel_offset=0.001, size=1024)
        return audio, VisualCard(network="mobilenetv2", picture=(224, 224), frames_per_second=16, size=1280, grid=7), 128, few
    audio = AudioCard(network="compact_audio", log_mel_offset=0.001, size=128)
    return audio, VisualCard(network="compact_visual", picture=(112, 112), frames_per_second=16, size=256, grid=7), 96, few


def _arrays(prefix: str, module: nn.Module) -> Iterator[tuple[str, NDArray[np.generic]]]:
    for name, tensor in module.state_dict().items():
        if tensor.is_floating_point():  # a batch norm's counters are integers and are not written
            yield f"{prefix}.{name}", tensor.numpy()
