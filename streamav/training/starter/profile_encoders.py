"""Loads the encoders of a profile for sound and picture: those that were trained here, or public ones. It trains nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from streamav.bundle import AudioCard, VisualCard
from streamav.features.contrast import LEAST_CONTRAST
from streamav.features.level import LEAST_DBFS
from streamav.networks.compact import COMPACT_GRID, COMPACT_SIDE, CompactAudio, CompactVisual
from streamav.training.composite.folder import FrozenEncoders
from streamav.training.composite.frozen import session
from streamav.training.experiments.export import EDGE_ENCODERS
from streamav.training.starter.encoders import AUDIO_SIZE, PARTS, VISUAL_SIZE, held_encoders
from streamav.training.starter.sound_examples import OFFSET
from streamav.training.starter.teachers import audio_teacher, public_look

if TYPE_CHECKING:
    from pathlib import Path

    from pydantic import JsonValue

__all__ = ["frozen_encoders"]

FRAMES_PER_SECOND = 4
"""Pictures that a live run encodes in each second; more pictures change little, see docs/performance.md."""


def frozen_encoders(profile: str, teachers: Path, work: Path) -> FrozenEncoders:
    """Load a profile's encoders in ONNX Runtime.

    Args:
        profile: "starter" (from *work*/runs) or "edge" (from *teachers*).
        teachers: folder with yamnet.safetensors and mobilenetv2.safetensors.
        work: folder of `make_profile`.
    """
    if profile == "edge":
        audio, visual = EDGE_ENCODERS
        return FrozenEncoders(audio=audio, visual=visual, hear=audio_teacher(teachers), look=public_look(visual.network, teachers))
    held = held_encoders(work)
    heard, seen = (held[part].get("classifier.bias") for part in PARTS)
    scores = {"audio": 0 if heard is None else len(heard), "visual": 0 if seen is None else len(seen)}
    hears, looks = CompactAudio(AUDIO_SIZE, scores["audio"]).eval(), CompactVisual(VISUAL_SIZE, scores["visual"]).eval()
    hears.load_state_dict(held["audio"])
    looks.load_state_dict(held["visual"])
    return FrozenEncoders(
        audio=AudioCard(
            network="compact_audio",
            options=_options(AUDIO_SIZE, scores["audio"]),
            log_mel_offset=OFFSET.offset,
            least_dbfs=LEAST_DBFS,
            size=AUDIO_SIZE,
        ),
        visual=VisualCard(
            network="compact_visual",
            options=_options(VISUAL_SIZE, scores["visual"]),
            picture=(COMPACT_SIDE, COMPACT_SIDE),
            frames_per_second=FRAMES_PER_SECOND,
            cuts_bars=True,
            least_contrast=LEAST_CONTRAST,
            size=VISUAL_SIZE,
            grid=COMPACT_GRID,
        ),
        hear=session(hears, torch.zeros(2, 96, 64)),
        look=session(looks, torch.zeros(2, COMPACT_SIDE, COMPACT_SIDE, 3, dtype=torch.uint8)),
    )


def _options(size: int, scores: int) -> dict[str, JsonValue]:
    """Return the constructor's arguments for the card; one without a classifier stays as in bundles of before."""
    return {"size": size, "scores": scores} if scores else {"size": size}
