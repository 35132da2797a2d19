"""Writes the reports of `streamav localize --html`: one for each recording, and an index where there are several."""

from __future__ import annotations

import json
import os
import re
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Final

import typer

from streamav.cli.outputs import check_output
from streamav.cli.span_formats import FORMATS, SUFFIXES, FoundEvent, SpanFormat
from streamav.errors import SettingsError
from streamav.files import write_whole
from streamav.user_paths import typed_path
from streamav.view.player import media_of
from streamav.view.recording import ReportRecorder
from streamav.view.recording_page import Export, IndexRow, ReportModel, index_page, recording_page

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streamav.types import Event
    from streamav.view import Subject

__all__ = ["Reports"]

_TITLES: Final[dict[SpanFormat, tuple[str, str]]] = {
    "vtt": ("WebVTT", "text/vtt"),
    "audacity": ("Audacity labels", "text/plain"),
    "rttm": ("RTTM", "text/plain"),
    "csv": ("CSV", "text/csv"),
}
"""Title and media type of each format."""


class Reports:
    """Records one recording after another and writes its report at once, so that only one of them is in memory."""

    def __init__(self, out: Path, files: Sequence[str], embed_mb: float) -> None:
        """Check that the report can be written.

        Args:
            out: the report; the index where there are several recordings.
            files: all recordings.
            embed_mb: largest size, MB, of a recording that is put into its report.

        Raises:
            SettingsError: when it cannot be written, or would replace a recording.
        """
        check_output("--html", out)
        if any(typed_path(one).absolute() == out.absolute() for one in files):
            msg = f"--html must be a new file, got {out}, which is a recording; name another file, such as {out.with_suffix('.html').name}"
            raise SettingsError(msg)
        self._out, self._embed_mb = out, embed_mb
        self._folder = out.parent / f"{out.stem}-reports" if len(files) > 1 else None
        self._common = _common_folder(files)
        self._recorder: ReportRecorder | None = None
        self._rows: list[IndexRow] = []
        self._model: ReportModel | None = None

    def watch(self, subjects: Sequence[Subject]) -> ReportRecorder:
        """Return the observer of the next recording."""
        self._recorder = ReportRecorder(subjects[0])
        return self._recorder

    def event(self, event: Event) -> None:
        """Take a message about an event of the recording that runs."""
        if self._recorder is not None:
            self._recorder.event(event)

    def done(self, file: str, events: Sequence[FoundEvent], model: ReportModel) -> None:
        """Write the report about the recording that has ended."""
        recorder, self._recorder = self._recorder, None
        if recorder is None:
            return
        self._model = model
        path = self._out if self._folder is None else self._folder / f"{len(self._rows) + 1:03d}-{_plain(Path(file).stem)}.html"
        path.parent.mkdir(exist_ok=True)
        media = media_of(file, path, self._embed_mb)
        if not media.type:
            typer.echo(f"{file}: {media.note}", err=True)
        page = recording_page(Path(file).name, recorder, model, media, _exports(file, events, model))
        write_whole(path, page)
        beside = None if self._folder is None else f"{self._folder.name}/{path.name}"
        shown = recorder.tree()["events"]
        self._rows.append(
            IndexRow(name=self._name(file), report=beside, error=None, seconds=recorder.seconds, picture=recorder.picture, events=shown)
        )

    def failed(self, file: str, error: str) -> None:
        """Note that a recording could not be read."""
        self._recorder = None
        self._rows.append(IndexRow(name=self._name(file), report=None, error=error))

    def _name(self, file: str) -> str:
        """Return the name of a recording in the index: its path below the folder that holds all recordings."""
        return str(Path(file).relative_to(self._common)) if self._common and Path(file).is_relative_to(self._common) else file

    def close(self) -> None:
        """Write the index, where there are several recordings, and say what was written."""
        if self._folder is not None:
            write_whole(self._out, index_page(f"Events of {len(self._rows)} recordings", self._rows, self._model))
        if self._folder is not None or self._model is not None:
            typer.echo(f"report written to {self._out}", err=True)


def _common_folder(files: Sequence[str]) -> str:
    """Return the deepest folder that holds all files; "" where there is none, as for a relative and an absolute path."""
    try:
        return os.path.commonpath([str(Path(one).parent) for one in files])
    except ValueError:
        return ""


def _plain(stem: str) -> str:
    """Return a name for a file that is safe on every system; the number before it makes it unique."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", stem).strip("-")[:60] or "recording"


def _exports(file: str, events: Sequence[FoundEvent], model: ReportModel) -> list[Export]:
    stem = _plain(Path(file).stem)
    made = [Export(title, stem + SUFFIXES[style], kind, FORMATS[style](events)) for style, (title, kind) in _TITLES.items()]
    tree = {"model": model.name, "events": [asdict(one) for one in events]}
    return [*made, Export("JSON", f"{stem}.json", "application/json", json.dumps(tree, indent=1))]
