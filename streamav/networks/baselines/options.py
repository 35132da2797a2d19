"""Defines the sizes and switches of the baseline networks as one frozen value.

It imports no torch. Widths that the papers fix are in the networks themselves.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Literal, get_args

from streamav.errors import SettingsError
from streamav.networks.options import Decision, Supervision, refuse_unknown

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["BaselineName", "BaselineOptions", "Plugin"]

BaselineName = Literal["avel", "pspnet", "cmbs"]
Plugin = Literal["none", "psp", "escm"]

_CHOICES: dict[str, tuple[str, ...]] = {
    "network": get_args(BaselineName),
    "supervision": get_args(Supervision),
    "plugin": get_args(Plugin),
    "decision": get_args(Decision),
}


@dataclass(frozen=True, kw_only=True)
class BaselineOptions:
    """One baseline of Table IV or V.

    Raises:
        SettingsError: when a size is below 1, a threshold is outside 0 to 1, or a switch has an unknown value or does not fit the network.
    """

    network: BaselineName
    supervision: Supervision = "fully"
    plugin: Plugin = "none"
    """The module at the end of the host network, before its heads (Table IV)."""
    npf_heads: bool = False
    """True: PSP-Net and AVEL have the relevance and class heads that the negative pair filter loss needs (Table V)."""
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
    psp_threshold: float | None = None
    """Pruning threshold of PSP, 0 to 1; None stands for 0.99 / T."""
    decision: Decision = "argmax29"
    """How labels are decided offline."""
    decision_threshold: float = 0.5
    """Relevance above which `two_stage` labels a segment as an event, 0 to 1. Source: marmot-xy/CMBS supv_main.py:291."""

    def __post_init__(self) -> None:
        """Check every field."""
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                msg = f"{name} must be one of {', '.join(choices)}, got {getattr(self, name)!r}"
                raise SettingsError(msg)
        for name in ("audio_size", "visual_size", "grid", "classes", "hidden"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                msg = f"{name} must be a whole number of at least 1, got {value!r}"
                raise SettingsError(msg)
        for name in ("psp_threshold", "decision_threshold"):
            value = getattr(self, name)
            if value is not None and not 0.0 <= value <= 1.0:
                msg = f"{name} must be from 0 to 1, got {value!r}"
                raise SettingsError(msg)
        if self.network == "cmbs" and self.npf_heads:
            msg = "npf_heads is for pspnet and avel; cmbs has such heads already"
            raise SettingsError(msg)
        if self.npf_heads and self.supervision == "weakly":
            msg = "npf_heads needs supervision fully, got weakly"
            raise SettingsError(msg)

    @classmethod
    def from_dict(cls, values: Mapping[str, object]) -> BaselineOptions:
        """Build options from plain values.

        Raises:
            SettingsError: for a key that is not an option; the message names the nearest option.
        """
        refuse_unknown(values, [field.name for field in fields(cls)], "a baseline")
        return cls(**values)  # type: ignore[arg-type]
