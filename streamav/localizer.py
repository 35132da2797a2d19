"""Scores the seconds of windows with the two halves of VSCG: each second is encoded once, each window is localized anew.

It knows numpy and the role Engine: no torch, no device, no source.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from streamav.types import WINDOW_SEGMENTS, SegmentFeatures, WindowScores

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from streamav.protocols import Engine
    from streamav.types import Window

__all__ = ["Head", "VscgLocalizer"]

Head = Literal["segment", "two_stage"]
"""Which head decides: the scores of single segments, or relevance times the window's class vector, for a model whose
per-segment head was never trained."""

_LEAST_CACHE = 2 * WINDOW_SEGMENTS


class _Encoded(NamedTuple):
    """One encoded second; it holds its features so that their identity stays taken."""

    features: SegmentFeatures
    audio: NDArray[np.float32]
    visual: NDArray[np.float32]
    attention: NDArray[np.float32]


class VscgLocalizer:
    """Fills the role Localizer with the networks encode_segment and localize_window of an engine.

    A window shorter than ten seconds, which exists only for a source shorter than that, is filled up by repeating its last
    second, and the scores of the repetitions are thrown away.
    """

    def __init__(self, engine: Engine, head: Head = "segment") -> None:
        """Take both networks from *engine*.

        Raises:
            EngineError: when the engine lacks one of them.
        """
        self._encode = engine.network("encode_segment")
        self._localize = engine.network("localize_window")
        self._head = head
        self._cache: OrderedDict[int, _Encoded] = OrderedDict()

    def localize(self, windows: Sequence[Window]) -> list[WindowScores]:
        """Give the scores of one or more windows, possibly of several sources, as one batch."""
        if not windows:
            return []
        encoded = self._encoded(windows)
        rows = [[encoded[id(segment)] for segment in _filled(window)] for window in windows]
        relevance, classes, segments, similarity = self._localize(
            np.stack([[second.audio for second in row] for row in rows]),
            np.stack([[second.visual for second in row] for row in rows]),
        )
        probabilities, certain = self._decide(relevance, classes, segments)
        agreement = np.clip(similarity, -1.0, 1.0).astype(np.float32)
        return [
            _scores(window, certain[number], probabilities[number], agreement[number], rows[number])
            for number, window in enumerate(windows)
        ]

    def _encoded(self, windows: Sequence[Window]) -> dict[int, _Encoded]:
        """Give the encoded seconds of all windows by identity of their features; those not met before run as one batch."""
        wanted = {id(segment): segment for window in windows for segment in window.segments}
        fresh = [segment for key, segment in wanted.items() if key not in self._cache]
        if fresh:
            outputs = self._encode(np.stack([one.audio for one in fresh]), np.stack([one.visual for one in fresh]))
            for number, segment in enumerate(fresh):
                audio, visual, attention = (output[number] for output in outputs)
                self._cache[id(segment)] = _Encoded(segment, audio, visual, attention)
        for key in wanted:
            self._cache.move_to_end(key)
        found = {key: self._cache[key] for key in wanted}
        while len(self._cache) > max(_LEAST_CACHE, 2 * len(wanted)):  # two rounds: sources may take turns
            self._cache.popitem(last=False)
        return found

    def _decide(
        self, relevance: NDArray[np.float32], classes: NDArray[np.float32], segments: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Turn logits into class probabilities (B, T, C + 1) and relevance (B, T).

        Source: VSCG section III-E (two-stage decision), here soft: s = [sigmoid(e) softmax(c), 1 - sigmoid(e)].
        """
        if self._head == "two_stage":
            certain = _sigmoid(relevance)
            event = certain[:, :, None] * _softmax(classes)[:, None, :]
            return np.concatenate([event, 1.0 - certain[:, :, None]], axis=2).astype(np.float32), certain
        return _softmax(segments), _sigmoid(relevance)


def _filled(window: Window) -> tuple[SegmentFeatures, ...]:
    return window.segments + (window.segments[-1],) * (WINDOW_SEGMENTS - len(window.segments))


def _scores(
    window: Window,
    relevance: NDArray[np.float32],
    probabilities: NDArray[np.float32],
    agreement: NDArray[np.float32],
    row: list[_Encoded],
) -> WindowScores:
    length = len(window.segments)
    attention = np.stack([second.attention for second in row[:length]]).astype(np.float32)
    total = attention.sum(axis=(1, 2), keepdims=True)
    return WindowScores(
        first_index=window.first_index,
        relevance=relevance[:length],
        class_probabilities=probabilities[:length],
        agreement=agreement[:length],
        attention=attention / np.maximum(total, np.finfo(np.float32).tiny),
        levels_dbfs=tuple(segment.level_dbfs for segment in window.segments),
    )


def _sigmoid(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Give 1 / (1 + exp(-x)) without overflow."""
    return (0.5 * (1.0 + np.tanh(0.5 * logits.astype(np.float64)))).astype(np.float32)


def _softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Give the softmax over the last axis."""
    wide = logits.astype(np.float64)
    powers = np.exp(wide - wide.max(axis=-1, keepdims=True))
    shares: NDArray[np.float32] = (powers / powers.sum(axis=-1, keepdims=True)).astype(np.float32)
    return shares
