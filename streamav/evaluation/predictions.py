"""Holds what a model predicted for every segment of labelled clips, with the truth, and reads and writes it as NPZ or CSV.

docs/evaluation.md describes both layouts. Nothing in a file is unpickled. It runs no model and computes no figure.
"""

from __future__ import annotations

import csv
import io
import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from streamav.errors import DataError, SettingsError, reason_of
from streamav.files import whole_file, write_whole
from streamav.tables import read_table

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["BACKGROUND", "SUFFIXES", "Predictions", "check_suffix", "read_predictions", "write_predictions"]

SCHEMA: Final = "streamav.predictions/1"
BACKGROUND: Final = "background"
"""Name of background in a CSV file."""
SUFFIXES: Final = (".npz", ".csv")
_FIXED: Final = ("clip", "group", "segment", "truth", "decided")
_SCORE: Final = "p:"
"""Prefix of the columns with probabilities."""
_MOST_BYTES: Final = 1 << 30
"""Largest size of the unpacked arrays, bytes, so that a wrong file cannot use up the memory."""
_DECIMALS: Final = 6
"""Decimals of the scores in a CSV file: about the precision of float32."""
_WRITE_IT: Final = "check the path, or write it with --predictions of streamav eval, recordings or train"


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Predictions:
    """The answers of one model for n clips; the segments of all clips follow one another, S in all."""

    model: str
    """Name of the model, for reports."""
    labels: tuple[str, ...]
    """C labels; number C is background."""
    clips: tuple[str, ...]
    """n names, each once."""
    groups: tuple[str, ...]
    """n names: clips of one group come from one source and are drawn together."""
    lengths: NDArray[np.int64]
    """Shape (n,): segments of each clip; their sum is S."""
    truth: NDArray[np.int64]
    """Shape (S,), 0 to C."""
    decided: NDArray[np.int64]
    """Shape (S,), 0 to C."""
    probabilities: NDArray[np.float32] | None
    """Shape (S, C + 1), 0 to 1; None where the model gave none."""

    def __post_init__(self) -> None:
        """Check that the parts fit together.

        Raises:
            DataError: when they do not.
        """
        clips, segments, columns = len(self.clips), int(self.lengths.sum()), len(self.labels) + 1
        fits = (
            len(self.groups) == clips == len(self.lengths) == len(set(self.clips))
            and bool((self.lengths >= 0).all())
            and self.truth.shape == self.decided.shape == (segments,)
            and (self.probabilities is None or self.probabilities.shape == (segments, columns))
        )
        if not fits or not clips or len(set(self.labels)) != len(self.labels):
            got = f"got {clips} clips and {segments} segments"
            msg = f"predictions must have one group and one length for each clip, and one truth for each segment, {got}"
            raise DataError(msg)
        for name, values in (("truth", self.truth), ("decided", self.decided)):
            if segments and (values.min() < 0 or values.max() >= columns):
                msg = f"{name} must lie in 0 to {columns - 1}, got {values.min()} to {values.max()}"
                raise DataError(msg)

    @property
    def background(self) -> int:
        """Number of background: C."""
        return len(self.labels)

    def each(self) -> Iterator[tuple[str, slice]]:
        """Yield the name of each clip and the place of its segments."""
        ends = np.cumsum(self.lengths)
        for name, end, length in zip(self.clips, ends.tolist(), self.lengths.tolist(), strict=True):
            yield name, slice(end - length, end)


def check_suffix(path: Path) -> None:
    """Check that a file of predictions has a known suffix.

    Raises:
        SettingsError: when it has not.
    """
    if path.suffix.lower() not in SUFFIXES:
        msg = f"a file of predictions must end in {' or '.join(SUFFIXES)}, got {path.name}"
        raise SettingsError(msg)


def write_predictions(path: Path, predictions: Predictions) -> None:
    """Write predictions as the suffix of *path* says, whole or not at all.

    Raises:
        SettingsError: when the suffix is not known.
        OSError: when the file cannot be written.
    """
    check_suffix(path)
    if path.suffix.lower() == ".csv":
        write_whole(path, _csv(predictions))
        return
    arrays: dict[str, NDArray[np.generic]] = {
        "schema": np.array(SCHEMA),
        "model": np.array(predictions.model),
        "labels": np.array(predictions.labels, dtype=np.str_),
        "clips": np.array(predictions.clips, dtype=np.str_),
        "groups": np.array(predictions.groups, dtype=np.str_),
        "lengths": predictions.lengths,
        "truth": predictions.truth,
        "decided": predictions.decided,
    }
    if predictions.probabilities is not None:
        arrays["probabilities"] = predictions.probabilities
    with whole_file(path) as part, part.open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type] # numpy's stub takes the names for its own options


