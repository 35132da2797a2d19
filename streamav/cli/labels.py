"""`streamav labels`: lists the labels that a model can find, searches names of classes, and tests a label on a recording.

It reads options and prints; `streamav.labels` and `streamav.vocabulary` do the work.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from streamav.bundle import AUTO, choose_bundle
from streamav.cli.model_options import WeightsOption
from streamav.config import LabelSettings, ModelSettings, Settings
from streamav.config_loading import load_settings
from streamav.errors import ModelError, SettingsError
from streamav.labels import LabelTable, defined_labels
from streamav.vocabulary import class_names, group_names, nearest_names
from streamav.vocabulary.presets import presets

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streamav.bundle import Bundle
    from streamav.evidence import LabelEvidence
    from streamav.labels import Label
    from streamav.types import SegmentFeatures

__all__ = ["app"]

app = typer.Typer(help="List, search and test labels by definition.", no_args_is_help=True, add_completion=False)

Json = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]
Model = Annotated[str, typer.Option("--model", help="Name of a model, or the folder of a bundle.")]
Config = Annotated[Path | None, typer.Option("--config", help="TOML file whose tables labels.* are used too.")]

_MOST_FOUND = 20
_WIDE = 160
"""Columns that a terminal needs for the lists of what a label hears and sees."""
_TESTED = "tested"
"""Slug of a label that is defined on the command line."""


@app.command("list")
def list_labels(model: Model = AUTO, weights: WeightsOption = None, config: Config = None, as_json: Json = False) -> None:
    """List the labels that a model can find.

    Its own labels, those of the presets, and those of a configuration file.

    `trained` is false for a label that the model was never trained for; its threshold is less certain.
    """
    settings = load_settings(config)
    bundle = choose_bundle(model, weights).bundle
    table = LabelTable(bundle, settings.labels)
    wanted = None if bundle.card.evidence is None else ("model", *defined_labels(), *settings.labels)
    rows = [_row(label) for label in table.choose(wanted)]
    if as_json:
        _print_json({"model": bundle.card.name, "labels": rows, "presets": presets()})
        return
    _table(
        ("label", "name", "kind", "trained", "presets", "hear", "see"),
        [[_cell(value) for value in row.values()] for row in rows],
        wide=2,
    )
    for sentence in table.notes:
        typer.echo(sentence, err=True)


@app.command()
def search(
    word: Annotated[str, typer.Argument(help="A word, such as baby.")],
    as_json: Json = False,
) -> None:
    """Search the names of what can be heard and seen.

    Searches the classes of AudioSet (heard), those of ImageNet and groups of them (seen), and the labels.
    """
    wanted = word.strip().lower()
    labels = [slug for slug, one in defined_labels().items() if wanted in slug or wanted in one.name.lower()]
    found = {"hear": nearest_names("hear", word, count=_MOST_FOUND), "see": nearest_names("see", word, count=_MOST_FOUND)}
    groups = [name for name in group_names() if name in found["see"]]
    if as_json:
        _print_json({"labels": labels, **found, "groups": groups})
        return
    for sense, names in found.items():
        for name in names:
            exact = "" if wanted in name.lower() else "\t(spelt alike)"
            count = f"\t(group of {len(group_names()[name])} classes)" if sense == "see" and name in groups else ""
            typer.echo(f"{sense}\t{name}{count}{exact}")
    for slug in labels:
        typer.echo(f"label\t{slug}")
    if not labels and not any(found.values()):
        typer.echo(f"no class of {len(class_names('hear'))} heard and {len(class_names('see'))} seen is spelt like {word!r}", err=True)


@app.command("test")
def try_label(
    clip: Annotated[Path, typer.Argument(help="A recording with sound and pictures.")],
    label: Annotated[str | None, typer.Option("--label", help="Label of the model, of a preset, or of --config.")] = None,
    hear: Annotated[list[str] | None, typer.Option("--hear", help="Name of an AudioSet class; repeatable.")] = None,
    see: Annotated[
        list[str] | None, typer.Option("--see", help="Name of an ImageNet class or group; repeatable; none for a sound.")
    ] = None,
    model: Model = AUTO,
    weights: WeightsOption = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Test a label on a recording.

    Shows for each second how strongly it is heard and seen, its score, and whether it makes an event.

    heard is the score of the best of its sounds, 0 to 1; seen is in standard deviations above the pictures of other recordings.
    """
    settings = load_settings(config)
    slug, own = _asked(label, hear, see, settings)
    bundle = choose_bundle(model, weights).bundle
    if bundle.card.evidence is None:
        msg = f"labels are tested with a model whose encoders score classes, such as edge, got {bundle.card.name}; add --model edge"
        raise ModelError(msg)
    table = LabelTable(bundle, own)
    chosen = next(one for one in table.choose(("model", slug)) if one.entry.slug == slug)
    rows = _seconds(bundle, table, chosen, str(clip), ModelSettings(name=model, weights_dir=weights))
    if as_json:
        _print_json({"label": _row(chosen), "model": bundle.card.name, "seconds": rows})
        return
    typer.echo(f"{chosen.entry.name}: hear {', '.join(chosen.entry.hear)}; see {', '.join(chosen.entry.see) or 'nothing'}", err=True)
    _table(
        ("second", "heard", "seen", "score", "event"),
        [
            [str(row["second"]), *(f"{row[key]:.2f}" for key in ("heard", "seen", "score")), "event" if row["event"] else "-"]
            for row in rows
        ],
    )


