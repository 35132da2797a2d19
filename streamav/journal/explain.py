"""Explains why one second of a source did or did not become an event: the scores, the thresholds, and the rule that decided.

It is pure. It applies the rule of the tracker to final scores: a run begins at `on`, continues at `off`, and is an event once
`min_segments` of it are at or above `on`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from streamav.thresholds import Thresholds
    from streamav.types import FinalScores

__all__ = ["Verdict", "explain"]

_NS: Final = 1_000_000_000
_RULES: Final = {
    "on": "the score reached on",
    "off": "an event was running and the score stayed at or above off",
    "gap": "the score fell below off, but the pause was not longer than gap_segments",
    "min_segments": "the score reached on, but in fewer segments than min_segments",
    "no_run": "the score was below on, and no event was running",
}


@dataclass(frozen=True, slots=True)
class Verdict:
    """Result of the rule for one label in one segment."""

    label: str
    score: float
    event: bool
    """True when the segment belongs to a confirmed event of the label."""
    rule: str
    """on, off, gap, min_segments or no_run."""
    held: int
    """Segments of the run at or above `on`; 0 without a run."""


def explain(
    scores: Sequence[FinalScores], at_ns: int, thresholds: Mapping[str, Thresholds], disabled: Sequence[str] = ()
) -> dict[str, object]:
    """Return why the segment at *at_ns* did or did not become an event, as JSON values.

    Args:
        scores: final scores of consecutive segments around the one in question, oldest first.
        at_ns: media time inside the segment.
        thresholds: label -> thresholds of the run.
        disabled: labels of the model that the settings switch off.
    """
    place = next((i for i, one in enumerate(scores) if one.start_ns <= at_ns < one.start_ns + _NS), None)
    if place is None:
        ends = "" if not scores else f"; there are scores from {scores[0].start_ns / _NS:g} s to {scores[-1].start_ns / _NS + 1:g} s"
        why = f"this second has no scores: the source was lost, still warming up, or does not reach it{ends}"
        return {"at_s": at_ns / _NS, "event": False, "why": why, "labels": []}
    here = scores[place]
    verdicts = [_judge(label, [one.labels.get(label, 0.0) for one in scores], place, thresholds[label]) for label in here.labels]
    verdicts.sort(key=lambda verdict: (not verdict.event, -verdict.score))
    return {
        "at_s": at_ns / _NS,
        "segment": {"media_start_s": here.start_ns / _NS, "ts": (here.epoch_ns + here.start_ns) // 1_000_000 / 1000},
        "event": any(verdict.event for verdict in verdicts),
        "why": _sentence(verdicts, thresholds),
        "background": round(here.background, 4),
        "is_event_score": round(here.relevance, 4),
        "av_similarity": round(here.agreement, 4),
        "rms_dbfs": None if here.level_dbfs is None else round(here.level_dbfs, 1),
        "labels": [
            {**asdict(verdict), "score": round(verdict.score, 4), "thresholds": asdict(thresholds[verdict.label])} for verdict in verdicts
        ],
        "disabled": list(disabled),
    }


def _judge(label: str, probabilities: Sequence[float], place: int, thresholds: Thresholds) -> Verdict:
    """Apply the rule of the tracker to one label."""
    start: int | None = None
    last = held = pause = 0
    runs: list[tuple[int, int, int]] = []
    for index, probability in enumerate(probabilities):
        if start is None:
            if probability >= thresholds.on:
                start, last, held, pause = index, index, 1, 0
        elif probability >= thresholds.off:
            last, pause = index, 0
            held += probability >= thresholds.on
        elif pause >= thresholds.gap_segments:
            runs.append((start, last, held))
            start = None
        else:
            pause += 1
    if start is not None:
        runs.append((start, last, held))
    score = probabilities[place]
    run = next((run for run in runs if run[0] <= place <= run[1]), None)
    if run is None:
        return Verdict(label, score, event=False, rule="no_run", held=0)
    if run[2] < thresholds.min_segments:
        return Verdict(label, score, event=False, rule="min_segments", held=run[2])
    rule = "on" if score >= thresholds.on else "off" if score >= thresholds.off else "gap"
    return Verdict(label, score, event=True, rule=rule, held=run[2])


def _sentence(verdicts: Sequence[Verdict], thresholds: Mapping[str, Thresholds]) -> str:
    """Return the outcome in words: of every event, or of the label that came nearest."""
    parts = []
    for verdict in [one for one in verdicts if one.event] or verdicts[:1]:
        rule = thresholds[verdict.label]
        what = "is an event" if verdict.event else "is no event"
        numbers = f"score {verdict.score:.2f}, on {rule.on:.2f}, off {rule.off:.2f}, {verdict.held} of min_segments {rule.min_segments}"
        parts.append(f"{verdict.label} {what}: {_RULES[verdict.rule]} ({numbers})")
    return "; ".join(parts) or "no class is enabled"
