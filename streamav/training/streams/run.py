"""Runs a trained VSCG over streams composed of a data set, as in a live run: each segment is encoded once, and each completes a window.

It computes no scores (`streamav.evaluation` does) and selects nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
import torch

from streamav.evaluation.baselines import AlignedStream
from streamav.evaluation.counting import ScoredStream
from streamav.evaluation.manifest import Manifest, ManifestOptions, StreamSegments, make_manifest
from streamav.networks.heads import segment_probabilities
from streamav.networks.vscg import VSCG
from streamav.training.data.feature_set import FeatureSet, SegmentRows

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray
    from torch import nn

    from streamav.evaluation.manifest import Piece
    from streamav.networks.options import Decision
    from streamav.training.data.folder import AveData

__all__ = ["RunsStreams", "features_of", "manifest_of", "run_aligned", "run_stream", "run_streams", "score_windows"]

_BLOCK = 16
"""Number of rows of T segments that are encoded at once: 160 MB of AVE's visual features."""
_WINDOWS = 256
_WHOLE_WINDOWS = 64
"""Windows that are computed at once: with cached segments, and whole."""


@runtime_checkable
class RunsStreams(Protocol):
    """A model that scores the windows of a stream itself, such as `whole.WholeModel`."""

    def run_stream(self, features: FeatureSet, stream: StreamSegments) -> ScoredStream:
        """Score every window of a stream."""
        ...


def manifest_of(data: AveData, split: str, options: ManifestOptions) -> Manifest:
    """Draw the streams of the val or test split; videos that are also in the training split are not used."""
    part = data.val if split == "val" else data.test
    rows = part.rows[~np.isin(part.rows, data.repeated)]
    classes = part.tags[rows].argmax(axis=1)
    quiet = None if data.background is None else data.background.rows
    return make_manifest(split, rows, classes, part.labels.shape[1], options, quiet)


def run_streams(network: nn.Module, features: FeatureSet, manifest: Manifest, decision: Decision) -> Iterator[ScoredStream]:
    """Run every stream of a manifest: VSCG and whole models as in a live run, other networks on whole windows.

    One stream is in memory at a time. *decision* is the head that the probabilities of a network come from; a whole model has no heads.
    """
    for number in range(len(manifest.streams)):
        stream = manifest.seconds(number, features.labels, features.background)
        if isinstance(network, RunsStreams):
            yield network.run_stream(features, stream)
        elif isinstance(network, VSCG):
            yield run_stream(network, features, stream, decision)
        else:
            yield _run_whole_windows(network, features, stream, decision)


def run_stream(network: VSCG, features: FeatureSet, stream: StreamSegments, decision: Decision) -> ScoredStream:
    """Score every window of one stream.

    Args:
        network: the network; it is set to eval mode.
        features: the data set whose rows the stream names.
        stream: S segments, at least T.
        decision: the head that the probabilities come from.
    """
    network.eval()
    heard, seen = [], []
    with torch.inference_mode():
        for audio, visual in features_of(features, stream):
            a, v, _ = network.encode_segment(audio, visual)
            heard.append(a)
            seen.append(v)
    return ScoredStream(score_windows(network, torch.cat(heard), torch.cat(seen), features.labels.shape[1], decision), stream.labels)


def score_windows(network: VSCG, heard: torch.Tensor, seen: torch.Tensor, segments: int, decision: Decision) -> NDArray[np.float32]:
    """Return the probabilities of every window of S encoded segments, shape (S - T + 1, T, C + 1).

    Args:
        network: in eval mode.
        heard: vectors of sound, shape (S, D).
        seen: vectors of picture, shape (S, D).
        segments: T.
        decision: the head that the probabilities come from.
    """
    count = len(heard) - segments + 1
    said = []
    with torch.inference_mode():
        for start in range(0, count, _WINDOWS):
            places = torch.arange(start, min(start + _WINDOWS, count))[:, None] + torch.arange(segments)  # (B, T)
            said.append(segment_probabilities(network.localize_window(heard[places], seen[places]), decision).numpy())
    return np.concatenate(said)


def features_of(features: FeatureSet, stream: StreamSegments) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield audio (n, A) and visual features (n, G, G, V) of the segments of a stream, in order, S in all.

    Segments are read in rows of T, so that a clip is read only once or twice.
    """
    segments, count = features.labels.shape[1], len(stream.labels)
    rows = -(-count // segments)
    padded = {name: _padded(getattr(stream, name), rows * segments).reshape(rows, segments) for name in StreamSegments.__dataclass_fields__}
    padded["labels"] = np.maximum(padded["labels"], 0)
    for start in range(0, rows, _BLOCK):
        batch = features.gather_segments(SegmentRows(**{name: values[start : start + _BLOCK] for name, values in padded.items()}))
        wanted = count - start * segments  # the last row is filled up
        yield batch.audio.flatten(0, 1)[:wanted], batch.visual.flatten(0, 1)[:wanted]


def _run_whole_windows(network: nn.Module, features: FeatureSet, stream: StreamSegments, decision: Decision) -> ScoredStream:
    """Score every window of one stream with a network that takes whole windows only; each segment is then computed up to T times."""
    segments = features.labels.shape[1]
    columns = {name: getattr(stream, name) for name in StreamSegments.__dataclass_fields__}
    said = []
    count = len(stream.labels) - segments + 1
    network.eval()
    with torch.inference_mode():
        for start in range(0, count, _WHOLE_WINDOWS):
            places = np.arange(start, min(start + _WHOLE_WINDOWS, count))[:, None] + np.arange(segments)
            batch = features.gather_segments(SegmentRows(**{name: values[places] for name, values in columns.items()}))
            said.append(segment_probabilities(network(batch.audio, batch.visual), decision).numpy())
    return ScoredStream(np.concatenate(said), stream.labels)


def run_aligned(network: nn.Module, features: FeatureSet, manifest: Manifest, decision: Decision) -> Iterator[AlignedStream]:
    """Score each piece of each stream in a window of its whole clip, as if the cuts were known (the offline oracle).

    Args:
        network: the network; it is set to eval mode.
        features: the data set whose rows the manifest names.
        manifest: the streams.
        decision: the head that the probabilities come from.
    """
    segments = features.labels.shape[1]
    network.eval()
    for number, pieces in enumerate(manifest.streams):
        truth = manifest.seconds(number, features.labels, features.background).labels
        said = []
        for start in range(0, len(pieces), _BLOCK):
            block = pieces[start : start + _BLOCK]
            batch = features.gather_segments(_whole(block, segments))
            with torch.inference_mode():
                scores = segment_probabilities(network(batch.audio, batch.visual), decision).numpy()
            said += [scores[place, piece.start : piece.start + piece.length] for place, piece in enumerate(block)]
        yield AlignedStream(np.concatenate(said), truth, segments)


def _whole(pieces: Sequence[Piece], segments: int) -> SegmentRows:
    """Return all segments of the clips that the pieces were cut from; their labels are not used."""
    seconds = np.tile(np.arange(segments, dtype=np.int64), (len(pieces), 1))
    heard, seen = (
        np.repeat(np.array(rows, dtype=np.int64)[:, None], segments, axis=1)
        for rows in ([piece.audio_row for piece in pieces], [piece.visual_row for piece in pieces])
    )
    return SegmentRows(audio_rows=heard, audio_segments=seconds, visual_rows=seen, visual_segments=seconds, labels=np.zeros_like(seconds))


def _padded(values: np.ndarray[tuple[int], np.dtype[np.int64]], size: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    out = np.full(size, -1, dtype=np.int64)
    out[: len(values)] = values
    return out