def _asked(
    label: str | None, hear: Sequence[str] | None, see: Sequence[str] | None, settings: Settings
) -> tuple[str, dict[str, LabelSettings]]:
    """Return the slug to test and the labels that the settings and options define.

    Raises:
        SettingsError: unless exactly one of a label and a definition is given.
    """
    if (label is None) == (not hear) or (label is not None and see):
        msg = "name either --label X, or --hear NAME with --see NAME (without --see for a sound); search names with streamav labels search"
        raise SettingsError(msg)
    if label is not None:
        return label, dict(settings.labels)
    kind = "audio-visual" if see else "sound"
    return _TESTED, {_TESTED: LabelSettings.model_validate({"hear": tuple(hear or ()), "see": tuple(see or ()), "kind": kind})}


def _seconds(bundle: Bundle, table: LabelTable, label: Label, clip: str, model: ModelSettings) -> list[dict[str, Any]]:
    """Return one row for each segment of a recording."""
    import numpy as np

    from streamav.app import label_options, localizer_head
    from streamav.config import DetectionSettings
    from streamav.evaluation.counting import said_events
    from streamav.offline import OfflineRun

    evidence = table.evidence()
    alone = _alone(bundle, label)
    features: list[SegmentFeatures] = []
    run = OfflineRun(bundle, model, localizer_head(bundle.card), bundle.card.detection.latency_segments, evidence)
    scores = run.scores(clip, features.append)[:, [label.column]]
    (options,) = label_options(bundle.card, DetectionSettings(), [label])
    events = said_events(np.pad(scores, ((0, 0), (0, 1))), options.thresholds)
    rows = []
    for second, (one, score) in enumerate(zip(features, scores[:, 0], strict=True)):
        sensed = alone.sensed(one)
        rows.append(
            {
                "second": second,
                "heard": round(float(1.0 / (1.0 + np.exp(-sensed.heard[0]))), 4),
                "seen": round(float(sensed.seen[0]), 3),
                "score": round(float(score), 4),
                "event": any(event.start <= second < event.end for event in events),
            }
        )
    return rows


def _alone(bundle: Bundle, label: Label) -> LabelEvidence:
    """Return the evidence of one label."""
    from streamav.evidence import evidence_of

    found = evidence_of(bundle, [label.entry])
    if found is None:
        msg = f"model {bundle.card.name} has no evidence of labels"
        raise ModelError(msg)
    return found


def _row(label: Label) -> dict[str, Any]:
    entry = label.entry
    member = [name for name, slugs in presets().items() if entry.slug in slugs]
    return {
        "label": entry.slug,
        "name": entry.name,
        "kind": entry.kind,
        "trained": label.trained,
        "presets": member,
        "hear": list(entry.hear),
        "see": list(entry.see),
    }


def _cell(value: object) -> str:
    if isinstance(value, list):
        return "; ".join(value) or "-"
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]], wide: int = 0) -> None:
    """Print a table, or lines with tabs when standard output is not a terminal.

    Args:
        heads: names of the columns.
        rows: the cells.
        wide: number of columns at the end that a terminal of less than 160 columns has no room for.
    """
    from rich.console import Console
    from rich.table import Table

    console = Console()
    if not console.is_terminal:
        for row in (heads, *rows):
            typer.echo("\t".join(row))
        return
    shown = len(heads) - (wide if console.width < _WIDE else 0)
    table = Table(*heads[:shown])
    for row in rows:
        table.add_row(*row[:shown])
    console.print(table)
    if shown < len(heads):
        typer.echo(f"{' and '.join(heads[shown:])} are shown on a terminal of {_WIDE} columns, in a pipe, and by --json", err=True)


def _print_json(value: object) -> None:
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))
