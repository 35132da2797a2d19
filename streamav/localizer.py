"""Scores the segments of windows with the two halves of VSCG: each segment is encoded once, each window is localized every time.

It uses numpy and the role Engine: no torch, no device, no source.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np

from streamav.types import WINDOW_SEGMENTS, WindowScores

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from streamav.evidence import LabelEvidence, Sensed
    from streamav.protocols import Engine
    from streamav.types import Box, SegmentFeatures, Window

__all__ = ["Head", "VscgLocalizer", "over_picture"]

Head = Literal["segment", "two_stage"]
"""Which head decides. "segment": the scores of single segments. "two_stage": relevance times the window's class vector, for a model
whose head for single segments was never trained."""


_ROUNDING = 1e-9
"""Shares below are rounding errors: what lies in a bar has no attention at all."""


class _Encoded(NamedTuple):
    """One encoded segment. The rows are copies, because a view would keep the arrays of the whole batch in memory."""

    audio: NDArray[np.float32]
    visual: NDArray[np.float32]
    attention: NDArray[np.float32]
    sensed: Sensed | None
    """None where the network alone decides."""


class VscgLocalizer:
    """Fills the role Localizer with the networks encode_segment and localize_window of an engine.

    A segment without any sound, or without any picture, is background whatever the networks score: an event is heard and seen. A label that
    is only heard (kind "sound") keeps its probability in a segment without picture.
    Only a source shorter than ten segments gives a shorter window. Such a window is filled up by repeating its last segment, and the
    scores of the repetitions are dropped.

    With evidence, the logits of a label are those of its evidence plus a share of the network's, and relevance is the probability of any
    label that is heard and seen. The labels of the evidence begin with the network's classes; further labels, and labels that are only
    heard, have evidence only.
    """

    def __init__(self, engine: Engine, head: Head = "segment", evidence: LabelEvidence | None = None) -> None:
        """Take both networks from *engine*.

        Args:
            engine: has the networks "encode_segment" and "localize_window".
            head: which head of the network decides.
            evidence: evidence of the labels, from the class scores of the encoders; None where the network alone decides.

        Raises:
            EngineError: when the engine lacks one of them.
        """
        self._encode = engine.network("encode_segment")
        self._localize = engine.network("localize_window")
        self._head = head
        self._evidence = evidence
        # Weak keys: a segment is encoded once for as long as a window holds its features, with any number of sources.
        self._encoded: WeakKeyDictionary[SegmentFeatures, _Encoded] = WeakKeyDictionary()

    def use(self, evidence: LabelEvidence) -> None:
        """Use the evidence of more labels from the next window on; call it between two calls of `localize`.

        Args:
            evidence: begins with the labels and columns of the one before.
        """
        self._evidence = evidence
        for segment, encoded in list(self._encoded.items()):
            self._encoded[segment] = encoded._replace(sensed=evidence.sensed(segment))

    def localize(self, windows: Sequence[Window]) -> list[WindowScores]:
        """Return the scores of one or more windows, possibly of several sources, as one batch."""
        if not windows:
            return []
        self._encode_new(windows)
        rows = [[self._encoded[segment] for segment in _filled(window)] for window in windows]
        relevance, classes, segments, similarity = self._localize(
            np.stack([[one.audio for one in row] for row in rows]),
            np.stack([[one.visual for one in row] for row in rows]),
        )
        probabilities, certain = self._decide(relevance, classes, segments)
        if self._evidence is not None:
            probabilities = self._evidence.together([[one.sensed for one in row if one.sensed is not None] for row in rows], probabilities)
            certain = 1.0 - probabilities[..., -1]
        agreement = np.clip(similarity, -1.0, 1.0).astype(np.float32)
        sounds = np.zeros(probabilities.shape[-1] - 1, np.bool_) if self._evidence is None else self._evidence.sounds
        return [
            _scores(window, certain[number], _heard_and_seen(window, probabilities[number], sounds), agreement[number], rows[number])
            for number, window in enumerate(windows)
        ]

    def _encode_new(self, windows: Sequence[Window]) -> None:
        """Encode, as one batch, the segments of *windows* that no earlier call encoded."""
        segments = dict.fromkeys(segment for window in windows for segment in window.segments)
        fresh = [segment for segment in segments if segment not in self._encoded]
        if fresh:
            outputs = self._encode(np.stack([one.audio for one in fresh]), np.stack([one.visual for one in fresh]))
            for segment, audio, visual, attention in zip(fresh, *outputs, strict=True):
                sensed = None if self._evidence is None else self._evidence.sensed(segment)
                self._encoded[segment] = _Encoded(audio.copy(), visual.copy(), over_picture(attention, segment.inside), sensed)

    def _decide(
        self, relevance: NDArray[np.float32], classes: NDArray[np.float32], segments: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Turn logits into class probabilities (B, T, C + 1) and relevance (B, T).

        Source: VSCG section III-E (two-stage decision), here without a threshold: s = [sigmoid(e) softmax(c), 1 - sigmoid(e)].
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
    attention = np.stack([one.attention for one in row[:length]]).astype(np.float32)
    total = attention.sum(axis=(1, 2), keepdims=True)
    whole = np.array([not segment.quality.one_sided for segment in window.segments])
    return WindowScores(
        first_index=window.first_index,
        relevance=np.where(whole, relevance[:length], np.float32(0.0)),
        class_probabilities=probabilities,
        agreement=agreement[:length],
        attention=attention / np.maximum(total, np.finfo(np.float32).tiny),
        levels_dbfs=tuple(segment.level_dbfs for segment in window.segments),
    )


def over_picture(attention: NDArray[np.float32], inside: Box | None) -> NDArray[np.float32]:
    """Return a copy of the attention (G, G) as a grid over the whole picture; *inside* is the box that it covers, None for all of it."""
    if inside is None:
        return attention.copy()
    left, top, right, bottom = inside
    rows, columns = attention.shape
    return (_shares(rows, top, bottom) @ attention @ _shares(columns, left, right).T).astype(np.float32)


def _shares(cells: int, start: float, end: float) -> NDArray[np.float64]:
    """Return which share of each of *cells* equal parts of start to end lies in each equal part of 0 to 1, shape (cells, cells).

    The column of each part of start to end sums to 1.
    """
    whole = np.linspace(0.0, 1.0, cells + 1)
    part = np.linspace(start, end, cells + 1)
    common = np.minimum(whole[1:, None], part[1:]) - np.maximum(whole[:-1, None], part[:-1])
    return np.where(common > _ROUNDING, common, 0.0) * cells / (end - start)


def _heard_and_seen(window: Window, probabilities: NDArray[np.float32], sounds: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return the probabilities of the window's segments: background where sound or picture is missing, but for labels that are only heard.

    Args:
        window: T segments.
        probabilities: shape (at least T, columns + 1).
        sounds: which columns are only heard, shape (columns,).
    """
    qualities = [segment.quality for segment in window.segments]
    whole = np.array([not one.one_sided for one in qualities])[:, None]
    heard = np.array([not one.sound_missing for one in qualities])[:, None] & np.append(sounds, False)
    background = np.eye(probabilities.shape[-1], dtype=np.float32)[-1]
    return np.where(whole | heard, probabilities[: len(qualities)], background)


def _sigmoid(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return 1 / (1 + exp(-x)) without overflow."""
    return (0.5 * (1.0 + np.tanh(0.5 * logits.astype(np.float64)))).astype(np.float32)


def _softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the softmax over the last axis."""
    wide = logits.astype(np.float64)
    powers = np.exp(wide - wide.max(axis=-1, keepdims=True))
    shares: NDArray[np.float32] = (powers / powers.sum(axis=-1, keepdims=True)).astype(np.float32)
    return shares
