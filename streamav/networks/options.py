"""Defines every size and switch of the VSCG network as one frozen value, which model cards store as JSON.

It imports no torch. Weights of losses and kinds of targets are in streamav.training.fit.losses.
"""

from __future__ import annotations

import difflib
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Literal, get_args

from streamav.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

__all__ = [
    "LAYER_NORM_EPS",
    "REFERENCE_PSP_THRESHOLD",
    "Decision",
    "Front",
    "Pool",
    "PostGru",
    "Prior",
    "SegmentHead",
    "Supervision",
    "VSCGOptions",
    "refuse_unknown",
]

Supervision = Literal["fully", "weakly"]
Front = Literal["fa_fv", "linear_v"]
Pool = Literal["floor", "adaptive"]
Prior = Literal["mean", "cross_linear", "zero", "avg", "max", "unshared"]
PostGru = Literal["project_norm", "dropout_norm"]
SegmentHead = Literal["trained", "untrained"]
Decision = Literal["two_stage", "argmax29"]

LAYER_NORM_EPS = 1e-6
"""Epsilon of every layer normalisation. Source: Bravo5542/VSCG vscgfully_model.py:100, 160."""
REFERENCE_PSP_THRESHOLD = 0.099
"""Absolute pruning threshold of the authors' code, chosen for T = 10. Source: Bravo5542/VSCG vscgfully_model.py:295."""

_CHOICES: dict[str, tuple[str, ...]] = {
    "supervision": get_args(Supervision),
    "front": get_args(Front),
    "pool": get_args(Pool),
    "prior": get_args(Prior),
    "post_gru": get_args(PostGru),
    "segment_head": get_args(SegmentHead),
    "decision": get_args(Decision),
}
_SIZES = ("audio_size", "visual_size", "grid", "classes", "hidden", "attention_size", "front_size", "head_size")
_RATES = ("psp_dropout", "project1_dropout", "post_gru_dropout")


