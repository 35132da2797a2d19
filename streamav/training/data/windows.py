"""Cuts training windows like those of a live camera: clips at any phase, joined to other clips, background or mismatched pairs.

The draws depend on the seed and the number of the epoch alone. The epoch loop and the loss are not handled here.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from streamav.training.data.feature_set import Batch, FeatureSet, SegmentRows, epoch_generator
from streamav.training.workers import ALONE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from streamav.training.options import TrainOptions
    from streamav.training.workers import Workers

__all__ = ["ClipBatches"]

_PURPOSE = 1
"""Makes the random numbers of cutting independent of those of shuffling."""
_OTHER_CLIP = 0.4
"""Share of windows that are joined to another clip; the other windows are joined to background of one of four kinds."""


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class ClipBatches:
    """The batches of an epoch over labelled clips, each clip once; a share of each batch is cut at any phase.

    Source: the window-shift training (regime B) of the project's pilot; O-TALC (arXiv 2404.06894) samples likewise.
    """

    train: FeatureSet
    options: TrainOptions
    background: FeatureSet | None = None
    """Background-only clips of the same arrays; without them, background is zeros, or made from clips whose classes differ."""
    workers: Workers = ALONE
    """The processes that share each batch; each process reads the features of its own clips only."""

    def __call__(self, epoch: int) -> Iterator[Batch]:
        """Yield this process's share of each batch of one epoch, counted from 1: every n-th clip for n processes."""
        size, seed = self.options.batch, self.options.seed
        order = epoch_generator(seed, epoch).permutation(len(self.train)).astype(np.int64)
        random = epoch_generator(seed, epoch, _PURPOSE)
        for start in range(0, len(order), size):
            chosen = order[start : start + size]
            shifted = round(len(chosen) * self.options.shifted_share)
            # Every process draws for the whole batch, so that all processes use the same random numbers.
            seconds = self._cut(chosen[:shifted], random) if shifted else None
            mine = np.arange(len(chosen))[self.workers.rank :: self.workers.size]
            if not mine.size:  # fewer clips than processes: take one clip, whose weight in the loss is 0
                mine = np.zeros(1, dtype=np.int64)
            plain, cut = mine[mine < len(chosen) - shifted], mine[mine >= len(chosen) - shifted] - (len(chosen) - shifted)
            parts = []
            if plain.size:
                parts.append(self.train.gather(chosen[shifted:][plain]))
            if cut.size and seconds is not None:
                parts.append(self.train.gather_segments(seconds.select(cut)))
            yield replace(_joined(parts), whole=0 if self.workers.size == 1 else len(chosen))

    def _cut(self, positions: NDArray[np.int64], random: np.random.Generator) -> SegmentRows:
        """Cut one window from each clip: the end of the clip and then other material, or other material and then the clip's start."""
        segments = self.train.labels.shape[1]
        empty = np.full((len(positions), segments), -1, dtype=np.int64)
        seconds = SegmentRows(
            audio_rows=empty.copy(),
            audio_segments=np.zeros_like(empty),
            visual_rows=empty.copy(),
            visual_segments=np.zeros_like(empty),
            labels=np.full_like(empty, self.train.background),
        )
        for window, position in enumerate(positions):
            phase = int(random.integers(1, segments)) if segments > 1 else 0
            tail_first = random.random() < 0.5  # noqa: PLR2004 - each in half of the windows
            row = int(self.train.rows[position])
            own, rest = slice(0, segments - phase), slice(segments - phase, segments)
            first = phase
            if not tail_first:
                own, rest, first = slice(phase, segments), slice(0, phase), 0
            _place(seconds, window, own, (row, row), first)
            seconds.labels[window, own] = self.train.labels[row, first : first + segments - phase]
            self._fill(seconds, window, rest, row, random)
        return seconds

    def _fill(self, seconds: SegmentRows, window: int, rest: slice, row: int, random: np.random.Generator) -> None:
        """Fill the rest of a window with another clip, or with background: quiet, mismatched, only heard or only seen."""
        length = rest.stop - rest.start
        first = int(random.integers(0, self.train.labels.shape[1] - length + 1))
        other = int(random.choice(self.train.rows))
        if random.random() < _OTHER_CLIP:
            _place(seconds, window, rest, (other, other), first)
            seconds.labels[window, rest] = self.train.labels[other, first : first + length]
            return
        quiet = int(random.choice(self.background.rows)) if self.background is not None and len(self.background) else -1
        differ = not np.array_equal(self.train.tags[other], self.train.tags[row])
        pairs = [(quiet, quiet), (row, quiet), (quiet, row)]
        if differ:
            pairs += [(row, other), (other, row)]
        _place(seconds, window, rest, pairs[int(random.integers(len(pairs)))], first)


def _place(seconds: SegmentRows, window: int, where: slice, rows: tuple[int, int], first: int) -> None:
    """Set part of a window to the audio of the first of *rows* and the picture of the second, from segment *first* of both."""
    heard, seen = rows
    count = np.arange(first, first + where.stop - where.start)
    seconds.audio_rows[window, where], seconds.audio_segments[window, where] = heard, count
    seconds.visual_rows[window, where], seconds.visual_segments[window, where] = seen, count


def _joined(parts: list[Batch]) -> Batch:
    if len(parts) == 1:
        return parts[0]
    return Batch(
        audio=torch.cat([part.audio for part in parts]),
        visual=torch.cat([part.visual for part in parts]),
        labels=torch.cat([part.labels for part in parts]),
        tags=torch.cat([part.tags for part in parts]),
    )
