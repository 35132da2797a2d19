"""`streamav localize`: finds the events of recordings, offline and as fast as possible, and prints or writes them.

It runs `streamav.app` on each file with one engine; the events are those of `streamav run --speed max`.
"""

from __future__ import annotations

import asyncio
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from streamav.bundle import AUTO
from streamav.cli.json_output import print_json
from streamav.cli.model_options import EngineOption, PrecisionOption, WeightsOption
from streamav.cli.place import words_of_place
from streamav.cli.progress import progress
from streamav.cli.span_formats import FORMATS, SUFFIXES, FoundEvent, SpanFormat
from streamav.cli.wording import counted
from streamav.config import DetectionSettings, ModelSettings, Settings, SourceSettings
from streamav.errors import CaptureError, DataError, SettingsError
from streamav.files import write_whole
from streamav.redaction import printable, show_address
from streamav.types import SEGMENT_NS, EventPhase
from streamav.view.player import EMBED_MB

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from streamav.cli.localize_report import Reports
    from streamav.protocols import Engine
    from streamav.types import Event, FinalScores, SourceState, Telemetry

__all__ = ["localize"]


@dataclass(slots=True)
class _Recording:
    """One file and what was found in it."""

    file: str
    seconds: float = 0.0
    """Length of the media that was processed."""
    error: str | None = None
    events: list[FoundEvent] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The file as it is told: what is no file may be an address with a password in it."""
        return self.file if os.path.lexists(self.file) else show_address(self.file)


class _Collector:
    """A sink that keeps the confirmed events of one file and moves the progress bar."""

    def __init__(self, recording: _Recording, tell: Callable[[float], None], reports: Reports | None) -> None:
        self._recording, self._tell, self._reports = recording, tell, reports

    async def start(self) -> None:
        """Do nothing."""

    def event(self, event: Event, latency_s: float) -> None:  # noqa: ARG002 - the protocol requires it
        """Keep the event if it ended and was confirmed."""
        if self._reports is not None:
            self._reports.event(event)
        if event.phase is not EventPhase.END or not event.confirmed or event.end_ns is None:
            return
        place = event.location
        self._recording.events.append(
            FoundEvent(
                file=self._recording.file,
                label=event.label,
                label_name=event.label_name,
                onset_s=event.start_ns / SEGMENT_NS,
                offset_s=event.end_ns / SEGMENT_NS,
                score=round(float(event.top_score), 4),
                peak=None if place is None else place.peak,
                box=None if place is None else place.box,
            )
        )

    def source_state(self, source: str, state: SourceState, reason: str) -> None:
        """Do nothing."""

    def telemetry(self, source: str, telemetry: Telemetry) -> None:
        """Do nothing."""

    def scores(self, source: str, scores: FinalScores) -> None:  # noqa: ARG002 - the protocol requires it
        """Move the progress bar."""
        self._tell(scores.start_ns / SEGMENT_NS + 1.0)

    async def close(self) -> None:
        """Do nothing."""


def localize(
    paths: Annotated[list[str], typer.Argument(help="Recordings, or folders that are searched for recordings.", show_default=False)],
    model: Annotated[str, typer.Option("--model", help="Name of a model, or the folder of a bundle.")] = AUTO,
    weights: WeightsOption = None,
    latency: Annotated[
        int | None, typer.Option("--latency", min=1, max=10, help="Windows that score a segment; 10 is most certain, as in streamav run.")
    ] = None,
    engine: EngineOption = "auto",
    precision: PrecisionOption = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print a table with the columns of labels.csv, and the score.")] = False,
    as_vtt: Annotated[bool, typer.Option("--vtt", help="Print WebVTT subtitles, which video players show.")] = False,
    as_audacity: Annotated[bool, typer.Option("--audacity", help="Print labels that Audacity imports.")] = False,
    as_rttm: Annotated[bool, typer.Option("--rttm", help="Print RTTM lines.")] = False,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Folder for one file per recording instead of printing; for --csv, --vtt, --audacity, --rttm."),
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option(
            "--html",
            help="Also write a report for a browser: timeline, spectrogram, pictures, player. For several recordings also an index.",
        ),
    ] = None,
    embed_mb: Annotated[
        float, typer.Option("--embed-mb", min=0, help="Largest recording that is put into the report, MB; a larger one is linked.")
    ] = EMBED_MB,
) -> None:
    """Find the events of recordings: what is heard and seen at the same time, when it begins and ends, and where in the picture it is.

    Prints a table, unless a format is chosen. Progress goes to standard error. A file that cannot be read is named and left
    out; the exit status is then 3. Exit status: 0 done, 2 settings, 3 a file cannot be read, 4 model, 6 engine, 7 no recording.
    """
    chosen = [
        name for name, wanted in zip(("csv", "vtt", "audacity", "rttm"), (as_csv, as_vtt, as_audacity, as_rttm), strict=True) if wanted
    ]
    style = _style(chosen, as_json=as_json, out=out)
    files = _files(paths)
    reports = None if html is None else _reports(html, files, embed_mb)
    recordings = _run_all(
        files,
        ModelSettings(name=model, weights_dir=weights, engine=engine, precision=precision),
        DetectionSettings(latency_segments=latency),
        reports,
    )
    if as_json:
        print_json(_tree(recordings, _name(model, weights)))
    elif style is None:
        if any(one.error is None for one in recordings):
            typer.echo(_table(recordings))
    elif out is None:
        typer.echo(FORMATS[style]([event for one in recordings for event in one.events]), nl=False)
    else:
        _write(recordings, style, out)
    failed = [one for one in recordings if one.error is not None]
    if failed:
        raise CaptureError("; ".join(str(one.error) for one in failed))


def _style(chosen: Sequence[str], *, as_json: bool, out: Path | None) -> SpanFormat | None:
    """Return the chosen format, None for the table or JSON.

    Raises:
        SettingsError: when more than one is chosen, or a folder is given without a format for it.
    """
    if len(chosen) + as_json > 1:
        msg = "at most one format may be chosen, got " + ", ".join(f"--{name}" for name in [*chosen, *(["json"] if as_json else [])])
        raise SettingsError(msg)
    if out is not None and not chosen:
        msg = f"--out {out} needs the format of the files: add --csv, --vtt, --audacity or --rttm"
        raise SettingsError(msg)
    return next((name for name in SUFFIXES if name in chosen), None)


def _files(paths: Sequence[str]) -> list[str]:
    from streamav.capture.address import is_network
    from streamav.offline import recordings_in

    found: list[str] = []
    for one in paths:
        if is_network(one):
            msg = f"localize takes files and folders, got the network address {show_address(one)}; use streamav run --source for it"
            raise DataError(msg)
        found += recordings_in(Path(one)) if Path(one).is_dir() else [one]
    if not found:
        msg = f"there must be at least one recording, got none in {', '.join(paths)}"
        raise DataError(msg)
    return list(dict.fromkeys(found))


def _reports(html: Path, files: Sequence[str], embed_mb: float) -> Reports:
    from streamav.cli.localize_report import Reports

    return Reports(html, files, embed_mb)


def _run_all(files: Sequence[str], model: ModelSettings, detection: DetectionSettings, reports: Reports | None) -> list[_Recording]:
    """Run every file with one engine and show the progress on standard error."""
    from streamav.bundle import choose_bundle
    from streamav.capture.probe import duration_s
    from streamav.engines import open_engine

    engine = open_engine(choose_bundle(model.name, model.weights_dir).bundle, model)
    recordings = [_Recording(file) for file in files]
    lengths = [duration_s(file) for file in files]
    total, before = None if None in lengths else sum(length or 0.0 for length in lengths), 0.0
    with progress("seconds of media") as show:
        for number, one in enumerate(recordings, 1):
            note = f"{number} of {len(files)}, {printable(Path(one.file).name)}"

            def tell(seconds: float, before: float = before, note: str = note) -> None:
                show(before + seconds, total, note)

            tell(0.0)
            settings = Settings(source=SourceSettings(id="recording", uri=one.file, speed="max"), model=model, detection=detection)
            _run(one, settings, engine, _Collector(one, tell, reports), reports)
            before += one.seconds
    if reports is not None:
        reports.close()
    return recordings


def _run(recording: _Recording, settings: Settings, engine: Engine, sink: _Collector, reports: Reports | None) -> None:
    """Run one file; an error of the file is kept with it. Ctrl-C ends all files, not only this one."""
    from streamav import app

    asked: list[int] = []
    try:
        application = app.build(settings, [sink], engine=engine, observer=None if reports is None else reports.watch)
        summary = asyncio.run(app.run(application, on_interrupt=asked.append))
    except CaptureError as exc:
        recording.error = str(exc)
        if reports is not None:
            reports.failed(recording.name, str(exc))
        return
    if asked:
        raise KeyboardInterrupt
    recording.seconds = summary.media_s
    recording.events.sort(key=lambda event: (event.onset_s, event.offset_s, event.label))
    if reports is not None:
        from streamav.view.recording_page import ReportModel

        card = application.bundle.card
        reports.done(recording.file, recording.events, ReportModel(name=card.name, version=card.version, engine=engine.name))


def _name(model: str, weights: Path | None) -> str:
    """Return the model's name as it was given, or the name of the model that `auto` chose."""
    from streamav.bundle import choose_bundle

    return choose_bundle(model, weights).bundle.card.name if model == AUTO else model


