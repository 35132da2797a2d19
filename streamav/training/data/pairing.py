"""Puts windows together of the sound of one clip and the picture of another: what a live camera hears and sees, with known truth.

Every window is cut at any phase out of two pieces, each a pair of sound and picture: of one clip, of two clips of one class, of two
classes that disagree, of one of them alone, or of nothing. A few thousand clips so give millions of windows.
It knows no epoch loop and no loss; what is drawn depends on the seed and the number of the epoch alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from streamav.training.data.feature_set import Batch, Seconds, epoch_generator

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from streamav.training.data.feature_set import FeatureSet
    from streamav.training.data.presence import Presence
    from streamav.training.options import TrainOptions

__all__ = ["PAIRS", "PairedBatches"]

_PURPOSE = 3
"""Sets these random numbers apart from those of shuffling and cutting."""
PAIRS = {"same_clip": 0.26, "same_class": 0.32, "mismatch": 0.16, "heard_only": 0.08, "seen_only": 0.08, "quiet": 0.10}
"""How often a piece is of each kind."""


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class PairedBatches:
    """The batches of an epoch: as many windows as there are clips."""

    train: FeatureSet
    """Clips with one event class each."""
    presence: Presence
    options: TrainOptions
    background: FeatureSet | None = None
    """Background-only clips of the same arrays; without them nothing is silence and darkness."""

    def __call__(self, epoch: int) -> Iterator[Batch]:
        """Give the batches of one epoch, counted from 1."""
        random = epoch_generator(self.options.seed, epoch, _PURPOSE)
        classes = self.train.tags[self.train.rows].argmax(axis=1)
        rows = {int(label): self.train.rows[classes == label] for label in np.unique(classes)}
        quiet = self.background.rows if self.background is not None and len(self.background) else np.array([-1])
        size = self.options.batch
        for _ in range(-(-len(self.train) // size)):
            seconds = self._windows(rows, quiet, size, random)
            yield _disturbed(self.train.gather_seconds(seconds), self.options.input_noise, random)

    def _windows(self, rows: dict[int, NDArray[np.int64]], quiet: NDArray[np.int64], size: int, random: np.random.Generator) -> Seconds:
        """Draw the windows of a batch: T of the 2 T seconds of two pieces each."""
        segments = self.train.labels.shape[1]
        pairs = np.array([[self._pair(rows, quiet, random) for _ in range(2)] for _ in range(size)])  # (B, 2 pieces, heard and seen)
        # Half of the windows lie within one piece as far as that goes, so that whole events are common too.
        phase = np.where(random.random(size) < 0.5, random.integers(0, segments + 1, size), random.choice([0, 1, 2], size))  # noqa: PLR2004
        places = phase[:, None] + np.arange(segments)  # (B, T), 0 to 2 T - 1
        piece, second = places // segments, places % segments
        take = np.arange(size)[:, None]
        heard_rows, seen_rows = pairs[take, piece, 0], pairs[take, piece, 1]
        none = self.train.background
        heard = np.where(heard_rows < 0, none, self.presence.heard[heard_rows, second])
        seen = np.where(seen_rows < 0, none, self.presence.seen[seen_rows, second])
        # The clip's own labels hold where both are of one clip: they also know seconds in which two classes meet.
        own = self.train.labels[np.maximum(heard_rows, 0), second]
        labels = np.where((heard_rows == seen_rows) & (heard_rows >= 0), own, np.where(heard == seen, heard, none))
        return Seconds(
            audio_rows=heard_rows, audio_seconds=second, visual_rows=seen_rows, visual_seconds=second, labels=labels.astype(np.int64)
        )

    def _pair(self, rows: dict[int, NDArray[np.int64]], quiet: NDArray[np.int64], random: np.random.Generator) -> tuple[int, int]:
        """Draw the rows that a piece hears and sees."""
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
    """Add noise to the features, of *noise* times their own spread; of a grid once a second and channel: single cells average out."""
    if noise == 0.0:
        return batch
    generator = torch.Generator().manual_seed(int(random.integers(2**63 - 1)))
    batch.audio.add_(noise * batch.audio.std() * torch.randn(batch.audio.shape, generator=generator))
    shape = (*batch.visual.shape[:2], 1, 1, batch.visual.shape[-1])
    # In place: the tensors are the batch's own, and another 240 MB would cost more than the noise.
    batch.visual.add_(noise * batch.visual[::8].std() * torch.randn(shape, generator=generator))
    return batch
