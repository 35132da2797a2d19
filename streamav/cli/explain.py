"""`streamav explain`: reports why a second did or did not become an event.

It runs the stages of a live run over a file, or reads the scores of an earlier run from the journal.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from streamav.cli.console import set_up_logging
from streamav.cli.folding import folded_for
from streamav.cli.named_settings import settings_of
from streamav.config import ClipSettings, HttpSettings, ViewSettings
from streamav.config_loading import load_settings
from streamav.errors import SettingsError, reason_of
from streamav.journal import History, Surroundings, explain_moment, journal_path, read_time
from streamav.journal import explain as why
from streamav.journal.inquiry import AROUND_S

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streamav.bundle import Bundle
    from streamav.config import DetectionSettings, Settings
    from streamav.tracker import LabelOptions
    from streamav.types import Event, FinalScores, SourceState, Telemetry

__all__ = ["explain"]

MOST_SHOWN = 5
"""Labels in the text output, those with the highest scores."""
_NS = 1_000_000_000
_YEAR_S = 31_536_000.0
_BELOW_ON = "below on"
"""Words of the rule no_run in the rows of labels; the other rules are named as their settings."""


def explain(
    at: Annotated[
        str, typer.Option("--at", help="The second: its position in the file of --source; without --source a time, as for streamav events.")
    ],
    source: Annotated[str | None, typer.Option("--source", help="File, or the word scene; without it the journal is asked.")] = None,
    name: Annotated[
        str | None, typer.Option("--id", help="Id of the source in the journal; may be left out when there is only one.")
    ] = None,
    model: Annotated[str | None, typer.Option("--model", help="Name of a model, or the folder of a bundle.")] = None,
    raw: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    config: Annotated[Path | None, typer.Option("--config", help="TOML file with the settings of the run.")] = None,
    overrides: Annotated[list[str] | None, typer.Option("--set", help="section.key=value; overrides everything else; repeatable.")] = None,
) -> None:
    """Say why a second did or did not become an event: scores of both heads, agreement, thresholds, and the rule that decided.

    With the journal, thresholds and rules are those of the settings now, with the changes that runs have kept (streamav changes);
    they may differ from those of the run. With a file, they are those of the settings, and every schedule holds.

    Exit status: 0 done, 2 settings, 3 the file cannot be read, 4 model, 6 engine.
    """
    set_up_logging(verbose=False)
    options = settings_of(
        source=source, camera=None, mic=None, mqtt=None, values={"model.name": model, "source.speed": None if source is None else "max"}
    )
    settings = load_settings(config, overrides or (), options=options)
    found = _of_journal(settings, at, name) if source is None else _of_file(settings, at)
    typer.echo(json.dumps(found, indent=1, allow_nan=False) if raw else folded_for(sys.stdout, _text(found)))


def _of_file(settings: Settings, at: str) -> dict[str, object]:
    try:
        at_s = float(at)
    except ValueError:
        at_s = -1.0
    if not 0.0 <= at_s < float("inf"):
        msg = f"--at must be seconds from the start of the file, at least 0, got {at!r}"
        raise SettingsError(msg)
    return asyncio.run(_run(settings, at_s))


async def _run(settings: Settings, at_s: float) -> dict[str, object]:
    """Run the file up to the last second that can matter."""
    from streamav import app

    one = settings.source.model_copy(update={"duration_s": at_s + AROUND_S})
    nothing = {"mqtt": None, "jsonl": None, "view": ViewSettings(), "http": HttpSettings(), "clips": ClipSettings()}
    alone = settings.model_copy(update={"source": one, "sources": (), **nothing})
    collector = _Collector()
    application = app.build(alone, [collector])
    await app.run(application)
    card = application.bundle.card
    labels = application.controls.plan(one.id).labels
    disabled = tuple(slug for slug in card.slugs if slug not in {label.label for label in labels})
    around = Surroundings(grid=(card.visual.grid, card.visual.grid), timed=False, disabled=disabled)
    found = why(collector.finals, round(at_s * _NS), labels, around)
    return {**found, "source": one.uri or "scene", "model": card.name, "events": collector.about(at_s)}


def _of_journal(settings: Settings, at: str, name: str | None) -> dict[str, object]:
    from streamav.bundle import choose_bundle

    path = journal_path(settings.state_dir)
    at_s = read_time("--at", at, time.time()) or 0.0
    bundle = choose_bundle(settings.model.name, settings.model.weights_dir).bundle
    try:
        with History.reading(path) as history:
            if not history.began:
                msg = (
                    f"there is no journal at {path}: no run has written one there; name the state_dir of the run (--config, or --set "
                    "state_dir=FOLDER), or a file (--source)"
                )
                raise SettingsError(msg)
            sources = history.sources()
            if name is None and len(sources) != 1:
                msg = f"--id must name one of the sources in the journal ({', '.join(sources) or 'it is empty'}), got none"
                raise SettingsError(msg)
            source = name or sources[0]
            found = explain_moment(
                history, source, at_s, lambda names: _labels_of(settings, bundle, source, names), bundle.card.visual.grid
            )
    except (sqlite3.Error, OSError) as exc:
        msg = f"the journal {path} must be a file that this streamav and this user can read, got: {reason_of(exc)}; see docs/journal.md"
        raise SettingsError(msg) from None
    return {**found, "model": bundle.card.name}


def _labels_of(settings: Settings, bundle: Bundle, source: str, names: Sequence[str]) -> tuple[LabelOptions, ...]:
    """Return how the labels of stored scores become events now: by the settings of the source, and by its kept changes.

    Raises:
        SettingsError: when the settings and the model do not know a label.
    """
    from streamav import app
    from streamav.control import Controls, SourcePlan, kept_path
    from streamav.labels import LabelTable
    from streamav.publish.state_folder import default_state_dir

    detection = next((one.detection for one in settings.each_source() if one.id == source), settings.detection)
    chosen = LabelTable(bundle, settings.labels).choose([*names, *(one for one in detection.classes if one not in names)])

    def resolve(name: str, changed: DetectionSettings) -> SourcePlan:
        return SourcePlan(source=name, detection=changed, labels=app.label_options(bundle.card, changed, chosen), latency_segments=1)

    path = kept_path(settings.state_dir if settings.state_dir is not None else default_state_dir())
    labels = Controls({source: detection}, resolve, path).plan(source).labels
    return tuple(one for one in labels if one.label in names)


class _Collector:
    """A sink that keeps the scores and the last message of each event."""

    def __init__(self) -> None:
        self.finals: list[FinalScores] = []
        self._events: dict[str, Event] = {}

    async def start(self) -> None:
        """Do nothing."""

    def event(self, event: Event, latency_s: float) -> None:  # noqa: ARG002 - a sink
        """Keep the newest message of the event."""
        self._events[event.id] = event

    def source_state(self, source: str, state: SourceState, reason: str) -> None:
        """Ignore the state."""

    def telemetry(self, source: str, telemetry: Telemetry) -> None:
        """Ignore telemetry."""

    def scores(self, source: str, scores: FinalScores) -> None:  # noqa: ARG002 - a sink
        """Keep the scores."""
        self.finals.append(scores)

    async def close(self) -> None:
        """Do nothing."""

    def about(self, at_s: float) -> list[dict[str, object]]:
        """Return the events that cover a second, retracted ones too."""
        return [
            {
                "id": event.id,
                "label": event.label,
                "media_start_s": event.start_ns / _NS,
                "duration_s": ((event.end_ns or event.newest_end_ns) - event.start_ns) / _NS,
                "top_score": round(event.top_score, 4),
                "confirmed": event.confirmed,
                "end_reason": None if event.end_reason is None else event.end_reason.value,
            }
            for event in self._events.values()
            if event.start_ns <= at_s * _NS < (event.end_ns or event.newest_end_ns)
        ]


def _text(found: dict[str, Any]) -> str:
    lines = [f"second {_when(found['at_s'])} of {found['source']}: {'an event' if found['event'] else 'no event'}", found["why"]]
    if found["labels"]:
        x, y = found["place"] or (None, None)
        lines.append(
            f"is-event score {found['is_event_score']:.2f}, agreement {found['av_similarity']:.2f}, background {found['background']:.2f}"
            + ("" if x is None else f", place ({x:.2f}, {y:.2f})")
        )
    lines += [_row(one) for one in found["labels"][:MOST_SHOWN]]
    return "\n".join(lines)


def _when(at_s: float) -> str:
    """Return a position in a source, or a time, which is far greater than any position."""
    return f"{at_s:g}" if at_s < _YEAR_S else datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _row(one: dict[str, Any]) -> str:
    rule = one["thresholds"]
    numbers = f"on {rule['on']:.2f} off {rule['off']:.2f} min_segments {rule['min_segments']}"
    return f"  {one['label']:<16} {one['score']:.3f}  {numbers}  {_BELOW_ON if one['rule'] == 'no_run' else one['rule']}"
