"""Writes what was found in labelled recordings as Markdown tables for people and as a tree for JSON.

It counts nothing itself: `recorded` does.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from streamav.evaluation.recorded import LATEST_S, Figures, Rate, figures_of, figures_of_label, labels_in, split_by_truth

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streamav.evaluation.recorded import JudgedRecording
    from streamav.evaluation.recordings import Span

__all__ = ["Answer", "markdown", "tree_of"]

_HEAD = "clips named | events named | false events | false events an hour | seconds right, %"
_LINE = "|---" * 5 + "|"


@dataclass(frozen=True, slots=True)
class Answer:
    """What one model, or a baseline, found in all recordings at one latency."""

    by: str
    """Name of the model or of the baseline."""
    latency: int | None
    """Segments; None for a baseline, which is the same at every latency."""
    recordings: tuple[JudgedRecording, ...]


def markdown(answers: Sequence[Answer], left_out: Sequence[str]) -> str:
    """Return the report: all answers in one table, then each model's answers by kind of recording, by label and by file.

    Args:
        answers: at least one; those with a latency get the details.
        left_out: true labels that the model does not have, one for each event.
    """
    lines = [
        _extent(answers[0].recordings),
        *_left_out(left_out),
        "",
        f"| answer | latency | {_HEAD} |",
        f"|---|---{_LINE}",
        *(f"| {one.by} | {'-' if one.latency is None else one.latency} | {_row(figures_of(one.recordings))} |" for one in answers),
    ]
    for answer in answers:
        if answer.latency is not None:
            lines += _details(answer)
    return "\n".join(lines)


def _extent(recordings: Sequence[JudgedRecording]) -> str:
    groups, events = len({one.group for one in recordings}), sum(bool(one.truth) for one in recordings)
    hours = sum(one.seconds for one in recordings) / 3600.0
    return (
        f"{len(recordings)} recordings of {groups} groups, {hours:.2f} h, {events} with an event. "
        f"A clip is named when an event of the right label begins at most {LATEST_S:g} s after the true onset. "
        f"In brackets: 95 % interval (bootstrap over groups)."
    )


def tree_of(answers: Sequence[Answer], left_out: Sequence[str]) -> dict[str, object]:
    """Return everything that the report holds, and all recordings, in a form that JSON can hold."""
    recordings = answers[0].recordings
    return {
        "recordings": len(recordings),
        "groups": len({one.group for one in recordings}),
        "seconds": sum(one.seconds for one in recordings),
        "left_out": dict(Counter(left_out)),
        "answers": [
            {
                "by": answer.by,
                "latency": answer.latency,
                **asdict(figures_of(answer.recordings)),
                "by_kind": {name: asdict(figures_of(part)) for name, part in split_by_truth(answer.recordings).items()},
                "by_label": {label: asdict(figures_of_label(answer.recordings, label)) for label in labels_in(answer.recordings)},
                "files": [_file(one) for one in answer.recordings],
            }
            for answer in answers
        ],
    }


def _details(answer: Answer) -> list[str]:
    """Return three tables: by kind of recording, by label, and the recordings with something missed or false."""
    wrong = [one for one in answer.recordings if one.missed or one.false]
    lines = ["", f"## {answer.by}, latency {answer.latency}", "", f"| recordings | number | {_HEAD} |", f"|---|---{_LINE}"]
    for name, part in split_by_truth(answer.recordings).items():
        lines.append(f"| {name} | {len(part)} | {_row(figures_of(part))} |")
    lines += ["", f"| label | clips | {_HEAD} |", f"|---|---{_LINE}"]
    for label in labels_in(answer.recordings):
        figures = figures_of_label(answer.recordings, label)
        lines.append(f"| {label} | {figures.recordings} | {_row(figures)} |")
    if not wrong:
        return [*lines, "", "Nothing was missed, and nothing was false."]
    lines += ["", "| recording | truth | missed | false | seconds right |", "|---|---|---|---|---|"]
    for one in wrong:
        cells = (one.file, _spans(one.truth), _spans(one.missed), _spans(one.false), f"{sum(one.right)} of {one.seconds}")
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _row(figures: Figures) -> str:
    false = figures.false_events
    cells = (
        _counted(figures.clips_named),
        _counted(figures.events_named),
        f"{false.part:g}",
        _hourly(false),
        _percent(figures.seconds_right),
    )
    return " | ".join(cells)


def _counted(rate: Rate) -> str:
    return "-" if rate.value is None else f"{rate.part:g} of {rate.whole:g}: {_percent(rate)} %"


def _percent(rate: Rate) -> str:
    if rate.value is None or rate.low is None or rate.high is None:
        return "-"
    return f"{100 * rate.value:.1f} ({100 * rate.low:.0f} to {100 * rate.high:.0f})"


def _hourly(rate: Rate) -> str:
    if rate.value is None or rate.low is None or rate.high is None:
        return "-"
    return f"{rate.value:.1f} ({rate.low:.1f} to {rate.high:.1f})"


def _left_out(labels: Sequence[str]) -> list[str]:
    """Return a sentence on the labels that the model does not have."""
    if not labels:
        return []
    told = ", ".join(f"{label} ({count})" for label, count in sorted(Counter(labels).items()))
    return [
        f"Left out, because the model has no such label: {told}. Where nothing else is true, the recording counts as one without an event."
    ]


def _spans(spans: Sequence[Span]) -> str:
    return "; ".join(f"{span.label} {span.onset_s:g}-{span.offset_s:g}" for span in spans) or "none"


def _file(one: JudgedRecording) -> dict[str, object]:
    found = {name: [asdict(span) for span in getattr(one, name)] for name in ("truth", "found", "missed", "false")}
    return {"file": one.file, "group": one.group, "seconds": one.seconds, "right": sum(one.right), "off_screen": one.off_screen, **found}
