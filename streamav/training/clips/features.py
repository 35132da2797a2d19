"""Extracts the features of a user's clips, listed in a table of labels, into a folder of AVE-named files for training and evaluation.

The features of each media file are stored in a separate file under `seconds/`, written completely or not at all. So a killed run loses
only the file in work, and after a change of the table only new files are extracted. `rows` builds the HDF5 files from them.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from streamav.bundle import bundle_names
from streamav.errors import DataError, reason_of
from streamav.files import write_whole
from streamav.training.clips.encode import ARRAYS, LONGEST_SECONDS, MediaTask, media_seconds
from streamav.training.clips.rows import ClipOptions, events_beyond, put_together
from streamav.training.clips.table import Clip, ClipEvent, ClipTable, refuse
from streamav.training.experiments.export import ENCODERS_FILE

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from streamav.bundle import Bundle
    from streamav.training.clips.encode import MediaFeatures, MediaWorker

__all__ = [
    "CLIPS_FILE",
    "EXTRACTION_FILE",
    "ClipExtraction",
    "extract_clips",
    "model_name",
    "model_of",
    "read_clips",
]

EXTRACTION_FILE = "extraction.json"
"""Names the model whose encoders made the features; a folder holds features of one model."""
CLIPS_FILE = "clips.json"
"""The table of the clips with the file of each clip's features; class scores are read from there."""
_SECONDS = "seconds"
_SCHEMA = "streamav.clip-features/1"
_DURATION_SLACK_S = 1.0
"""Difference that a header's duration may have from the decoded one, s."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipExtraction:
    """The result of an extraction."""

    files: int
    """Number of files with features, including those of earlier calls."""
    rows: dict[str, int]
    """Number of rows of each split; empty if files failed without *skip*: then the HDF5 files are not made."""
    failed: dict[str, str] = field(default_factory=dict)
    """The reason why a file has no features, by file; the reason names the row of the table."""
    places: dict[int, Path] = field(default_factory=dict)
    """File of the features of each clip that has some, by its number in the table."""


def extract_clips(
    table: ClipTable,
    out: Path,
    bundle: Bundle,
    worker: MediaWorker,
    options: ClipOptions | None = None,
    *,
    skip: bool = False,
    progress: Callable[[str], None] | None = None,
) -> ClipExtraction:
    """Extract the files of a table that are not yet in *out*, and build the folder of features.

    Args:
        table: the table of clips.
        out: folder of the features; it is made, or an earlier call's folder is continued.
        bundle: the model whose encoders *worker* runs.
        worker: encodes files; results come in any order, and this function alone writes them.
        options: how rows are cut; None for the defaults.
        skip: build the folder even if some files cannot be read.
        progress: called with each file that is done: first those of earlier calls, then the others as they finish.

    Raises:
        DataError: when an event lies beyond its file's end, or *out* holds features of another model.
    """
    options = ClipOptions() if options is None else options
    refuse(table.path, _early_ends(table))
    _prepare(out, bundle, options)
    places = {number: _place(out, table.media, clip) for number, clip in enumerate(table.clips)}
    missing = [number for number, place in places.items() if not _is_there(place, scored=bundle.card.evidence is not None)]
    tell = progress if progress is not None else _tell_nobody
    for number in sorted(places.keys() - set(missing)):
        tell(table.clips[number].file)
    failed: dict[str, str] = {}
    for result in worker([MediaTask(number, table.media / table.clips[number].file) for number in missing]) if missing else ():
        clip = table.clips[result.key]
        if result.features is None:
            failed[clip.file] = f"row {clip.line}: {result.reason}"
        else:
            write_whole(places[result.key], save(_stored(result.features, options, clip)), durable=True)
        tell(clip.file)
    there = {number: place for number, place in places.items() if table.clips[number].file not in failed}
    _write_clips(out, table, there)
    if failed and not skip:
        return ClipExtraction(files=len(there), rows={}, failed=failed, places=there)
    counts = put_together(table, out, there, options) if options.rows else {}
    return ClipExtraction(files=len(there), rows=counts, failed=failed, places=there)


def read_clips(folder: Path) -> tuple[ClipTable, dict[int, Path]]:
    """Return the clips whose features are in a folder, and the file of each clip's features by its number.

    Raises:
        DataError: when the folder was made by an earlier version, or the file is damaged.
    """
    path = folder / CLIPS_FILE
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
        clips = tuple(_clip_of(one) for one in tree["clips"])
        table = ClipTable(path, folder, clips, tuple(map(str, tree["labels"])))
        places = {number: folder / _SECONDS / Path(str(one["features"])).name for number, one in enumerate(tree["clips"])}
    except (OSError, ValueError, KeyError, TypeError) as exc:
        wanted = f"{folder} must hold {CLIPS_FILE}, which streamav extract writes since version 3.1"
        msg = f"{wanted}: {reason_of(exc)}; extract the features again"
        raise DataError(msg) from exc
    if missing := [place.name for place in places.values() if not _is_there(place, scored=True)]:
        msg = f"{folder / _SECONDS} must hold the class scores of every clip, {len(missing)} files lack them; extract the features again"
        raise DataError(msg)
    return table, places


def _write_clips(out: Path, table: ClipTable, places: Mapping[int, Path]) -> None:
    """Write the checked table with the file of each clip's features, so that the folder can be read without the media."""
    clips = [
        {
            "file": (clip := table.clips[number]).file,
            "group": clip.group,
            "line": clip.line,
            "features": place.name,
            "events": [[one.label, one.onset_s, None if one.somewhere else one.offset_s, one.line] for one in clip.events],
        }
        for number, place in places.items()
    ]
    write_whole(out / CLIPS_FILE, json.dumps({"labels": table.labels, "clips": clips}, indent=1) + "\n", durable=True)