@dataclass(frozen=True, kw_only=True)
class VSCGOptions:
    """Sizes and switches of one VSCG network; the defaults are those of the corrected, fully supervised network.

    Raises:
        SettingsError: when a size is below 1, a rate is outside [0, 1), or a switch has an unknown value.
    """

    supervision: Supervision = "fully"
    """Which heads the network has. fully: relevance, window class and segment class; weakly: a gated score per segment."""
    audio_size: int = 128
    """A: size of an audio feature."""
    visual_size: int = 512
    """V: size of a visual feature."""
    grid: int = 7
    """G: side of the visual grid."""
    classes: int = 28
    """C: foreground classes, without background."""
    hidden: int = 128
    """Units of each direction of the recurrent layers; the streams have twice this size."""
    attention_size: int = 512
    """Width of the attention's hidden layers."""
    front_size: int = 256
    """Inner width of the two linear maps of `front` fa_fv."""
    head_size: int = 64
    """Inner width of the per-segment head."""
    front: Front = "fa_fv"
    """fa_fv: two linear maps per modality, for the sound before the attention and for the picture after it; linear_v: one linear map, for
    the picture only."""
    swap_av: bool = False
    """True: the picture goes into the branch named audio and the sound into the branch named visual (bug B4 of the authors' code)."""
    psp_threshold: float | None = None
    """Pairs of segments whose share is not above this value are pruned, 0 to 1; None stands for 0.99 / T."""
    psp_renorm: bool = True
    """True: rows are normalised again after pruning."""
    psp_dropout: float = 0.2
    """Dropout rate of the four branches of PSP."""
    project1_dropout: float = 0.2
    """Dropout rate of the projection after PSP."""
    escm: bool = True
    """False: the network has no event semantic consistency module (Table III, w/o ESCM)."""
    pool: Pool = "adaptive"
    """adaptive: any window length; floor: windows of 8 to 11 segments only, as in the authors' code (bug B6)."""
    prior: Prior = "mean"
    """How the initial states of the two GRUs are computed (Eq. 9-11 and Table III)."""
    post_gru: PostGru = "project_norm"
    """Layers after the GRUs. project_norm: linear, ReLU, dropout, normalisation (Eq. 12-13); dropout_norm: the last two only."""
    post_gru_dropout: float = 0.1
    segment_head: SegmentHead = "trained"
    """Whether the per-segment head was trained; the network always has this head."""
    weak_gate_relu: bool = True
    """True: the gate of the weakly supervised head is sigmoid(ReLU(x)), which is at least 0.5, as in the authors' code."""
    background_contrast: bool = False
    """True: the fully supervised heads have CACE-Net's background-event contrast layer."""
    feature_noise: float = 0.0
    """Noise added to the encoded segments in training only; its standard deviation, relative to theirs. 0 adds none."""
    decision: Decision = "two_stage"
    """How labels are decided offline. two_stage: by relevance and window class; argmax29: by the highest score of each segment."""
    decision_threshold: float = 0.7
    """Relevance above which `two_stage` labels a segment as an event, 0 to 1 (section III-E)."""

    def __post_init__(self) -> None:
        """Check every field."""
        for name in _SIZES:
            _check_range(name, getattr(self, name), 1, None)
        for name in _RATES:
            _check_range(name, getattr(self, name), 0.0, 1.0)
        _check_range("feature_noise", self.feature_noise, 0.0, 10.0)
        _check_range("decision_threshold", self.decision_threshold, 0.0, 1.0)
        if self.psp_threshold is not None:
            _check_range("psp_threshold", self.psp_threshold, 0.0, 1.0)
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                msg = f"{name} must be one of {', '.join(choices)}, got {getattr(self, name)!r}"
                raise SettingsError(msg)

    @property
    def segment_size(self) -> int:
        """Size of each of the two vectors that `encode_segment` returns for a segment."""
        return self.hidden if self.front == "fa_fv" else self.audio_size

    @property
    def stream_size(self) -> int:
        """D: size of a segment in either stream after the recurrent layers, both directions together."""
        return 2 * self.hidden

    @classmethod
    def corrected(cls, supervision: Supervision = "fully", **dims: int) -> VSCGOptions:
        """Return the options of the network that this project trains: as in the paper, without the bugs of the authors' code.

        Sizes are keyword arguments: audio_size, visual_size, grid, classes, hidden, attention_size, ...
        """
        if supervision == "fully":
            return cls.from_dict({"supervision": supervision, **dims})
        weak: dict[str, object] = {
            "supervision": supervision,
            "front": "linear_v",
            "psp_renorm": False,
            "psp_dropout": 0.1,
            "post_gru_dropout": 0.5,
            "decision": "argmax29",
        }
        return cls.from_dict({**weak, **dims})

    @classmethod
    def reference(cls, supervision: Supervision = "fully") -> VSCGOptions:
        """Return the options of the authors' network, its bugs included, for their checkpoints and published numbers.

        Source: Bravo5542/VSCG vscgfully_model.py and vscgweakly_model.py at 49156ee.
        """
        shared: dict[str, object] = {"psp_threshold": REFERENCE_PSP_THRESHOLD, "pool": "floor"}
        if supervision == "fully":
            return cls.from_dict({**asdict(cls.corrected("fully")), **shared, "swap_av": True, "segment_head": "untrained"})
        return cls.from_dict({**asdict(cls.corrected("weakly")), **shared, "prior": "cross_linear", "post_gru": "dropout_norm"})

    @classmethod
    def from_dict(cls, values: Mapping[str, object]) -> VSCGOptions:
        """Build options from plain values, such as those `dataclasses.asdict` returns.

        Raises:
            SettingsError: for a key that is not an option (the message names the nearest option) or a value out of range.
        """
        refuse_unknown(values, [field.name for field in fields(cls)], "the network")
        return cls(**values)  # type: ignore[arg-type]


def refuse_unknown(values: Iterable[str], known: Sequence[str], owner: str) -> None:
    """Raise unless every key of plain values is the name of an option.

    Args:
        values: the keys given.
        known: the names of the options.
        owner: what the options belong to, for the message.

    Raises:
        SettingsError: for the first key that is not an option; the message names the nearest option.
    """
    for key in values:
        if key not in known:
            nearest = difflib.get_close_matches(key, known, n=1)
            hint = f"; did you mean {nearest[0]}?" if nearest else f"; options are {', '.join(known)}"
            msg = f"{owner} has no option {key!r}{hint}"
            raise SettingsError(msg)


def _check_range(name: str, value: object, low: float, below: float | None) -> None:
    """Raise SettingsError unless *value* is a number in [low, below); without an upper end (*below* None) it must be a whole number."""
    whole = below is None
    kind: tuple[type, ...] = (int,) if whole else (int, float)
    fits = isinstance(value, kind) and not isinstance(value, bool) and value >= low and (below is None or value < below)  # type: ignore[operator]
    if not fits:
        wanted = f"a whole number of at least {low}" if whole else f"at least {low} and below {below}"
        msg = f"{name} must be {wanted}, got {value!r}"
        raise SettingsError(msg)
