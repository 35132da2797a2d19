"""Writes the figures of an evaluation as Markdown: clips, one table of streams for each latency, one table by age for each head.

It computes nothing: every number comes from the figures, which are also the JSON report.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["report_lines"]

Figures = dict[str, Any]

_CLIPS = {
    "clips": "clips",
    "accuracy": "segment accuracy",
    "accuracy_95": "95 % bootstrap over clips",
    "macro_f1": "macro-F1",
    "background_recall": "background recall",
    "event_recall": "event recall",
    "event_f1": "event-F1, collar 1 s",
    "event_f1_collar_2": "event-F1, collar 2 s",
    "event_f1_overlap": "event-F1, IoU 0.5",
    "always_background": "accuracy of always background",
    "right_class_never_background": "accuracy of right class, never background",
}
_COLUMNS = {
    "event_f1": "event-F1, 1 s",
    "event_f1_collar_2": "2 s",
    "event_f1_overlap": "IoU 0.5",
    "false_alarms_per_hour": "false alarms/h",
    "background_false_alarms_per_hour": "in background",
    "false_alarms_per_hour_at_90": "at 90 % detection",
    "onset_latency_median": "onset latency, s",
    "onset_latency_p95": "p95",
    "detection_rate": "detected",
    "psds1": "PSDS1",
    "psds2": "PSDS2",
}
_AGES = {
    "accuracy": "accuracy",
    "macro_f1": "macro-F1",
    "background_recall": "background recall",
    "flips": "label flips",
    "flips_to_right": "wrong to right",
    "flips_to_wrong": "right to wrong",
    "revisions": "revisions",
}
_COARSE = {"false_alarms_per_hour", "background_false_alarms_per_hour", "false_alarms_per_hour_at_90", "onset_latency_median"}
_COARSE |= {"onset_latency_p95"}
_HEADS = ("whole_model", "per_segment", "two_stage")
_FIRST = ("whole_model", "per_segment")
"""What a report leads with: a whole model has no heads."""


def report_lines(figures: Mapping[str, Any]) -> list[str]:
    """Return the lines of the report.

    Args:
        figures: the figures that `streamav eval --json` prints.
    """
    lines = [f"# {figures['model']} on {figures['split']}", ""]
    lines += [*_lead(figures), "", "## How it was made", ""]
    lines += [f"Made by `{figures['command']}`; weights `{figures['sha256'][:12]}`.", ""]
    if "clips" in figures:
        clips = figures["clips"]
        rows = [[told, _number(clips[name])] for name, told in _CLIPS.items() if name in clips]
        lines += [f"## Clips ({clips['decision']})", "", *_table(["", str(figures["split"])], rows), ""]
    if "stream" in figures:
        lines += _streams(figures["stream"])
    return lines


def _lead(figures: Mapping[str, Any]) -> list[str]:
    """Return at most ten lines that say what matters; the details follow below."""
    lines: list[str] = []
    if "clips" in figures:
        clips = figures["clips"]
        low, high = clips["accuracy_95"]
        lines += [
            f"- Clips: accuracy **{clips['accuracy']:.1%}** (95 % bootstrap over {clips['clips']} clips {low:.1%} to {high:.1%}).",
            f"- Always background is right in {clips['always_background']:.1%} of the clips' segments.",
            f"- Right class and never background is right in {clips['right_class_never_background']:.1%}.",
            f"- Macro-F1 {_number(clips['macro_f1'])}, recall on background {_number(clips['background_recall'])}.",
            f"- Event-F1 {_number(clips['event_f1'])} (collar 1 s).",
        ]
    if "stream" in figures:
        stream = figures["stream"]
        seeds = len(stream["manifests"])
        for latency in ("1", "2", "10"):
            row = next((one for one in stream["tables"].get(latency, ()) if one["system"] in _FIRST), None)
            if row is not None:
                over = row["over_seeds"]
                lines.append(
                    f"- Streams, latency {latency}: event-F1 {_number(over['event_f1'][0])} (collar 1 s), "
                    f"{_number(over['background_false_alarms_per_hour'][0], 1)} false alarms an hour of background, "
                    f"{_number(over['detection_rate'][0])} detected."
                )
        lines.append("- n = 1: one seed of streams, so there is no spread." if seeds == 1 else f"- Streams of {seeds} seeds.")
    return lines


def _streams(stream: Figures) -> list[str]:
    """Return the lines on streams: what was scored and how, then every table."""
    seeds = ", ".join(str(one["seed"]) for one in stream["manifests"])
    heads = {name: stream[name] for name in _HEADS if name in stream}
    first = next(iter(heads.values()))
    lines = ["## Streams", ""]
    lines += [f"{first['streams']} streams, {first['seconds'] / 3600:.2f} scored hours, {first['events']} events; manifest seeds {seeds}."]
    lines += [f"Windows combined by {stream['aggregation']}. Always saying background is right in {first['always_background']:.1%}.", ""]
    lines += [*_told_thresholds(stream["thresholds"]), ""]
    lines += ["Cells are the mean over seeds ± their standard deviation; in brackets the 95 % bootstrap over all streams.", ""]
    for latency, rows in stream["tables"].items():
        cells = [[row["system"], *(_cell(row["over_seeds"][name], row["pooled"], name) for name in _COLUMNS)] for row in rows]
        lines += [f"### Latency {latency}", "", *_table(["system", *_COLUMNS.values()], cells), ""]
        lines += _gaps(stream["gaps"][latency])
    for head, result in heads.items():
        cells = [
            [str(one["age"]), *(_cell(mean[name], one, name) for name in _AGES)]
            for one, mean in zip(result["ages"], stream["ages_over_seeds"][head], strict=True)
        ]
        area = [_number(result[name]) for name in ("accuracy_area", "macro_f1_area", "background_recall_area")]
        lines += [f"### By age: {head}", "", *_table(["age, s", *_AGES.values()], [*cells, ["all", *area, "", "", "", ""]]), ""]
    return lines


def _gaps(systems: Mapping[str, Sequence[Figures]]) -> list[str]:
    """Return the table of recall and false alarms for each kind of background."""
    kinds = [gap["kind"] for gap in next(iter(systems.values()))]
    columns = ["background", "seconds", *(f"{name}: {figure}" for name in systems for figure in ("recall", "false alarms/h"))]
    rows = []
    for place, kind in enumerate(kinds):
        cells = [kind, str(next(iter(systems.values()))[place]["seconds"])]
        for gaps in systems.values():
            cells += [_number(gaps[place]["background_recall"]), _number(gaps[place]["false_alarms_per_hour"], 1)]
        rows.append(cells)
    return [*_table(columns, rows), ""]


def _told_thresholds(thresholds: Figures) -> list[str]:
    """Return the lines that state the source of the thresholds."""
    if thresholds["chosen"] == "card":
        return ["Thresholds are those of the model's card, for each class, for every head and latency."]
    where = f"{thresholds['split']} streams (seed {thresholds['seed']}), for each system and latency"
    limit = f"at most {thresholds['alarms_per_hour']:g} false alarms per hour of background"
    lines = [f"Thresholds were tuned on {where}: the best event-F1 with {limit}. They were not changed afterwards.", ""]
    if thresholds["optimistic"]:
        lines.append("**The same split is scored here, so figures that depend on thresholds are optimistic.**")
        lines.append("")
    lines.append("`on`/`off`, segments that confirm an event, longest pause, at each latency:")
    lines.append("")
    for system, found in thresholds["systems"].items():
        told = [f"{latency}: {_brief(one)}" for latency, one in found.items() if isinstance(one, dict)]
        lines.append(f"- {system}: {'; '.join(told)}")
    lost = [
        f"{system} at latency {latency}"
        for system, found in thresholds["systems"].items()
        for latency, one in found.items()
        if isinstance(one, dict) and one.get("within_limit") is False
    ]
    if lost:
        lines += ["", f"No thresholds kept the limit for {', '.join(lost)}; those with the fewest false alarms were taken."]
    return lines


def _brief(one: Figures) -> str:
    """Return thresholds as a short text: on, off, segments that confirm an event, and longest pause."""
    return f"{one['on']:g}/{one['off']:g}, {one['min_segments']}, {one['gap_segments']} s"


def _cell(over: Sequence[float | None], pooled: Mapping[str, Any], name: str) -> str:
    """Return the text of a cell: mean, deviation and the interval, if there is one."""
    mean, deviation = over
    low, high = pooled.get(f"{name}_low"), pooled.get(f"{name}_high")
    digits = 1 if name in _COARSE else 3
    text = _number(mean, digits)
    if deviation is not None:
        text += f" ± {_number(deviation, digits)}"
    return text if low is None or high is None else f"{text} [{_number(low, digits)}, {_number(high, digits)}]"


def _number(value: object, digits: int = 3) -> str:
    if isinstance(value, list):
        return ", ".join(_number(one, digits) for one in value)
    return f"{value:.{digits}f}" if isinstance(value, float) else "-" if value is None else str(value)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a Markdown table whose columns also line up as plain text."""
    widths = [max(3, *(len(row[place]) for row in [head, *rows])) for place in range(len(head))]
    padded = [" | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in [head, *rows]]
    return [f"| {padded[0]} |", "|" + "|".join("-" * (width + 2) for width in widths) + "|", *(f"| {row} |" for row in padded[1:])]
