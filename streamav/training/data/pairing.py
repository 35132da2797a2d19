"""Builds windows from the sound of one clip and the picture of another: what a live camera hears and sees, with known labels.

Every window is cut at any phase from two pieces. Each piece is a pair of sound and picture: of one clip, of two clips of one class, of
two clips of independently drawn classes, of one event that is only heard or only seen, or of background. So a few thousand clips make
millions of windows. The draws depend on the seed and the number of the epoch alone. The epoch loop and the loss are not handled here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from streamav.training.data.feature_set import Batch, SegmentRows, epoch_generator

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from streamav.training.data.feature_set import FeatureSet
    from streamav.training.data.presence import Presence
    from streamav.training.options import TrainOptions

__all__ = ["PAIRS", "PairedBatches"]

_PURPOSE = 3
"""Makes these random numbers independent of those of shuffling and cutting."""
PAIRS = {"same_clip": 0.26, "same_class": 0.32, "mismatch": 0.16, "heard_only": 0.08, "seen_only": 0.08, "quiet": 0.10}
"""Probability of each kind of piece."""


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class PairedBatches:
    """The batches of an epoch: about as many windows as there are clips (every batch is full)."""

    train: FeatureSet
    """Clips with one event class each."""
    presence: Presence
    options: TrainOptions
    background: FeatureSet | None = None
    """Background-only clips of the same arrays; without them, background features are zeros (silence and no picture)."""

    def __call__(self, epoch: int) -> Iterator[Batch]:
        """Yield the batches of one epoch, counted from 1."""
        random = epoch_generator(self.options.seed, epoch, _PURPOSE)
        classes = self.train.tags[self.train.rows].argmax(axis=1)
        rows = {int(label): self.train.rows[classes == label] for label in np.unique(classes)}
        quiet = self.background.rows if self.background is not None and len(self.background) else np.array([-1])
        size = self.options.batch
        for _ in range(-(-len(self.train) // size)):
            seconds = self._windows(rows, quiet, size, random)
            yield _disturbed(self.train.gather_segments(seconds), self.options.input_noise, random)

    def _windows(self, rows: dict[int, NDArray[np.int64]], quiet: NDArray[np.int64], size: int, random: np.random.Generator) -> SegmentRows:
        """Draw the windows of a batch: each is T of the 2 T segments of two pieces."""
        segments = self.train.labels.shape[1]
        pairs = np.array([[self._pair(rows, quiet, random) for _ in range(2)] for _ in range(size)])  # (B, 2 pieces, heard and seen)
        # Half of the windows begin 0 to 2 segments after the start of the first piece, so that whole events are common too.
        phase = np.where(random.random(size) < 0.5, random.integers(0, segments + 1, size), random.choice([0, 1, 2], size))  # noqa: PLR2004
        places = phase[:, None] + np.arange(segments)  # (B, T), 0 to 2 T - 1
        piece, segment = places // segments, places % segments
        take = np.arange(size)[:, None]
        heard_rows, seen_rows = pairs[take, piece, 0], pairs[take, piece, 1]
        none = self.train.background
        heard = np.where(heard_rows < 0, none, self.presence.heard[heard_rows, segment])
        seen = np.where(seen_rows < 0, none, self.presence.seen[seen_rows, segment])
        # If sound and picture are of one clip, its own labels are used: they are also right for segments that hold two classes.
        own = self.train.labels[np.maximum(heard_rows, 0), segment]
        labels = np.where((heard_rows == seen_rows) & (heard_rows >= 0), own, np.where(heard == seen, heard, none))
        return SegmentRows(
            audio_rows=heard_rows, audio_segments=segment, visual_rows=seen_rows, visual_segments=segment, labels=labels.astype(np.int64)
        )

    def _pair(self, rows: dict[int, NDArray[np.int64]], quiet: NDArray[np.int64], random: np.random.Generator) -> tuple[int, int]:
        """Draw the rows of a piece: the row of its sound and the row of its picture."""
        kind = str(random.choice(list(PAIRS), p=list(PAIRS.values())))
        labels = list(rows)
        first = rows[labels[int(random.integers(len(labels)))]]
        one, still, silent = (int(random.choice(some)) for some in (first, quiet, quiet))
        match kind:
            case "same_clip":
                return one, one
            case "same_class":
                return one, int(random.choice(first))
            case "mismatch":
                return one, int(random.choice(rows[labels[int(random.integers(len(labels)))]]))
            case "heard_only":
                return one, still
            case "seen_only":
                return still, one
            case _:
                return still, silent


def _disturbed(batch: Batch, noise: float, random: np.random.Generator) -> Batch:
    """Add noise to the features, with a standard deviation of *noise* times the features' own.

    The visual noise is one number for each segment and channel, the same in all grid cells: noise of single cells would average out.
    """
    if noise == 0.0:
        return batch
    generator = torch.Generator().manual_seed(int(random.integers(2**63 - 1)))
    batch.audio.add_(noise * batch.audio.std() * torch.randn(batch.audio.shape, generator=generator))
    shape = (*batch.visual.shape[:2], 1, 1, batch.visual.shape[-1])
    # In place: the batch owns its tensors, and another 240 MB would cost more than the noise.
    batch.visual.add_(noise * batch.visual[::8].std() * torch.randn(shape, generator=generator))
    return batch
