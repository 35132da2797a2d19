"""Features and labels of clips as the trainer reads them: rows of large arrays, gathered batch by batch, never copied as a whole.

File formats and splits are not handled here: `folder` and the composite data sets make feature sets, and `trainer` reads batches from
them.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
import torch

from streamav.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

__all__ = ["Batch", "FeatureRows", "FeatureSet", "GatheredRows", "SegmentRows", "StackedRows", "epoch_generator"]


class FeatureRows(Protocol):
    """Anything that returns one row at a time: a numpy array, a memory map, an HDF5 dataset, or `StackedRows`."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape, rows first."""
        ...

    @property
    def dtype(self) -> np.dtype[np.floating]:
        """Stored type: float16, float32 or float64."""
        ...

    def __getitem__(self, row: int, /) -> NDArray[np.floating]:
        """Return one row."""
        ...


@runtime_checkable
class GatheredRows(FeatureRows, Protocol):
    """Rows in the memory of a GPU, which are gathered there; they have already been checked for NaN and infinity."""

    def take(self, rows: NDArray[np.int64], /) -> torch.Tensor:
        """Return rows (B,) as a new float32 tensor (B, T, ...)."""
        ...

    def take_segments(self, rows: NDArray[np.int64], seconds: NDArray[np.int64], /) -> torch.Tensor:
        """Return single segments (B, T) as a new float32 tensor (B, T, ...); row -1 gives zeros."""
        ...