def read_predictions(path: Path) -> Predictions:
    """Read predictions.

    Raises:
        DataError: when the file cannot be read, or its parts do not fit together.
        SettingsError: when the suffix is not known.
    """
    check_suffix(path)
    if path.suffix.lower() == ".csv" and not path.exists():
        msg = f"{path} must be a file of predictions (CSV), got no such file; {_WRITE_IT}"
        raise DataError(msg)
    try:
        return _from_csv(path) if path.suffix.lower() == ".csv" else _from_npz(path)
    except DataError as exc:
        if str(path) in str(exc):
            raise
        msg = f"{path}: {exc}"
        raise DataError(msg) from exc


def _csv(predictions: Predictions) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = [*predictions.labels, BACKGROUND]
    scores = predictions.probabilities
    writer.writerow([*_FIXED, *([] if scores is None else [_SCORE + name for name in names])])
    for (clip, place), group in zip(predictions.each(), predictions.groups, strict=True):
        for segment, row in enumerate(range(place.start, place.stop)):
            given = [] if scores is None else [f"{value:.{_DECIMALS}g}" for value in scores[row].tolist()]
            writer.writerow([clip, group, segment, names[predictions.truth[row]], names[predictions.decided[row]], *given])
    return text.getvalue()


def _from_csv(path: Path) -> Predictions:
    columns, rows = read_table(path)
    if tuple(columns[: len(_FIXED)]) != _FIXED or not rows:
        msg = f"{path} must have the columns {', '.join(_FIXED)}, and a row for each segment, got {', '.join(columns) or 'nothing'}"
        raise DataError(msg)
    scored = [name.removeprefix(_SCORE) for name in columns[len(_FIXED) :]]
    said = {row[key] for _, row in rows for key in ("truth", "decided")} - {BACKGROUND}
    labels = tuple(scored[:-1]) if scored else tuple(sorted(said))
    if unknown := sorted(said - set(labels)):
        msg = f"{path}: truth and decided must be names of the columns {_SCORE}NAME, got {', '.join(unknown)}"
        raise DataError(msg)
    places = {name: number for number, name in enumerate([*labels, BACKGROUND])}
    groups: dict[str, str] = {}
    lengths: dict[str, int] = {}
    for line, row in rows:
        if row["segment"] != str(lengths.get(row["clip"], 0)) or (lengths.get(row["clip"]) and row["clip"] != next(reversed(lengths))):
            msg = (
                f"{path}, row {line}: the segments of a clip must follow one another from 0, got segment {row['segment']} of {row['clip']}"
            )
            raise DataError(msg)
        groups.setdefault(row["clip"], row["group"])
        lengths[row["clip"]] = lengths.get(row["clip"], 0) + 1
    return Predictions(
        model=path.stem,
        labels=labels,
        clips=tuple(lengths),
        groups=tuple(groups.values()),
        lengths=np.array(list(lengths.values()), dtype=np.int64),
        truth=np.array([places[row["truth"]] for _, row in rows], dtype=np.int64),
        decided=np.array([places[row["decided"]] for _, row in rows], dtype=np.int64),
        probabilities=_scores_of(path, rows, columns[len(_FIXED) :]) if scored else None,
    )


def _scores_of(path: Path, rows: Sequence[tuple[int, dict[str, str]]], columns: Sequence[str]) -> NDArray[np.float32]:
    try:
        return np.array([[float(row[column]) for column in columns] for _, row in rows], dtype=np.float32)
    except ValueError as exc:
        msg = f"{path}: the columns {_SCORE}NAME must hold numbers: {exc}"
        raise DataError(msg) from exc


def _from_npz(path: Path) -> Predictions:
    try:
        with zipfile.ZipFile(path) as packed:
            size = sum(one.file_size for one in packed.infolist())
        if size > _MOST_BYTES:
            msg = f"{path} must unpack to at most {_MOST_BYTES} bytes, got {size}"
            raise DataError(msg)
        with np.load(path, allow_pickle=False) as file:
            found = {name: file[name] for name in file.files}
    except (OSError, ValueError, zipfile.BadZipFile, EOFError) as exc:
        got = "no such file" if isinstance(exc, FileNotFoundError) else reason_of(exc)
        msg = f"{path} must be a file of predictions (NPZ), got {got}; {_WRITE_IT}"
        raise DataError(msg) from exc
    if str(found.get("schema")) != SCHEMA:
        msg = f"{path} must be a file of predictions with the schema {SCHEMA}, got {found.get('schema', 'none')}"
        raise DataError(msg)
    try:
        return Predictions(
            model=str(found["model"]),
            labels=tuple(found["labels"].astype(np.str_).tolist()),
            clips=tuple(found["clips"].astype(np.str_).tolist()),
            groups=tuple(found["groups"].astype(np.str_).tolist()),
            lengths=found["lengths"].astype(np.int64),
            truth=found["truth"].astype(np.int64),
            decided=found["decided"].astype(np.int64),
            probabilities=found["probabilities"].astype(np.float32) if "probabilities" in found else None,
        )
    except (KeyError, TypeError, ValueError) as exc:
        msg = f"{path} lacks a part, or one has a wrong type: {exc}; write it again with --predictions"
        raise DataError(msg) from exc
