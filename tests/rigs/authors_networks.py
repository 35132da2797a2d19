"""Builds networks with the tensors of the VSCG authors' two networks; they can be pickled as whole modules under any module and class name.

Names and shapes of the tensors are those of the published checkpoints. The networks have no forward pass.
"""

from __future__ import annotations

import contextlib
import sys
import types
from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Iterator

TENSORS = {"fully": (76, 2_629_226), "weakly": (67, 2_397_006)}
"""Number of tensors and number of parameters of each network."""

_PART_CLASSES = ("AVGA", "LSTM_A_V", "PSP", "ESCM", "Classify")


def _part(kind: type[nn.Module], **children: nn.Module) -> nn.Module:
    part = kind()
    for name, child in children.items():
        part.add_module(name, child)
    return part


def _linear(inputs: int, outputs: int, *, bias: bool = False) -> nn.Linear:
    return nn.Linear(inputs, outputs, bias=bias)


def _shared(kinds: dict[str, type[nn.Module]], escm_extra: dict[str, nn.Module]) -> dict[str, nn.Module]:
    attention = _part(
        kinds["AVGA"],
        relu=nn.ReLU(),
        affine_audio=_linear(128, 512, bias=True),
        affine_video=_linear(512, 512, bias=True),
        affine_v=_linear(512, 49),
        affine_g=_linear(512, 49),
        affine_h=_linear(49, 1),
    )
    lstm = {f"lstm_{name}": nn.LSTM(128, 128, 1, batch_first=True, bidirectional=True) for name in ("audio", "video")}
    psp = {name: _linear(256, 256) for name in ("v_L1", "v_L2", "v_fc", "a_L1", "a_L2", "a_fc")}
    escm: dict[str, nn.Module] = {
        "conv1": nn.Sequential(nn.Conv1d(256, 128, 5, padding=2), nn.ReLU()),
        "conv2": nn.Sequential(nn.Conv1d(128, 128, 5, padding=2), nn.ReLU()),
        "pool": nn.MaxPool1d(2, 2),
        "a_gru": nn.GRU(256, 128, 1, batch_first=True, bidirectional=True),
        "v_gru": nn.GRU(256, 128, 1, batch_first=True, bidirectional=True),
        "dropout": nn.Dropout(0.1),
        "layer_norm": nn.LayerNorm(256, eps=1e-6),
        "v_fc": _linear(256, 256),
        "a_fc": _linear(256, 256),
    }
    return {
        "linear_v": _linear(512, 128, bias=True),
        "attention": attention,
        "lstm_a_v": _part(kinds["LSTM_A_V"], **lstm),
        "psp": _part(kinds["PSP"], **psp, layer_norm=nn.LayerNorm(256, eps=1e-6)),
        "escm": _part(kinds["ESCM"], **escm, **escm_extra),
    }


def _fully(kinds: dict[str, type[nn.Module]]) -> dict[str, nn.Module]:
    return {
        "fa": nn.Sequential(_linear(128, 256), _linear(256, 128)),
        "fv": nn.Sequential(_linear(512, 256), _linear(256, 128)),
        **_shared(kinds, {"L1": _linear(9, 10)}),
        "v_classify": _part(kinds["Classify"], L1=_linear(256, 64), L2=_linear(64, 28)),
        "a_classify": _part(kinds["Classify"], L1=_linear(256, 64), L2=_linear(64, 28)),
        "L1": _linear(256, 64),
        "L2": _linear(64, 29),
        "L3": _linear(256, 1, bias=True),
        "L4": _linear(256, 28, bias=True),
        "audio_gated": nn.Sequential(_linear(256, 1, bias=True), nn.Sigmoid()),
        "video_gated": nn.Sequential(_linear(256, 1, bias=True), nn.Sigmoid()),
    }


def _weakly(kinds: dict[str, type[nn.Module]]) -> dict[str, nn.Module]:
    extra = {"L1": _linear(128, 128), "L2": _linear(128, 128), "layer_norm1": nn.LayerNorm(128, eps=1e-6)}
    heads = {"W1": _linear(256, 1), "W2": _linear(64, 1), "W3": _linear(29, 1)}
    return {**_shared(kinds, extra), **heads, "L1": _linear(256, 64), "L2": _linear(64, 29), "L3": _linear(128, 64)}


@contextlib.contextmanager
def authors_network(supervision: str, *, module: str = "vscgfully_model", name: str = "vscg_net") -> Iterator[nn.Module]:
    """Yield a network with random weights; its classes can be pickled by name inside the `with` block only."""
    home = types.ModuleType(module)
    kinds: dict[str, type[nn.Module]] = {}
    for kind in (*_PART_CLASSES, name):
        kinds[kind] = type(kind, (nn.Module,), {"__module__": module})
        setattr(home, kind, kinds[kind])
    with torch.random.fork_rng():
        torch.manual_seed(5)
        network = _part(kinds[name], **(_fully if supervision == "fully" else _weakly)(kinds))
    sys.modules[module] = home
    try:
        yield network.eval()
    finally:
        del sys.modules[module]