class StackedRows:
    """Several arrays of rows joined to one without a copy: AVE's clips followed by its background-only clips."""

    def __init__(self, parts: Sequence[FeatureRows]) -> None:
        """Stack *parts*, which must all have the same shape of a row.

        Raises:
            DataError: when there is no part or the shapes of two parts differ.
        """
        shapes = {tuple(part.shape[1:]) for part in parts}
        if len(shapes) != 1:
            msg = f"stacked features must have one shape of a row, got {sorted(shapes)}"
            raise DataError(msg)
        self._parts = tuple(parts)
        self._ends = np.cumsum([part.shape[0] for part in parts])

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape, rows first."""
        return (int(self._ends[-1]), *self._parts[0].shape[1:])

    @property
    def dtype(self) -> np.dtype[np.floating]:
        """Stored type of the first part."""
        return self._parts[0].dtype

    def __getitem__(self, row: int) -> NDArray[np.floating]:
        """Return one row; rows are counted through all parts."""
        part = int(np.searchsorted(self._ends, row, side="right"))
        return self._parts[part][row - (int(self._ends[part - 1]) if part else 0)]


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Batch:
    """The input of one training or evaluation step; the batch owns its tensors."""

    audio: torch.Tensor
    """Shape (B, T, A), float32."""
    visual: torch.Tensor
    """Shape (B, T, G, G, V), float32."""
    labels: torch.Tensor
    """Shape (B, T), int64: class of each segment, 0 to C; C is background."""
    tags: torch.Tensor
    """Shape (B, C + 1), float32: weak target of the whole clip, column C for background."""
    whole: int = 0
    """Number of clips of the whole step if this batch is one process's share of it (see `distributed`); 0 if this is the whole batch."""

    @property
    def clips(self) -> int:
        """Number of clips of the step, over all processes."""
        return self.whole or len(self)

    def __len__(self) -> int:
        """Return the number of clips."""
        return int(self.labels.shape[0])

    def to(self, device: torch.device | str) -> Batch:
        """Return the batch on another device."""
        if torch.device(device).type == "cpu":
            return self
        return replace(
            self,
            audio=self.audio.to(device, non_blocking=True),
            visual=self.visual.to(device, non_blocking=True),
            labels=self.labels.to(device),
            tags=self.tags.to(device),
        )


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class SegmentRows:
    """Windows cut at any phase: the row and the segment that each place of a window takes its audio and visual features from.

    All arrays have the shape (B, T).
    """

    audio_rows: NDArray[np.int64]
    """Row of the audio features, or -1 for silence (zeros)."""
    audio_segments: NDArray[np.int64]
    """Index of the segment in that row, 0 to T - 1."""
    visual_rows: NDArray[np.int64]
    """Row of the visual features, or -1 for no picture (zeros)."""
    visual_segments: NDArray[np.int64]
    """Index of the segment in that row, 0 to T - 1."""
    labels: NDArray[np.int64]
    """Class of each segment, 0 to C; C is background."""

    def select(self, windows: NDArray[np.int64]) -> SegmentRows:
        """Return the windows at the given places."""
        return SegmentRows(**{field.name: getattr(self, field.name)[windows] for field in fields(self)})


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class FeatureSet:
    """Clips of T segments with features and labels; the splits of a data set share these arrays and differ in `rows`."""

    audio: FeatureRows
    """Shape (n, T, A), floating point."""
    visual: FeatureRows
    """Shape (n, T, G, G, V), floating point; float16 halves memory and disk traffic."""
    labels: NDArray[np.int64]
    """Shape (n, T): class of each segment, 0 to C; C is background."""
    tags: NDArray[np.float32]
    """Shape (n, C + 1): weak target of each clip."""
    rows: NDArray[np.int64]
    """Shape (m,): the rows that belong to this set, in order."""
    name: str = "features"
    """Name of this set in messages."""

    def __post_init__(self) -> None:
        """Check shapes, labels and rows.

        Raises:
            DataError: when they do not fit together; the message names the row.
        """
        n = self.labels.shape[0]
        if self.labels.ndim != 2 or self.tags.ndim != 2:  # noqa: PLR2004 - two axes
            msg = f"{self.name}: labels must be (n, T) and tags (n, C + 1), got {self.labels.shape} and {self.tags.shape}"
            raise DataError(msg)
        if not (self.audio.shape[:2] == self.labels.shape and self.visual.shape[:2] == self.labels.shape and len(self.tags) == n):
            msg = (
                f"{self.name}: audio, visual, labels and tags must agree in rows and segments, got {self.audio.shape}, "
                f"{self.visual.shape}, {self.labels.shape}, {self.tags.shape}"
            )
            raise DataError(msg)
        outside = np.flatnonzero((self.labels < 0).any(axis=1) | (self.labels > self.background).any(axis=1))
        if outside.size:
            row = int(outside[0])
            msg = f"{self.name}: labels must lie in 0 to {self.background}, got {self.labels[row].tolist()} in row {row}"
            raise DataError(msg)
        wrong = self.rows[(self.rows < 0) | (self.rows >= n)]
        if wrong.size:
            msg = f"{self.name}: rows must lie in 0 to {n - 1}, got {int(wrong[0])}"
            raise DataError(msg)

    def __len__(self) -> int:
        """Return the number of clips."""
        return len(self.rows)

    @property
    def background(self) -> int:
        """Index of background: C, the number of foreground classes."""
        return int(self.tags.shape[1]) - 1

    def select(self, rows: NDArray[np.int64], name: str) -> FeatureSet:
        """Return a set of the same arrays with other rows."""
        return replace(self, rows=np.asarray(rows, dtype=np.int64), name=name)

    def gather(self, positions: NDArray[np.int64]) -> Batch:
        """Read the clips at *positions* (0 to len - 1) into a new batch.

        Raises:
            DataError: when a feature is NaN or infinite; the message names the row.
        """
        rows = self.rows[positions]
        return Batch(
            audio=self._rows("audio", self.audio, rows),
            visual=self._rows("visual", self.visual, rows),
            labels=torch.from_numpy(self.labels[rows]),
            tags=torch.from_numpy(self.tags[rows]),
        )

    def gather_segments(self, seconds: SegmentRows) -> Batch:
        """Read windows that are composed of single segments; a window's tags are the classes that occur in it, or background.

        Raises:
            DataError: when a feature is NaN or infinite; the message names the row.
        """
        windows = len(seconds.labels)
        tags = np.zeros((windows, self.background + 1), dtype=np.float32)
        tags[np.arange(windows)[:, None], seconds.labels] = 1.0
        tags[:, self.background] = (seconds.labels == self.background).all(axis=1)
        return Batch(
            audio=self._seconds("audio", self.audio, seconds.audio_rows, seconds.audio_segments),
            visual=self._seconds("visual", self.visual, seconds.visual_rows, seconds.visual_segments),
            labels=torch.from_numpy(seconds.labels),
            tags=torch.from_numpy(tags),
        )

    def batches(self, size: int) -> Iterator[Batch]:
        """Read every clip once, in order, in batches of *size*; the last batch may be smaller."""
        for start in range(0, len(self), size):
            yield self.gather(np.arange(start, min(start + size, len(self)), dtype=np.int64))

    def _rows(self, kind: str, array: FeatureRows, rows: NDArray[np.int64]) -> torch.Tensor:
        """Gather whole rows (B,) into (B, T, ...), on the device that holds them."""
        if isinstance(array, GatheredRows):
            return array.take(rows)
        values = np.empty((len(rows), *array.shape[1:]), dtype=np.float32)
        for place, row in enumerate(rows):
            values[place] = array[int(row)]
        self._check_finite(kind, values, rows[:, None])
        return torch.from_numpy(values)

    def _seconds(self, kind: str, array: FeatureRows, rows: NDArray[np.int64], seconds: NDArray[np.int64]) -> torch.Tensor:
        """Gather single segments (B, T) into (B, T, ...), on the device that holds them; row -1 gives zeros."""
        if isinstance(array, GatheredRows):
            return array.take_segments(rows, seconds)
        values = _put_together(array, rows, seconds, rows.shape[1])
        self._check_finite(kind, values, rows)
        return torch.from_numpy(values)

    def _check_finite(self, kind: str, values: NDArray[np.float32], rows: NDArray[np.int64]) -> None:
        """Raise DataError if *values* (B, T, ...) hold NaN or infinity; the message names the first such row of *rows* (B, T or 1)."""
        # The sum is finite if all numbers are. One sum costs a tenth of a check of every number.
        if np.isfinite(values.sum(dtype=np.float64)):
            return
        bad = ~np.isfinite(values.reshape(*values.shape[:2], -1)).all(axis=2)
        if bad.any():
            row = int(np.broadcast_to(rows, bad.shape)[bad][0])
            msg = f"{self.name}: {kind} features must be finite, got NaN or infinity in row {row}; extract that clip again"
            raise DataError(msg)


def _put_together(array: FeatureRows, rows: NDArray[np.int64], seconds: NDArray[np.int64], segments: int) -> NDArray[np.float32]:
    """Copy single segments of *array* into windows (B, T, ...); row -1 gives zeros."""
    out = np.empty((len(rows), segments, *array.shape[2:]), dtype=np.float32)
    into = torch.from_numpy(out)  # torch converts float16 to float32 four times as fast as numpy
    for window in range(len(rows)):
        known = -1
        clip = None
        for place in range(segments):
            row = int(rows[window, place])
            if row < 0:
                out[window, place] = 0.0
                continue
            if row != known or clip is None:  # a row is read once for consecutive segments of a window
                clip, known = array[row], row
            into[window, place].copy_(torch.from_numpy(clip[seconds[window, place]]))
    return out


def epoch_generator(seed: int, epoch: int, purpose: int = 0) -> np.random.Generator:
    """Build the random generator of one epoch from seed, epoch and purpose alone; a resumed run then draws the same numbers."""
    return np.random.default_rng([seed, epoch, purpose])
