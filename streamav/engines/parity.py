"""Compares an engine with the reference: each network on the same inputs, and all four from pictures and sound to scores.

It uses numpy only. The only file format is .npz, in which the reference's answers are kept beside an engine.
"""

from __future__ import annotations

import zipfile
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from streamav.engines.recipe import NETWORK_NAMES
from streamav.engines.samples import Samples
from streamav.errors import EngineError, reason_of
from streamav.types import WINDOW_SEGMENTS

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray
    from pydantic import JsonValue

    from streamav.engines.recipe import Tolerance
    from streamav.evidence import LabelEvidence
    from streamav.protocols import Engine

__all__ = ["Answers", "Parity", "answer", "compare", "load_answers", "relative_l2", "save_answers"]

ENCODERS = ("visual", "audio")
_TINY = 1e-6
"""Least divisor of a relative error; answers of the networks are far larger."""
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
    """By network: largest error of an output over the largest absolute value of that output; of an encoder, its features alone."""
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
    outputs = {name: engine.network(name)(*inputs[name]) for name in ENCODERS}
    inputs["encode_segment"] = (outputs["audio"][0], outputs["visual"][0])
    outputs["encode_segment"] = engine.network("encode_segment")(*inputs["encode_segment"])
    audio, visual = outputs["encode_segment"][:2]
    inputs["localize_window"] = (samples.windows(audio), samples.windows(visual))
    outputs["localize_window"] = engine.network("localize_window")(*inputs["localize_window"])
    for name, arrays in outputs.items():
        if not all(np.isfinite(array).all() for array in arrays):
            msg = f"network {name} of engine {engine.name} must return finite numbers, got NaN or infinity; its weights are unusable"
            raise EngineError(msg)
    return Answers(samples, inputs, outputs)


def compare(engine: Engine, reference: Answers, tolerance: Tolerance, evidence: LabelEvidence | None = None) -> Parity:
    """Compare an engine with the reference's answers.

    Args:
        engine: the engine to judge.
        reference: the answers of the reference.
        tolerance: the bounds.
        evidence: evidence of the model's labels, which then decides as in a run; None where the localizer alone decides.

    Raises:
        EngineError: when an output of the engine is not finite or has another shape than the reference's.
    """
    own = answer(engine, reference.samples)
    relative, l2 = {}, {}
    for name in NETWORK_NAMES:
        # In the chain the encoders have the same inputs as alone.
        answered = own.outputs[name] if name in ENCODERS else engine.network(name)(*reference.inputs[name])
        relative[name], l2[name] = _errors(name, answered, reference.outputs[name])
    got, want = _decided(own, evidence), _decided(reference, evidence)
    probability = max(float(np.abs(a - b).max()) for a, b in zip(got, want, strict=True))
    decisions = _agreeing(got, want)
    passed = max(relative.values()) <= tolerance.relative and probability <= tolerance.probability and decisions >= tolerance.decisions
    relevant = float((want.relevance > _RELEVANT).mean())
    return Parity(relative=relative, l2=l2, probability=probability, decisions=decisions, relevant=relevant, passed=passed)


def relative_l2(got: NDArray[np.float32], want: NDArray[np.float32]) -> float:
    """Return the Euclidean norm of the error over that of *want*, which has the same shape; 0 means equal."""
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
        msg = f"the reference answers {path} are damaged: {reason_of(exc)}; run: streamav engines build"
        raise EngineError(msg) from exc
    inputs = {name: _numbered(arrays, f"{name}/in") for name in NETWORK_NAMES}
    outputs = {name: _numbered(arrays, f"{name}/out") for name in NETWORK_NAMES}
    return Answers(samples, inputs, outputs)


def _numbered(arrays: dict[str, NDArray[np.float32]], prefix: str) -> tuple[NDArray[np.float32], ...]:
    count = sum(name.startswith(prefix) for name in arrays)
    return tuple(arrays[f"{prefix}{place}"] for place in range(count))


def _errors(name: str, got: tuple[NDArray[np.float32], ...], want: tuple[NDArray[np.float32], ...]) -> tuple[float, float]:
    """Return the largest error over the largest value, and the norm of the error over the norm; both of the worst output.

    The first leaves out an encoder's class scores: one of a thousand may change by much where no label depends on it.
    The decisions judge them.
    """
    if [array.shape for array in got] != [array.shape for array in want]:
        msg = f"network {name} must return shapes {[array.shape for array in want]}, got {[array.shape for array in got]}"
        raise EngineError(msg)
    pairs = list(zip(got, want, strict=True))
    judged = pairs[:1] if name in ENCODERS else pairs
    largest = max(float(np.abs(a - b).max()) / max(float(np.abs(b).max()), _TINY) for a, b in judged)
    return largest, max(relative_l2(a, b) for a, b in pairs)


class _Decided(NamedTuple):
    """What an engine's answers decide in each segment of each window."""

    relevance: NDArray[np.float32]
    """Shape (W, T)."""
    segments: NDArray[np.float32]
    """Probabilities of labels and background, shape (W, T, columns + 1)."""
    classes: NDArray[np.float32]
    """Probabilities of the window's class, shape (W, C)."""


def _decided(answers: Answers, evidence: LabelEvidence | None) -> _Decided:
    if evidence is None:
        return _Decided(answers.relevance, answers.segments, answers.classes)
    rows = zip(answers.outputs["audio"][1], answers.outputs["visual"][1], answers.outputs["visual"][0], strict=True)
    sensed = [evidence.sensed_in(heard, seen, grid) for heard, seen, grid in rows]
    windows = [sensed[first : first + WINDOW_SEGMENTS] for first in range(len(sensed) - WINDOW_SEGMENTS + 1)]
    segments = evidence.together(windows, answers.segments)
    return _Decided(1.0 - segments[..., -1], segments, answers.classes)


def _agreeing(got: _Decided, want: _Decided) -> float:
    """Return the share of segments decided as in the reference; where its best two are nearer than a tie, the decision counts as equal."""
    ranked = np.sort(want.segments, axis=-1)
    clear = ranked[..., -1] - ranked[..., -2] > _TIE
    same_class = got.segments.argmax(-1) == want.segments.argmax(-1)
    sure = np.abs(want.relevance - _RELEVANT) > _TIE
    same_relevance = (got.relevance > _RELEVANT) == (want.relevance > _RELEVANT)
    alike = (same_class | ~clear) & (same_relevance | ~sure)
    return float(alike.mean())


def _sigmoid(values: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * values)), dtype=np.float32)


def _softmax(values: NDArray[np.float32]) -> NDArray[np.float32]:
    powers = np.exp(values - values.max(-1, keepdims=True))
    return np.asarray(powers / powers.sum(-1, keepdims=True), dtype=np.float32)
