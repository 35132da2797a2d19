"""Finds the model, the table and the features that `streamav train` on own clips works with; `own_labels` and `own_localizer` train.

It shows progress and trains nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from streamav.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from streamav.bundle import Bundle
    from streamav.training.clips.table import ClipTable
    from streamav.training.experiments.run import RunPlan

__all__ = ["OwnClips", "base_model", "clips_of", "feature_folder", "is_own_clips", "say"]

_BASE = "starter"


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnClips:
    """The options of the command."""

    plan: RunPlan
    """Clips or features to train on, and the place of the results."""
    encoders: str | None
    """Name or folder of the model to start from; None: the one that made the features, or the starter for clips."""
    weights: Path | None
    """Folder with the encoders that the model does not contain."""
    features: Path | None
    """Folder for the features; None: `OUT.features`, next to the bundle."""
    changes: Mapping[str, Mapping[str, object]]
    """Values of --set and of other options, by section."""
    device: str
    command: str
    as_json: bool
    """Print the scores as JSON."""


def is_own_clips(data: Path) -> bool:
    """Return whether a folder holds clips with a table, or features made from such a folder."""
    from streamav.training.clips.features import EXTRACTION_FILE
    from streamav.training.clips.table import LABELS_FILE
    from streamav.training.data.folder import is_ave_folder

    return (data / EXTRACTION_FILE).is_file() or ((data / LABELS_FILE).is_file() and not is_ave_folder(data))


def base_model(data: Path, encoders: str | None) -> Bundle:
    """Return the model to start from: the named one, the one that made the features, or the starter.

    Raises:
        ModelError: when there is no such model.
        SettingsError: when another model made the features.
    """
    from streamav.bundle import find_bundle
    from streamav.training.clips.features import model_of

    made_with = model_of(data)
    source = find_bundle(encoders or (made_with[0] if made_with else _BASE))
    if made_with is not None and source.sha256 != made_with[1]:
        msg = (
            f"the features in {data} were made with the encoders of {made_with[0]}, and {source.path} is another model; "
            "name the right one with --encoders, or extract the features again"
        )
        raise SettingsError(msg)
    return source


def clips_of(asked: OwnClips, base: Bundle) -> tuple[ClipTable, dict[int, Path]]:
    """Return the table of the clips and the file of each clip's features; features that are missing are extracted.

    Raises:
        DataError: when the table or a clip is wrong, or the features were made by an earlier version.
    """
    from streamav.training.clips.features import model_of, read_clips

    if model_of(asked.plan.folder) is not None:
        return read_clips(asked.plan.folder)
    folder = _extracted(asked, base, rows=False)
    return read_clips(folder)


def feature_folder(asked: OwnClips, base: Bundle) -> Path:
    """Return the folder of features in AVE's form; features that are missing are extracted."""
    from streamav.training.clips.features import model_of

    return asked.plan.folder if model_of(asked.plan.folder) is not None else _extracted(asked, base, rows=True)


def say(text: str) -> None:
    """Print a line to standard error; results alone go to standard output."""
    typer.echo(text, err=True)


def _extracted(asked: OwnClips, base: Bundle, *, rows: bool) -> Path:
    from streamav.cli.extract import extract_own_clips
    from streamav.config import ModelSettings
    from streamav.training.clips.rows import ClipOptions
    from streamav.training.clips.table import LABELS_FILE

    folder = asked.features or asked.plan.out.absolute().with_name(f"{asked.plan.out.name}.features")
    settings = ModelSettings(name=asked.encoders or _BASE, weights_dir=asked.weights)
    say(f"features: {folder} (they are kept: a second training reads them; a changed {LABELS_FILE} extracts only what is new)")
    table = asked.plan.folder / LABELS_FILE
    extract_own_clips(asked.plan.folder, table, folder, (base, settings), ClipOptions(stride=5, rows=rows), ray=None, skip=False)
    return folder
