"""Compares an engine with the reference: each network on the same inputs, and all four from pictures and sound to scores.

It uses numpy only. The only file format is .npz, in which the reference's answers are kept beside an engine.
"""

from __future__ import annotations

import zipfile
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np

from streamav.engines.recipe import NETWORK_NAMES
from streamav.engines.samples import Samples
from streamav.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray
    from pydantic import JsonValue

    from streamav.engines.recipe import Tolerance
    from streamav.protocols import Engine

__all__ = ["Answers", "Parity", "answer", "compare", "load_answers", "relative_l2", "save_answers"]

_TINY = 1e-6
_RELEVANT = 0.5
"""Relevance above which a segment counts as relevant in the comparison; a run has its own thresholds."""
_TIE = 2e-3
"""Two probabilities that differ by less are a tie; float32 itself may decide it either way (twice cpu-fp32's tolerance)."""


@dataclass(frozen=True, eq=False, slots=True)
class Answers:
    """An engine's answers to samples: inputs and outputs of each network, in the chain from pictures and sound to scores."""

    samples: Samples
    inputs: Mapping[str, tuple[NDArray[np.generic], ...]]
    outputs: Mapping[str, tuple[NDArray[np.float32], ...]]

    @property
    def relevance(self) -> NDArray[np.float32]:
        """Return the relevance, shape (W, T), range 0 to 1."""
        return _sigmoid(self.outputs["localize_window"][0])

    @property
    def classes(self) -> NDArray[np.float32]:
        """Return the class probabilities of each window, shape (W, C), rows sum to 1."""
        return _softmax(self.outputs["localize_window"][1])

    @property
    def segments(self) -> NDArray[np.float32]:
        """Return the class probabilities of each segment, shape (W, T, C + 1), rows sum to 1."""
        return _softmax(self.outputs["localize_window"][2])


@dataclass(frozen=True, slots=True, kw_only=True)
class Parity:
    """How far an engine is from the reference."""

    relative: dict[str, float]
    """By network: largest error of an output over the largest absolute value of that output."""
    l2: dict[str, float]
    """By network: Euclidean norm of an output's error over that of the output; the largest of several outputs."""
    probability: float
    """Largest difference of a probability after the whole chain."""
    decisions: float
    """Share of the segments whose class and relevance are decided as in the reference; the reference's ties count as equal."""
    relevant: float
    """Share of the segments that the reference finds relevant; if it is 0, `decisions` compared only background."""
    passed: bool

    def tree(self) -> dict[str, JsonValue]:
        """Return it as JSON values."""
        return asdict(self)


def answer(engine: Engine, samples: Samples) -> Answers:
    """Run the whole chain of an engine on samples.

    Raises:
        EngineError: when an output is not finite.
    """
    inputs: dict[str, tuple[NDArray[np.generic], ...]] = {"visual": (samples.pictures,), "audio": (samples.patches,)}
    outputs = {name: engine.network(name)(*inputs[name]) for name in ("visual", "audio")}
    inputs["encode_segment"] = (outputs["audio"][0], outputs["visual"][0])
    outputs["encode_segment"] = engine.network("encode_segment")(*inputs["encode_segment"])
    audio, visual = outputs["encode_segment"][:2]
    inputs["localize_window"] = (samples.windows(audio), samples.windows(visual))
    outputs["localize_window"] = engine.network("localize_window")(*inputs["localize_window"])
    for name, arrays in outputs.items():
        if not all(np.isfinite(array).all() for array in arrays):
            msg = f"network {name} of engine {engine.name} must give finite numbers, got NaN or infinity; its weights are unusable"
            raise EngineError(msg)
    return Answers(samples, inputs, outputs)


