"""Settings of a training run, with the values of the paper and its reference code as defaults.

The settings of the network are in `networks.options`, those of the loss in `losses`.
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
    """Number of epochs, learning rate, seed, batches and selection of a training run."""

    epochs: int = 300
    batch: int = 128
    learning_rate: float = 1e-3
    """Learning rate of Adam in the first epoch."""
    decay: float = 0.8
    """The learning rate is multiplied by this factor after each epoch of `decay_epochs`. Source: VSCG Optim.py:25."""
    decay_epochs: tuple[int, ...] = DECAY_EPOCHS_FULLY
    select_every: int = 5
    """The validation set is scored every this many epochs, and after the last one."""
    seed: int = 0
    weight_average: float = 0.0
    """Decay of the exponential moving average of the weights, per step; 0 for no average. With an average, its weights are selected."""
    patience_epochs: int = 0
    """Stop after this many epochs without a higher validation accuracy; 0 never stops early."""
    clip_norm: float = 0.0
    """Largest norm of all gradients together; 0 for no limit."""
    shifted_share: float = 0.0
    """Share of each batch whose windows are cut from a stream of clips at any phase (0 to 1; VSCG regime B: 0.5)."""
    pairs: bool = False
    """Train on windows that join the sound of one clip with the picture of another (see `pairing`). The data must hold the class heard
    and the class seen in each segment."""
    input_noise: float = 0.0
    """With `pairs`: standard deviation of the noise added to the features, as a share of the features' own standard deviation."""
    decision: Decision = "two_stage"
    """How the class of a segment is decided for the validation accuracy, which selects the weights."""
    threshold: float = 0.7
    """Relevance threshold of the two-stage decision. Source: VSCG section III-E."""
    gradient_share: float = 1.0
    """Share of the grid cells from which the gradient of the attention's wide layer is estimated, without bias, in training on a CPU
    (see `fast_attention`). With 0.25, a float32 step takes less than half the time. The default, 1, uses all cells."""
    precision: Precision = "auto"
    """Number type of a step's large products: float32, bfloat16, float16 (GPU only), or auto for the type in which the machine is
    fastest (see `precision`). Weights, gradients and loss are float32 in every precision. Scores for selection are computed in
    float32, as in later use of the network."""
    device_features: bool = True
    """On a GPU, keep all features in its memory if they fit."""
    test_selected: bool = False
    """Also score the test split whenever the validation set is scored. The best test score is what the paper reports. It selects
    nothing."""
    prefetch: bool = True
    """Gather the next batch while the current one is computed. This keeps one more batch in memory."""

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
        """Return the learning rate of an epoch, counted from 1."""
        return self.learning_rate * self.decay ** sum(epoch > turn for turn in self.decay_epochs)

    def to_dict(self) -> dict[str, object]:
        """Return the settings as plain values that JSON can hold."""
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