def _clip_of(tree: Mapping[str, Any]) -> Clip:
    events = [
        ClipEvent(str(label), float(onset), math.inf if offset is None else float(offset), int(line), somewhere=offset is None)
        for label, onset, offset, line in tree["events"]
    ]
    return Clip(str(tree["file"]), int(tree["line"]), events, group=str(tree["group"]))


def _tell_nobody(file: str) -> None:
    """Ignore progress."""


def model_of(folder: Path) -> tuple[str, str] | None:
    """Return name or folder, and SHA-256, of the model whose encoders made the clip features of *folder*; None for other features.

    Raises:
        DataError: when `EXTRACTION_FILE` is damaged.
    """
    path = folder / EXTRACTION_FILE
    if not path.is_file():
        return None
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
        schema, model, digest = str(tree["schema"]), str(tree["model"]), str(tree["sha256"])
    except (OSError, ValueError, KeyError, TypeError) as exc:
        msg = f"{path} must be a file that streamav extract wrote: {reason_of(exc)}; extract the features again"
        raise DataError(msg) from exc
    if schema != _SCHEMA:
        msg = f"{path} must have the schema {_SCHEMA}, got {schema[:60]}; extract the features again"
        raise DataError(msg)
    return model, digest


def _early_ends(table: ClipTable) -> list[str]:
    """Return the events beyond the end in a file's header, before a long extraction; the true end is checked after decoding."""
    problems = []
    for clip in table.clips:
        length = media_seconds(table.media / clip.file)
        if length is not None and length > LONGEST_SECONDS:
            problems.append(
                f"row {clip.line}: {clip.file} must last at most {LONGEST_SECONDS} s, got {length:.0f}; cut it into shorter files"
            )
        elif length is not None:
            problems += events_beyond(clip, length, _DURATION_SLACK_S)
    return problems


def _prepare(out: Path, bundle: Bundle, options: ClipOptions) -> None:
    """Write which encoders make the features; raise DataError if the folder holds features of others."""
    out.mkdir(parents=True, exist_ok=True)
    (out / _SECONDS).mkdir(exist_ok=True)
    card = bundle.card
    encoders = {"audio": card.audio.model_dump(mode="json"), "visual": card.visual.model_dump(mode="json")}
    made = {"schema": _SCHEMA, "model": model_name(bundle), "sha256": bundle.sha256, "dtype": options.dtype}
    for name, tree in ((ENCODERS_FILE, encoders), (EXTRACTION_FILE, made)):
        path, text = out / name, json.dumps(tree, indent=1) + "\n"
        if path.is_file() and path.read_text(encoding="utf-8") != text:
            msg = f"{path} must belong to this extraction, got one of another model or number type; choose another folder for the features"
            raise DataError(msg)
        write_whole(path, text)
    for left in (*out.glob(".*.tmp"), *(out / _SECONDS).glob(".*.tmp")):  # left by a killed run
        left.unlink()


def model_name(bundle: Bundle) -> str:
    """Return the value by which the bundle is found again: its name, or its absolute folder."""
    names = {path.resolve(): name for name, path in bundle_names().items()}
    return names.get(bundle.path.resolve(), str(bundle.path.resolve()))


def _place(out: Path, media: Path, clip: Clip) -> Path:
    """Return the path of a clip's features; it changes when the media file is replaced."""
    stat = (media / clip.file).stat()
    digest = hashlib.sha256(f"{clip.file}\n{stat.st_size}\n{stat.st_mtime_ns}".encode()).hexdigest()
    return out / _SECONDS / f"{digest[:32]}.safetensors"


def _stored(features: MediaFeatures, options: ClipOptions, clip: Clip) -> dict[str, NDArray[np.floating]]:
    with np.errstate(over="ignore"):
        arrays = {name: np.ascontiguousarray(array, dtype=options.dtype) for name, array in features.arrays().items()}
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            msg = f"the {name} features of {clip.file} must be finite in {options.dtype}; extract with --float32 into another --out"
            raise DataError(msg)
    return arrays


def _is_there(place: Path, *, scored: bool) -> bool:
    """Return whether a clip's features are complete to the last byte; the caller makes a damaged file again.

    Args:
        place: the file.
        scored: whether the encoders also score their own classes; a file of an earlier version has no scores.
    """
    wanted = set(ARRAYS if scored else ARRAYS[:2])
    try:
        with safe_open(place, framework="numpy") as file:  # compares the sizes in the header with the file's
            return wanted <= set(file.keys()) and file.get_slice("audio").get_shape()[0] > 0
    except (OSError, SafetensorError, ValueError):
        return False