def compare(engine: Engine, reference: Answers, tolerance: Tolerance) -> Parity:
    """Compare an engine with the reference's answers.

    Raises:
        EngineError: when an output of the engine is not finite or has another shape than the reference's.
    """
    own = answer(engine, reference.samples)
    relative, l2 = {}, {}
    for name in NETWORK_NAMES:
        # In the chain the encoders have the same inputs as alone.
        got = own.outputs[name] if name in {"visual", "audio"} else engine.network(name)(*reference.inputs[name])
        relative[name], l2[name] = _errors(name, got, reference.outputs[name])
    probability = max(
        float(np.abs(own.relevance - reference.relevance).max()),
        float(np.abs(own.classes - reference.classes).max()),
        float(np.abs(own.segments - reference.segments).max()),
    )
    decisions = _agreeing(own, reference)
    passed = max(relative.values()) <= tolerance.relative and probability <= tolerance.probability and decisions >= tolerance.decisions
    relevant = float((reference.relevance > _RELEVANT).mean())
    return Parity(relative=relative, l2=l2, probability=probability, decisions=decisions, relevant=relevant, passed=passed)


def relative_l2(got: NDArray[np.float32], want: NDArray[np.float32]) -> float:
    """Return the Euclidean norm of the error over that of *want*; 0 means equal."""
    return float(np.linalg.norm(got - want)) / max(float(np.linalg.norm(want)), _TINY)


def save_answers(path: Path, answers: Answers) -> None:
    """Write answers as .npz."""
    arrays: dict[str, NDArray[np.generic]] = {"pictures": answers.samples.pictures, "patches": answers.samples.patches}
    for name in NETWORK_NAMES:
        arrays |= {f"{name}/in{place}": array for place, array in enumerate(answers.inputs[name])}
        arrays |= {f"{name}/out{place}": array for place, array in enumerate(answers.outputs[name])}
    with path.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)


def load_answers(path: Path) -> Answers:
    """Read answers written by `save_answers`.

    Raises:
        EngineError: when the file is damaged.
    """
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        samples = Samples(arrays["pictures"], arrays["patches"])
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as exc:
        msg = f"the reference answers {path} are damaged: {exc}; run: streamav engines build"
        raise EngineError(msg) from exc
    inputs = {name: _numbered(arrays, f"{name}/in") for name in NETWORK_NAMES}
    outputs = {name: _numbered(arrays, f"{name}/out") for name in NETWORK_NAMES}
    return Answers(samples, inputs, outputs)


def _numbered(arrays: dict[str, NDArray[np.float32]], prefix: str) -> tuple[NDArray[np.float32], ...]:
    count = sum(name.startswith(prefix) for name in arrays)
    return tuple(arrays[f"{prefix}{place}"] for place in range(count))


def _errors(name: str, got: tuple[NDArray[np.float32], ...], want: tuple[NDArray[np.float32], ...]) -> tuple[float, float]:
    """Return the largest error over the largest value, and the norm of the error over the norm; both of the worst output."""
    if [array.shape for array in got] != [array.shape for array in want]:
        msg = f"network {name} must give shapes {[array.shape for array in want]}, got {[array.shape for array in got]}"
        raise EngineError(msg)
    pairs = list(zip(got, want, strict=True))
    largest = max(float(np.abs(a - b).max()) / max(float(np.abs(b).max()), _TINY) for a, b in pairs)
    return largest, max(relative_l2(a, b) for a, b in pairs)


def _agreeing(own: Answers, reference: Answers) -> float:
    """Return the share of segments decided as in the reference; where its best two are nearer than a tie, the decision counts as equal."""
    ranked = np.sort(reference.segments, axis=-1)
    clear = ranked[..., -1] - ranked[..., -2] > _TIE
    same_class = own.segments.argmax(-1) == reference.segments.argmax(-1)
    sure = np.abs(reference.relevance - _RELEVANT) > _TIE
    same_relevance = (own.relevance > _RELEVANT) == (reference.relevance > _RELEVANT)
    alike = (same_class | ~clear) & (same_relevance | ~sure)
    return float(alike.mean())


def _sigmoid(values: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * values)), dtype=np.float32)


def _softmax(values: NDArray[np.float32]) -> NDArray[np.float32]:
    powers = np.exp(values - values.max(-1, keepdims=True))
    return np.asarray(powers / powers.sum(-1, keepdims=True), dtype=np.float32)
