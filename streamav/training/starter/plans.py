"""Holds the settings of the training of each profile's localizer. It trains nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["PROFILES", "ProfilePlan"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfilePlan:
    """Settings of the training of a profile's localizer."""

    network: Mapping[str, object]
    loss: Mapping[str, object]
    train: Mapping[str, object]
    components: int = 0
    """Number of principal components of the visual features in training; the network is lengthened afterwards. 0 for all features."""


_LOSS = {"segment_weight": 2.0, "avps_weight": 10.0, "label_smoothing": 0.05}
_TRAIN = {
    "epochs": 24,
    "batch": 96,
    "learning_rate": 1e-3,
    "decay": 0.3,
    "decay_epochs": (14, 20, 23),
    "select_every": 4,
    "weight_average": 0.99,
    "clip_norm": 1.0,
    "pairs": True,
    "input_noise": 0.1,
    "decision": "argmax29",
}
PROFILES: dict[str, ProfilePlan] = {
    "starter": ProfilePlan(
        network={
            "hidden": 96,
            "attention_size": 128,
            "front_size": 128,
            "psp_dropout": 0.3,
            "project1_dropout": 0.35,
            "post_gru_dropout": 0.35,
        },
        loss=_LOSS,
        train=_TRAIN,
    ),
    "edge": ProfilePlan(
        network={
            "hidden": 128,
            "attention_size": 256,
            "front_size": 256,
            "psp_dropout": 0.3,
            "project1_dropout": 0.35,
            "post_gru_dropout": 0.35,
        },
        loss=_LOSS,
        # Frozen features need more steps than trained ones; on 256 components a step takes half the time.
        train={**_TRAIN, "epochs": 30, "decay_epochs": (18, 26, 29), "select_every": 5},
        components=256,
    ),
}
"""The plans of the profiles: small enough for the package; more dropout than the paper, because there are fewer recordings than in AVE."""
