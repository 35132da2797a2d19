"""Maps the names of the tensors in the authors' VSCG checkpoints to the names in our network.

It opens no files; `streamav.networks.files.checkpoint` reads them. The names were read in Bravo5542/VSCG at 49156ee,
vscgfully_model.py and vscgweakly_model.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from streamav.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from streamav.networks.options import Supervision
    from streamav.networks.vscg import VSCG

__all__ = ["DEAD_KEYS", "REFERENCE_KEYS", "load_reference_state", "recognise"]

_RECURRENT = tuple(f"{kind}_l0{way}" for way in ("", "_reverse") for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
_SHARED_LAYERS: dict[str, tuple[str, tuple[str, ...]]] = {
    "attention.affine_audio": ("attention.audio_in", ("weight", "bias")),
    "attention.affine_video": ("attention.visual_in", ("weight", "bias")),
    "attention.affine_v": ("attention.visual_rows", ("weight",)),
    "attention.affine_g": ("attention.audio_rows", ("weight",)),
    "attention.affine_h": ("attention.score", ("weight",)),
    "lstm_a_v.lstm_audio": ("lstm.audio", _RECURRENT),
    "lstm_a_v.lstm_video": ("lstm.visual", _RECURRENT),
    "psp.v_L1": ("psp.visual_first", ("weight",)),
    "psp.v_L2": ("psp.visual_second", ("weight",)),
    "psp.v_fc": ("psp.visual_project", ("weight",)),
    "psp.a_L1": ("psp.audio_first", ("weight",)),
    "psp.a_L2": ("psp.audio_second", ("weight",)),
    "psp.a_fc": ("psp.audio_project", ("weight",)),
    "psp.layer_norm": ("psp.norm", ("weight", "bias")),
    "escm.conv1.0": ("escm.summary.first", ("weight", "bias")),
    "escm.conv2.0": ("escm.summary.second", ("weight", "bias")),
    "escm.a_gru": ("escm.audio_gru", _RECURRENT),
    "escm.v_gru": ("escm.visual_gru", _RECURRENT),
    "escm.layer_norm": ("escm.norm", ("weight", "bias")),
    "L1": ("heads.segment.inner", ("weight",)),
    "L2": ("heads.segment.outer", ("weight",)),
}
_FULLY_LAYERS: dict[str, tuple[str, tuple[str, ...]]] = {
    "fa.0": ("audio_front.0", ("weight",)),
    "fa.1": ("audio_front.1", ("weight",)),
    "fv.0": ("visual_front.0", ("weight",)),
    "fv.1": ("visual_front.1", ("weight",)),
    # In the authors' code v_fc follows a_gru, and a_fc follows v_gru.
    "escm.v_fc": ("escm.audio_project", ("weight",)),
    "escm.a_fc": ("escm.visual_project", ("weight",)),
    "L3": ("heads.relevance", ("weight", "bias")),
    "L4": ("heads.window_class", ("weight", "bias")),
}
_WEAKLY_LAYERS: dict[str, tuple[str, tuple[str, ...]]] = {
    "linear_v": ("visual_front", ("weight", "bias")),
    "escm.L1": ("escm.audio_cross", ("weight",)),
    "escm.L2": ("escm.visual_cross", ("weight",)),
    "W3": ("heads.gate", ("weight",)),
}


def _tensors(layers: Mapping[str, tuple[str, tuple[str, ...]]]) -> dict[str, str]:
    return {f"{theirs}.{name}": f"{ours}.{name}" for theirs, (ours, names) in layers.items() for name in names}


REFERENCE_KEYS: dict[Supervision, dict[str, str]] = {
    "fully": _tensors({**_FULLY_LAYERS, **_SHARED_LAYERS}),
    "weakly": _tensors({**_WEAKLY_LAYERS, **_SHARED_LAYERS}),
}
"""The authors' name to our name, for every tensor that the output depends on."""

DEAD_KEYS: dict[Supervision, dict[str, tuple[int, ...]]] = {
    "fully": {
        "linear_v.weight": (128, 512),
        "linear_v.bias": (128,),
        "escm.L1.weight": (10, 9),
        "v_classify.L1.weight": (64, 256),
        "v_classify.L2.weight": (28, 64),
        "a_classify.L1.weight": (64, 256),
        "a_classify.L2.weight": (28, 64),
        "audio_gated.0.weight": (1, 256),
        "audio_gated.0.bias": (1,),
        "video_gated.0.weight": (1, 256),
        "video_gated.0.bias": (1,),
    },
    "weakly": {
        "escm.layer_norm1.weight": (128,),
        "escm.layer_norm1.bias": (128,),
        "escm.v_fc.weight": (256, 256),
        "escm.a_fc.weight": (256, 256),
        "W1.weight": (1, 256),
        "W2.weight": (1, 64),
        "L3.weight": (64, 128),
    },
}
"""Tensors, with their shapes, that the authors' networks hold but never use. Their shapes are checked; they are not loaded.

The authors' fully supervised network does not use L1 and L2 either. They are loaded, because they are our segment head.
"""


def recognise(keys: Mapping[str, object]) -> Supervision | None:
    """Return which of the authors' networks a state belongs to, by its names; None when it is neither."""
    for supervision, layout in REFERENCE_KEYS.items():
        if layout.keys() <= keys.keys():
            return supervision
    return None


def load_reference_state(model: VSCG, state: Mapping[str, Tensor]) -> None:
    """Load a state of the authors' network into ours, which must be built with `VSCGOptions.reference`.

    Unused tensors (`DEAD_KEYS`) may be missing; those that are present must have the right shape.

    Raises:
        ModelError: for a missing, unknown or wrongly shaped tensor; the model is then unchanged.
    """
    supervision = model.options.supervision
    layout, dead = REFERENCE_KEYS[supervision], DEAD_KEYS[supervision]
    own = model.state_dict()
    if set(layout.values()) != own.keys():
        msg = f"the authors' weights fit only a network built with VSCGOptions.reference({supervision!r}); build it with these options"
        raise ModelError(msg)
    missing, unknown = sorted(layout.keys() - state.keys()), sorted(state.keys() - layout.keys() - dead.keys())
    if missing or unknown:
        msg = f"these must be the authors' {supervision} supervised weights; missing: {_shorten(missing)}; unknown: {_shorten(unknown)}"
        raise ModelError(msg)
    wanted = {theirs: tuple(own[ours].shape) for theirs, ours in layout.items()} | dead
    for key, tensor in state.items():
        if tuple(tensor.shape) != wanted[key] or not tensor.is_floating_point():
            msg = f"tensor {key} must be float {wanted[key]}, got {tensor.dtype} {tuple(tensor.shape)}"
            raise ModelError(msg)
    model.load_state_dict({ours: state[theirs].float() for theirs, ours in layout.items()})


def _shorten(names: list[str]) -> str:
    shown = ", ".join(names[:4]) or "none"
    return f"{shown} and {len(names) - 4} more" if len(names) > 4 else shown  # noqa: PLR2004 - four names are enough
