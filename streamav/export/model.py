"""Exports a whole model as ONNX files for other programs: front end, encoders, localizer and evidence, with the card and a description.

ONNX Runtime alone runs them (examples/onnx_runtime.py). Every file is compared with torch before the folder is there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
import torch

from streamav.engines.modules import build_modules
from streamav.engines.onnx_export import export_onnx
from streamav.engines.onnx_network import OnnxNetwork
from streamav.engines.samples import make_samples
from streamav.errors import EngineError
from streamav.evidence import evidence_of
from streamav.export.modules import Evidence, LogMel, Motion
from streamav.features.logmel import log_mel_options
from streamav.features.motion import BLOCKS
from streamav.files import whole_folder
from streamav.types import SAMPLES_PER_SEGMENT, WINDOW_SEGMENTS

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import nn

    from streamav.bundle import Bundle

__all__ = ["Exported", "export_model"]

_MOST_ERROR: Final = 2e-3
"""Largest accepted error of an output, relative to its largest value: float32 in another order of additions gives about 1e-5."""


class Exported(NamedTuple):
    """One file."""

    name: str
    inputs: str
    """Names and shapes."""
    outputs: str
    error: float
    """Largest error against torch, relative to the largest value of an output."""


class _Part(NamedTuple):
    module: nn.Module
    example: tuple[NDArray[np.generic], ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


def export_model(bundle: Bundle, folder: Path, weights_dir: Path | None = None) -> list[Exported]:
    """Write a model into a folder, completely or not at all.

    Args:
        bundle: the model.
        folder: to create or to replace.
        weights_dir: folder with the encoders that the bundle does not contain; None for the user's own.

    Returns:
        What was written, in the order in which the files are run.

    Raises:
        ModelError: when weights are missing.
        EngineError: when a network cannot be exported, or ONNX Runtime gives other numbers than torch.
    """
    parts = _parts(bundle, weights_dir)
    with whole_folder(folder) as place:
        made = [_write(name, part, place) for name, part in parts.items()]
        (place / "model.json").write_text(bundle.card.to_json(), encoding="utf-8")
        (place / "README.md").write_text(_description(bundle, made), encoding="utf-8")
    return made


def _parts(bundle: Bundle, weights_dir: Path | None) -> dict[str, _Part]:
    """Return every part with an example of its inputs, each made by the parts before it."""
    card, modules = bundle.card, build_modules(bundle, weights_dir)
    samples = make_samples(card.visual.picture, card.audio.log_mel_offset)
    sound = np.random.default_rng(1).normal(0.0, 0.1, (len(samples.pictures), SAMPLES_PER_SEGMENT)).astype(np.float32)
    seen, heard = _run(modules["visual"], samples.pictures), _run(modules["audio"], samples.patches)
    a, v, _ = _run(modules["encode_segment"], heard[0], seen[0])
    windows = samples.windows(a), samples.windows(v)
    answer = _run(modules["localize_window"], *windows)
    scored = len(heard) > 1 and len(seen) > 1
    parts = {
        "log_mel": _Part(LogMel(log_mel_options(card.audio)).eval(), (sound,), ("samples",), ("patch",)),
        "audio": _Part(modules["audio"], (samples.patches,), ("patch",), ("features", *(["heard"] if len(heard) > 1 else []))),
        "visual": _Part(modules["visual"], (samples.pictures,), ("picture",), ("features", *(["seen"] if len(seen) > 1 else []))),
        "encode_segment": _Part(modules["encode_segment"], (heard[0], seen[0]), ("audio", "visual"), ("a", "v", "attention")),
        "localize_window": _Part(
            modules["localize_window"], windows, ("a", "v"), ("relevance_logits", "class_logits", "segment_logits", "agreement")
        ),
    }
    evidence = evidence_of(bundle) if scored else None
    if evidence is not None:
        moving = _moving(samples.pictures, card.visual.frames_per_second)
        motion = np.zeros(len(samples.pictures), np.float32)
        if moving.shape[1] > 1 and min(card.visual.picture) >= BLOCKS:
            parts["motion"] = _Part(Motion(card.visual.picture).eval(), (moving,), ("pictures",), ("motion",))
            (motion,) = _run(parts["motion"].module, moving)
        inputs = samples.windows(heard[1]), samples.windows(seen[1]), samples.windows(seen[0]), samples.windows(motion), answer[2]
        module = Evidence(evidence, heard[1].shape[1], seen[1].shape[1]).eval()
        parts["evidence"] = _Part(module, inputs, ("heard", "seen", "visual", "motion", "segment_logits"), ("probabilities",))
    return parts


def _moving(pictures: NDArray[np.uint8], frames: int) -> NDArray[np.uint8]:
    """Return S segments of *frames* pictures each, from S pictures."""
    return np.stack([np.roll(pictures, place, axis=0) for place in range(frames)], axis=1)


def _run(module: nn.Module, *inputs: NDArray[np.generic]) -> tuple[NDArray[np.float32], ...]:
    with torch.inference_mode():
        output = module(*(torch.tensor(one) for one in inputs))
    arrays = output if isinstance(output, tuple) else (output,)
    return tuple(np.asarray(one.numpy(), dtype=np.float32) for one in arrays)


def _write(name: str, part: _Part, folder: Path) -> Exported:
    """Export one part and compare it with torch on more inputs than it was traced with."""
    path = folder / f"{name}.onnx"
    export_onnx(part.module, part.example, path, len(part.outputs), (part.inputs, part.outputs))
    wanted, got = _run(part.module, *part.example), OnnxNetwork(path, 1)(*part.example)
    error = max(float(np.abs(one - two).max() / max(float(np.abs(one).max()), 1e-6)) for one, two in zip(wanted, got, strict=True))
    if not error <= _MOST_ERROR:
        msg = (
            f"{name}.onnx must return the numbers of torch, and differs by {error:.2g} of the largest; please report it with your versions"
        )
        raise EngineError(msg)
    return Exported(name, _shapes(part.inputs, part.example), _shapes(part.outputs, wanted), error)


def _shapes(names: tuple[str, ...], arrays: tuple[NDArray[np.generic], ...]) -> str:
    return ", ".join(f"{name} {array.dtype} (B, {', '.join(map(str, array.shape[1:]))})" for name, array in zip(names, arrays, strict=True))


def _description(bundle: Bundle, made: list[Exported]) -> str:
    card = bundle.card
    height, width = card.visual.picture
    bars, least = card.visual.cuts_bars, card.visual.least_contrast
    cut = "  Bars at its edges must be cut off before, and the scene between them stretched over the whole picture.\n" if bars else ""
    pale = "" if least is None else f"  If its brightness spans fewer than {least} grey levels, it must be stretched to them before.\n"
    answer = "evidence.onnx" if any(one.name == "evidence" for one in made) else "the softmax of segment_logits"
    rows = "\n".join(f"| `{one.name}.onnx` | {one.inputs} | {one.outputs} | {one.error:.1e} |" for one in made)
    return f"""# {card.name} {card.version} as ONNX

Made by `streamav models export --onnx`; weights {bundle.sha256}. B is free in every file. Run them in this order.

| file | inputs | outputs | largest relative error against torch |
|---|---|---|---|
{rows}

- `samples`: one second of mono sound at 16 kHz, range -1 to 1. `picture`: RGB, {height} x {width} pixels, stretched to this size;
  the model takes {card.visual.frames_per_second} a second, and the outputs of `visual.onnx` are averaged over the pictures of a second.
{cut}{pale}- `pictures`: the same pictures, all of a second together. Without a file `motion.onnx`, `motion` is 0.
- A window is {WINDOW_SEGMENTS} consecutive seconds: `localize_window.onnx` and what follows take the outputs of ten calls.
- The probabilities of each second come from {answer}: {len(card.classes)} classes in the order of `model.json`, background last.
- A run of streamav also takes seconds without sound or picture as background, combines the windows that hold a second, and makes events.
- The licences are in `model.json`.
"""