def _tree(recordings: Sequence[_Recording], model: str) -> dict[str, object]:
    return {
        "model": model,
        "files": [{"file": one.name, "seconds": one.seconds, "events": len(one.events), "error": one.error} for one in recordings],
        "events": [asdict(event) for one in recordings for event in one.events],
    }


def _table(recordings: Sequence[_Recording]) -> str:
    """Return the events as lines of aligned columns, file by file."""
    rows = [("file", "begin", "end", "label", "score", "place")]
    for one in recordings:
        file = printable(one.file)
        if not one.events and one.error is None:
            rows.append((file, "-", "-", "no event", "-", "-"))
        for event in one.events:
            times = f"{event.onset_s:.0f} s", f"{event.offset_s:.0f} s"
            rows.append((file, *times, event.label, f"{event.score:.2f}", words_of_place(event)))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)


def _write(recordings: Sequence[_Recording], style: SpanFormat, folder: Path) -> None:
    """Write one file for each recording that could be read; names that are equal get a number."""
    folder.mkdir(parents=True, exist_ok=True)
    taken: set[str] = set()
    for one in recordings:
        if one.error is not None:
            continue
        stem = Path(one.file).stem
        name = next(name for name in (stem, *(f"{stem}-{number}" for number in range(2, len(recordings) + 2))) if name not in taken)
        taken.add(name)
        write_whole(folder / (name + SUFFIXES[style]), FORMATS[style](one.events).encode(errors="backslashreplace"))
    typer.echo(f"{counted(len(taken), 'file')} written to {folder}", err=True)
