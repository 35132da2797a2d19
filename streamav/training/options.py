"""Settings of a training run, with the values of the paper and its reference code as defaults.

They say nothing of the network (`networks.options`) and nothing of the loss (`losses`).
"""

from __future__ import annotations

import difflib
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, get_args

from streamav.errors import SettingsError
from streamav.training.precision import Precision

if TYPE_CHECKING:
    from collections.abc import Mapping

    from streamav.networks.options import Decision

__all__ = ["DECAY_EPOCHS_FULLY", "DECAY_EPOCHS_WEAKLY", "TrainOptions"]

DECAY_EPOCHS_FULLY = (60, 120, 240)
"""Source: VSCG fully_supervised_main.py:103-106."""
DECAY_EPOCHS_WEAKLY = (80, 180, 240, 300)
"""Source: VSCG weakly_supervised_main.py."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainOptions:
    """How long, how fast, from which seed, and what is selected."""

    epochs: int = 300
    batch: int = 128
    learning_rate: float = 1e-3
    """Of Adam."""
    decay: float = 0.8
    """The learning rate is multiplied by it after each epoch of `decay_epochs`. Source: VSCG Optim.py:25."""
    decay_epochs: tuple[int, ...] = DECAY_EPOCHS_FULLY
    select_every: int = 5
    """Epochs between two looks at the validation set."""
    seed: int = 0
    weight_average: float = 0.0
    """Decay of the exponential moving average of the weights, per step; 0 for none. With it, the average is what is selected."""
    patience_epochs: int = 0
    """Stop after so many epochs without a higher validation accuracy; 0 for never."""
    clip_norm: float = 0.0
    """Largest norm of all gradients together; 0 for none."""
    shifted_share: float = 0.0
    """Part of each batch that is cut from a stream of clips at any phase (0 to 1; vscg regime B: 0.5)."""
    pairs: bool = False
    """Train on windows put together of the sound of one clip and the picture of another (see `pairing`); the data must tell what is
    heard and seen."""
    input_noise: float = 0.0
    """With `pairs`: standard deviation of noise on the features, as a share of their own."""
    decision: Decision = "two_stage"
    """How the validation accuracy that selects is decided."""
    threshold: float = 0.7
    """Of the two-stage decision. Source: VSCG section III-E."""
    gradient_share: float = 1.0
    """Share of the grid cells that the gradient of the attention's wide layer is estimated from, without bias, in training on a CPU
    (see `fast_attention`): with 0.25 a float32 step takes less than half the time. 1, the default, takes all."""
    precision: Precision = "auto"
    """Of a step's large products: float32, bfloat16, float16 (GPU only), or auto for what the machine is fastest in (see `precision`).
    Weights, gradients and loss are float32 in each. Scores for selection are computed in float32, as the network will be used."""
    device_features: bool = True
    """With a GPU, keep all features in its memory where they fit."""
    test_selected: bool = False
    """Also score the test split at every look, for the figure that the paper reports (its best look); it selects nothing."""
    prefetch: bool = True
    """Gather the next batch while the current one is computed; one more batch in memory."""

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            SettingsError: when a value is out of range.
        """
        rules = {
            "epochs": (self.epochs >= 1, "at least 1"),
            "batch": (self.batch >= 1, "at least 1"),
            "learning_rate": (self.learning_rate > 0.0, "above 0"),
            "decay": (0.0 < self.decay <= 1.0, "above 0 and at most 1"),
            "select_every": (self.select_every >= 1, "at least 1"),
            "weight_average": (0.0 <= self.weight_average < 1.0, "at least 0 and below 1"),
            "patience_epochs": (self.patience_epochs >= 0, "at least 0"),
            "clip_norm": (self.clip_norm >= 0.0, "at least 0"),
            "shifted_share": (0.0 <= self.shifted_share <= 1.0, "from 0 to 1"),
            "input_noise": (self.input_noise >= 0.0, "at least 0"),
            "gradient_share": (0.0 < self.gradient_share <= 1.0, "above 0 and at most 1"),
            "precision": (self.precision in get_args(Precision), f"one of {', '.join(get_args(Precision))}"),
            "threshold": (0.0 < self.threshold < 1.0, "between 0 and 1"),
        }
        for name, (holds, range_) in rules.items():
            if not holds:
                msg = f"training setting {name} must be {range_}, got {getattr(self, name)}"
                raise SettingsError(msg)

    def learning_rate_at(self, epoch: int) -> float:
        """Give the learning rate of an epoch, counted from 1."""
        return self.learning_rate * self.decay ** sum(epoch > turn for turn in self.decay_epochs)

    def to_dict(self) -> dict[str, object]:
        """Give the settings as plain values that JSON can hold."""
        return asdict(self) | {"decay_epochs": list(self.decay_epochs)}

    @classmethod
    def from_dict(cls, values: Mapping[str, object]) -> TrainOptions:
        """Build the settings from plain values.

        Raises:
            SettingsError: when a key is unknown (the nearest is named) or a value is of the wrong type or range.
        """
        known = {field.name for field in fields(cls)}
        for key in values:
            if key not in known:
                near = difflib.get_close_matches(key, sorted(known), n=1, cutoff=0.0)[0]
                msg = f"unknown training setting {key}; the nearest is {near}"
                raise SettingsError(msg)
        plain = dict(values)
        if "decay_epochs" in plain and isinstance(plain["decay_epochs"], list):
            plain["decay_epochs"] = tuple(plain["decay_epochs"])
        try:
            return cls(**plain)  # type: ignore[arg-type] # the types are checked by use: __post_init__ compares numbers
        except TypeError as exc:
            msg = f"a training setting has the wrong type: {exc}"
            raise SettingsError(msg) from exc
