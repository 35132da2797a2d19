"""Reads the class scores of a user's clips, with the truth of every segment, for learning labels from them.

It fits nothing. Features come from `features`; the base model's localizer answers here, as it will beside the labels in a live run.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from streamav.engines.modules import build_localizer
from streamav.evidence import probe_logits
from streamav.training.clips.rows import BEYOND_S, events_beyond, load_features
from streamav.training.clips.table import refuse
from streamav.training.streams.run import score_windows
from streamav.types import WINDOW_SEGMENTS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from streamav.bundle import Bundle
    from streamav.networks.vscg import VSCG
    from streamav.training.clips.table import Clip, ClipTable

__all__ = ["OwnRecording", "own_recordings"]

_LEAST_COVERED = 0.5
"""Share of a segment that an event must cover for the segment to hold it."""


@dataclass(frozen=True, eq=False, slots=True)
class OwnRecording:
    """One clip of a user: class scores of its S segments, and which of L labels they hold."""

    file: str
    group: str
    """Recording that the clip was cut from; clips of one group are never on both sides of a check."""
    heard: NDArray[np.float32]
    """Shape (S, H), 0 to 1."""
    seen: NDArray[np.float32]
    """Shape (S, K), 0 to 1."""
    motion: NDArray[np.float32]
    """Shape (S,): motion inside each segment, above or below the usual."""
    probed: NDArray[np.float32]
    """Shape (S, P): logits of the model's own picture classes."""
    drawn: NDArray[np.float32]
    """Shape (S,): logit that the picture is a drawing."""
    network: NDArray[np.float32]
    """Shape (S, C + 1), 0 to 1: the base model's localizer, background last."""
    truth: NDArray[np.bool_]
    """Shape (S, L). A label that occurs somewhere in the clip is true in all of it."""
    somewhere: NDArray[np.bool_]
    """Shape (L,): labels that occur somewhere in the clip, nobody said when."""


def own_recordings(table: ClipTable, places: Mapping[int, Path], bundle: Bundle) -> list[OwnRecording]:
    """Return the clips of a table that have features.

    Args:
        table: the clips; its labels are the columns of the truth.
        places: file of the features of each clip, by its number in the table.
        bundle: the model whose encoders made the features; it has evidence.

    Raises:
        DataError: when a file is damaged, or an event ends after its clip.
        ModelError: when the weights of the localizer do not fit.
    """
    network, arrays = build_localizer(bundle).eval(), bundle.weights("evidence")
    found, problems = [], []
    for number, place in places.items():
        clip, stored = table.clips[number], load_features(place)
        problems += events_beyond(clip, len(stored["audio"]), BEYOND_S)
        found.append(_recording(clip, table.labels, stored, network, arrays))
    refuse(table.path, problems)
    return found


def _recording(
    clip: Clip, labels: Sequence[str], stored: Mapping[str, NDArray[np.floating]], network: VSCG, arrays: Mapping[str, NDArray[np.float32]]
) -> OwnRecording:
    found = {name: np.asarray(array, np.float32) for name, array in stored.items()}
    grid = found["visual"]
    truth, somewhere = truth_of(clip, labels, len(grid))
    return OwnRecording(
        file=clip.file,
        group=clip.group,
        heard=found["heard"],
        seen=found["seen"],
        motion=found["motion"],
        probed=np.stack([probe_logits(one, arrays["probes.weight"], arrays["probes.bias"]) for one in grid]),
        drawn=grid.mean(axis=(1, 2)) @ arrays["drawn.weight"][0] + arrays["drawn.bias"][0],
        network=answers(network, found["audio"], grid),
        truth=truth,
        somewhere=somewhere,
    )


def truth_of(clip: Clip, labels: Sequence[str], segments: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return which labels each segment holds (S, L), and which occur somewhere in the clip (L,).

    A segment holds a label when events cover half of it; events shorter than that hold the segment that they cover most.
    """
    truth = np.zeros((segments, len(labels)), np.bool_)
    somewhere = np.zeros(len(labels), np.bool_)
    starts = np.arange(segments)
    for event in clip.events:
        number = labels.index(event.label)
        somewhere[number] |= event.somewhere
        covered = np.clip(np.minimum(event.offset_s, starts + 1) - np.maximum(event.onset_s, starts), 0.0, None).round(6)
        truth[covered >= min(_LEAST_COVERED, float(covered.max(initial=0.0)) or 1.0), number] = True
    return truth, somewhere


@torch.inference_mode()
def answers(network: VSCG, audio: NDArray[np.float32], visual: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return what the localizer says of S segments, shape (S, C + 1): the mean over the windows that hold a segment.

    Args:
        network: in evaluation mode.
        audio: shape (S, A).
        visual: shape (S, G, G, V).
    """
    count = len(audio)
    places = torch.arange(max(count, WINDOW_SEGMENTS)).clamp(max=count - 1)  # a short clip repeats its last segment, as live
    parts = [
        network.encode_segment(torch.from_numpy(audio[at : at + 64]), torch.from_numpy(visual[at : at + 64])) for at in range(0, count, 64)
    ]
    heard, seen = (torch.cat([part[side] for part in parts])[places] for side in (0, 1))
    windows = score_windows(network, heard, seen, WINDOW_SEGMENTS, "argmax29")
    sums = np.zeros((len(places), windows.shape[2]))
    counts = np.zeros((len(places), 1))
    for first, window in enumerate(windows):
        sums[first : first + WINDOW_SEGMENTS] += window
        counts[first : first + WINDOW_SEGMENTS] += 1.0
    return np.asarray((sums / counts)[:count], dtype=np.float32)
