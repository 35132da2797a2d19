"""Joins labelled clips end to end into streams by the AVE-Stream protocol: clips with a random start, between gaps of background.

It holds no features: a manifest names rows and segments, so that one seed gives the same streams everywhere. The features of a segment
do not depend on other segments, so joined features are exactly the features of the joined media.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from streamav.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

__all__ = ["Kind", "Manifest", "ManifestOptions", "Piece", "StreamSegments", "make_manifest", "parse_manifest"]

Kind = Literal["clip", "quiet", "mismatch", "heard_only", "seen_only"]
_SCHEMA = "streamav.ave-stream/1"


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a stream: segments of one row, or the sound of one row with the picture of another."""

    kind: Kind
    audio_row: int
    """Row of the data set, or -1 for silence."""
    visual_row: int
    """Row of the data set, or -1 for no picture."""
    start: int
    """First segment within the rows."""
    length: int
    """Segments, 1 to T."""


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class StreamSegments:
    """One stream, segment by segment; all arrays have shape (S,)."""

    audio_rows: NDArray[np.int64]
    audio_segments: NDArray[np.int64]
    visual_rows: NDArray[np.int64]
    visual_segments: NDArray[np.int64]
    labels: NDArray[np.int64]
    """0 to C; C is background."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestOptions:
    """How streams are laid out. Source: the project's AVE-Stream protocol, section Stream."""

    streams: int = 10
    seconds: int = 1800
    """Least length of each stream; the last piece is not cut."""
    seed: int = 0
    cut_share: float = 0.15
    """Share of clips that follow the clip before without a gap."""
    mean_gap: float = 8.0
    """Mean of the geometric part of a gap, seconds."""
    longest_gap: int = 30
    shortest_clip: int = 6
    """Clips are cropped at random to this many segments or more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """Streams of one split."""

    split: str
    seed: int
    streams: tuple[tuple[Piece, ...], ...]

    def to_json(self) -> str:
        """Return the manifest as JSON text."""
        pieces = [[list(asdict(piece).values()) for piece in stream] for stream in self.streams]
        return json.dumps({"schema": _SCHEMA, "split": self.split, "seed": self.seed, "streams": pieces}) + "\n"

    def kinds(self, stream: int) -> list[Kind]:
        """Return, for each segment of one stream, the kind of piece that it lies in."""
        return [piece.kind for piece in self.streams[stream] for _ in range(piece.length)]

    def seconds(self, stream: int, labels: NDArray[np.int64], background: int) -> StreamSegments:
        """Return one stream segment by segment; a label stays only where sound and picture come from the same clip.

        Args:
            stream: number of the stream.
            labels: shape (n, T): labels of every row of the data set.
            background: C.

        Raises:
            DataError: when a piece names a row or segment that the data set does not have.
        """
        columns: list[list[int]] = [[], [], [], [], []]
        for number, piece in enumerate(self.streams[stream]):
            rows, segments = labels.shape
            inside = max(piece.audio_row, piece.visual_row) < rows and piece.start >= 0 and 1 <= piece.length <= segments - piece.start
            if not inside:
                msg = f"piece {number} of stream {stream} must lie within {rows} rows of {segments} segments, got {piece}"
                raise DataError(msg)
            for segment in range(piece.start, piece.start + piece.length):
                label = int(labels[piece.audio_row, segment]) if piece.kind == "clip" else background
                for column, value in zip(columns, (piece.audio_row, segment, piece.visual_row, segment, label), strict=True):
                    column.append(value)
        arrays = [np.array(column, dtype=np.int64) for column in columns]
        return StreamSegments(
            audio_rows=arrays[0], audio_segments=arrays[1], visual_rows=arrays[2], visual_segments=arrays[3], labels=arrays[4]
        )


def make_manifest(
    split: str,
    rows: NDArray[np.int64],
    classes: NDArray[np.int64],
    segments: int,
    options: ManifestOptions,
    quiet_rows: NDArray[np.int64] | None = None,
) -> Manifest:
    """Draw the streams of a split.

    Args:
        split: name of the split, stored in the manifest.
        rows: shape (m,): rows of the split.
        classes: shape (m,): the event class of each row, so that a mismatch joins two different classes.
        segments: T, segments of a clip.
        options: how streams are laid out.
        quiet_rows: rows of background-only clips; without them quiet gaps have no sound and no picture.

    Raises:
        DataError: when the split is empty.
    """
    if len(rows) == 0:
        msg = f"streams need at least one clip, got an empty {split} split"
        raise DataError(msg)
    layout = _Layout(rows, classes, segments, options, quiet_rows if quiet_rows is not None else np.empty(0, dtype=np.int64))
    streams = tuple(tuple(layout.stream(np.random.default_rng([options.seed, number]))) for number in range(options.streams))
    return Manifest(split=split, seed=options.seed, streams=streams)


def parse_manifest(text: str, where: str) -> Manifest:
    """Read a manifest from JSON text.

    Args:
        text: content of a manifest file.
        where: path of the file, for messages.

    Raises:
        DataError: when the text is not a manifest.
    """
    try:
        tree = json.loads(text)
        return _manifest(tree)
    except (ValueError, KeyError, TypeError, RecursionError) as exc:
        msg = f"{where} must be a manifest of streams, as streamav eval writes it: {exc}"
        raise DataError(msg) from exc


def _manifest(tree: dict[str, Any]) -> Manifest:
    """Build a manifest from JSON values; wrong values raise ValueError, KeyError or TypeError."""
    if tree["schema"] != _SCHEMA:
        msg = f"schema must be {_SCHEMA}, got {tree['schema']!r}"
        raise ValueError(msg)
    streams = tuple(tuple(_piece(values) for values in stream) for stream in tree["streams"])
    return Manifest(split=str(tree["split"]), seed=int(tree["seed"]), streams=streams)


def _piece(values: list[object]) -> Piece:
    kind, *numbers = values
    if kind not in get_args(Kind) or not all(isinstance(number, int) for number in numbers):
        msg = f"a piece must be kind, audio row, visual row, start, length; got {values}"
        raise ValueError(msg)
    return Piece(kind, *numbers)  # type: ignore[arg-type] # checked just above


@dataclass(frozen=True, eq=False, slots=True)
class _Layout:
    """Draws the pieces of a stream."""

    rows: NDArray[np.int64]
    classes: NDArray[np.int64]
    segments: int
    options: ManifestOptions
    quiet_rows: NDArray[np.int64]

    def stream(self, random: np.random.Generator) -> Iterator[Piece]:
        """Draw one stream: gap, clip, gap, clip; every clip is used once before any clip is used again."""
        total = 0
        order: list[int] = []
        while total < self.options.seconds:
            order = order or random.permutation(len(self.rows)).tolist()
            position = order.pop()
            for piece in [*self._gap(random), self._clip(position, random)]:
                total += piece.length
                yield piece

    def _clip(self, position: int, random: np.random.Generator) -> Piece:
        length = int(random.integers(min(self.options.shortest_clip, self.segments), self.segments + 1))
        start = int(random.integers(0, self.segments - length + 1))
        row = int(self.rows[position])
        return Piece("clip", row, row, start, length)

    def _gap(self, random: np.random.Generator) -> list[Piece]:
        """Draw a gap of one kind, in pieces no longer than a clip."""
        if random.random() < self.options.cut_share:
            return []
        left = min(1 + int(random.geometric(1.0 / self.options.mean_gap)), self.options.longest_gap)
        kind: Kind = ("quiet", "mismatch", "heard_only", "seen_only")[int(random.choice(4, p=[1 / 3, 1 / 3, 1 / 6, 1 / 6]))]
        pieces = []
        while left:
            length = min(left, self.segments)
            pieces.append(self._background(kind, length, random))
            left -= length
        return pieces

    def _background(self, kind: Kind, length: int, random: np.random.Generator) -> Piece:
        start = int(random.integers(0, self.segments - length + 1))
        quiet = int(random.choice(self.quiet_rows)) if len(self.quiet_rows) else -1
        if kind == "quiet":
            return Piece(kind, quiet, quiet, start, length)
        first = int(random.integers(len(self.rows)))
        row = int(self.rows[first])
        if kind == "heard_only":
            return Piece(kind, row, quiet, start, length)
        if kind == "seen_only":
            return Piece(kind, quiet, row, start, length)
        others = np.flatnonzero(self.classes != self.classes[first])
        if not len(others):  # with one class there is no mismatch
            return Piece("heard_only", row, quiet, start, length)
        return Piece("mismatch", row, int(self.rows[random.choice(others)]), start, length)
