"""Explains why one second of a source did or did not become an event: the scores, the thresholds, and the rule that decided.

It is pure. It applies the rule of the tracker to final scores: a run begins at `on`, continues at `off`, and is an event once
`min_segments` of it are at or above `on`. A segment that a rule holds back counts as one below `off`, and no run begins in a cooldown.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Final

from streamav.rules import HeldBack, Sight, held_back

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from streamav.rules import Rules
    from streamav.tracker import LabelOptions
    from streamav.types import FinalScores

__all__ = ["GRID", "Surroundings", "explain"]

GRID: Final = (7, 7)
"""Rows and columns of the attention, where no model says otherwise."""
_NS: Final = 1_000_000_000
_WORDS: Final = {
    "on": "the score reached on",
    "off": "an event was running and the score stayed at or above off",
    "gap": "the score fell below off, but the pause was not longer than gap_segments",
    "min_segments": "the score reached on, but in fewer segments than min_segments",
    "no_run": "the score was below on, and no event was running",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What the scores alone do not tell."""

    grid: tuple[int, int] = GRID
    """Rows and columns of the model's attention."""
    timed: bool = True
    """False: the times of the scores are no times of day, so every schedule holds."""
    disabled: tuple[str, ...] = ()
    """Labels of the model that the settings switch off."""
    ended_ns: Mapping[str, int] | None = None
    """Label -> end of its last confirmed event before the scores, media time; its cooldown may still last."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Result of the rules for one label in one segment."""

    label: str
    score: float
    event: bool
    """True when the segment belongs to a confirmed event of the label."""
    rule: str
    """on, off, gap, min_segments, no_run, or the rule that held it back: schedule, agreement, inside, outside, cooldown."""
    held: int
    """Segments of the run at or above `on`; 0 without a run."""
    held_back: str | None
    """The rule that holds the segment back, also where the score is too low anyway; None for none."""


@dataclass(slots=True)
class _Run:
    start: int
    last: int
    held: int = 0
    pause: int = 0


def explain(
    scores: Sequence[FinalScores], at_ns: int, labels: Sequence[LabelOptions], around: Surroundings | None = None
) -> dict[str, object]:
    """Return why the segment at *at_ns* did or did not become an event, as JSON values.

    Args:
        scores: final scores of consecutive segments around the one in question, oldest first.
        at_ns: media time inside the segment.
        labels: labels of the run, with thresholds and rules.
        around: what the scores do not tell; None for the usual.
    """
    around = around or Surroundings()
    place = next((i for i, one in enumerate(scores) if one.start_ns <= at_ns < one.start_ns + _NS), None)
    if place is None:
        ends = "" if not scores else f"; there are scores from {scores[0].start_ns / _NS:g} s to {scores[-1].start_ns / _NS + 1:g} s"
        why = f"this second has no scores: the source was lost, switched off, still warming up, or does not reach it{ends}"
        return {"at_s": at_ns / _NS, "event": False, "why": why, "labels": []}
    here = scores[place]
    options = {label.label: label for label in labels if label.label in here.labels}
    verdicts = [_judge(one, scores, place, around) for one in options.values()]
    verdicts.sort(key=lambda verdict: (not verdict.event, -verdict.score))
    return {
        "at_s": at_ns / _NS,
        "segment": {"media_start_s": here.start_ns / _NS, "ts": (here.epoch_ns + here.start_ns) // 1_000_000 / 1000},
        "event": any(verdict.event for verdict in verdicts),
        "why": "; ".join(_sentence(verdict, options[verdict.label], here) for verdict in _told(verdicts)) or "no class is enabled",
        "background": round(here.background, 4),
        "is_event_score": round(here.relevance, 4),
        "av_similarity": round(here.agreement, 4),
        "rms_dbfs": None if here.level_dbfs is None else round(here.level_dbfs, 1),
        "place": None if here.place is None else [round(value, 3) for value in here.place],
        "labels": [
            {**asdict(verdict), "score": round(verdict.score, 4), "thresholds": asdict(options[verdict.label].thresholds)}
            for verdict in verdicts
        ],
        "disabled": list(around.disabled),
    }


def _told(verdicts: Sequence[Verdict]) -> Sequence[Verdict]:
    """Return the verdicts that the sentence is about: every event, else every label that a rule held back, else the highest score."""
    return [one for one in verdicts if one.event] or [one for one in verdicts if one.rule in set(HeldBack)] or verdicts[:1]


def _judge(options: LabelOptions, scores: Sequence[FinalScores], place: int, around: Surroundings) -> Verdict:
    """Apply the rule of the tracker to one label."""
    label, limits = options.label, options.thresholds
    quiet_ns = -1
    if around.ended_ns is not None and label in around.ended_ns:
        quiet_ns = around.ended_ns[label] + options.rules.cooldown_segments * _NS
    runs: list[_Run] = []
    run: _Run | None = None
    cooling = False
    for index, one in enumerate(scores):
        probability = one.labels.get(label, 0.0) if _why_held_back(options.rules, one, around) is None else -1.0
        if run is None:
            waits = one.start_ns < quiet_ns
            cooling = cooling or (index == place and waits)
            if probability >= limits.on and not waits:
                run = _Run(index, index, 1)
                runs.append(run)
        elif probability >= limits.off:
            run.last, run.pause = index, 0
            run.held += probability >= limits.on
        elif run.pause >= limits.gap_segments:
            if run.held >= limits.min_segments:
                quiet_ns = scores[run.last].start_ns + (1 + options.rules.cooldown_segments) * _NS
            run = None
        else:
            run.pause += 1
    found = next((one for one in runs if one.start <= place <= one.last), None)
    return _verdict(options, scores[place], found, _why_held_back(options.rules, scores[place], around), cooling=cooling)


def _verdict(options: LabelOptions, here: FinalScores, run: _Run | None, reason: HeldBack | None, *, cooling: bool) -> Verdict:
    score, limits = here.labels[options.label], options.thresholds
    if run is None and reason is None and cooling:
        reason = HeldBack.COOLDOWN
    told = None if reason is None else reason.value
    if run is None:
        rule = told if told is not None and score >= limits.on else "no_run"
        return Verdict(options.label, score, event=False, rule=rule, held=0, held_back=told)
    if run.held < limits.min_segments:
        return Verdict(options.label, score, event=False, rule="min_segments", held=run.held, held_back=told)
    rule = told or ("on" if score >= limits.on else "off" if score >= limits.off else "gap")
    return Verdict(options.label, score, event=True, rule=rule, held=run.held, held_back=told)


def _why_held_back(rules: Rules, scores: FinalScores, around: Surroundings) -> HeldBack | None:
    utc_ns = scores.epoch_ns + scores.start_ns if around.timed else None
    return held_back(rules, Sight(agreement=scores.agreement, place=scores.place, grid=around.grid, utc_ns=utc_ns))


def _sentence(verdict: Verdict, options: LabelOptions, here: FinalScores) -> str:
    """Return the verdict in words."""
    limits, rules = options.thresholds, options.rules
    where = "its place, which is not known, is" if here.place is None else f"its place ({here.place[0]:.2f}, {here.place[1]:.2f}) is"
    words: dict[str, str] = {
        **_WORDS,
        HeldBack.SCHEDULE: "it is outside of its schedule",
        HeldBack.AGREEMENT: f"the agreement {here.agreement:.2f} is below min_agreement {rules.min_agreement or 0.0:.2f}",
        HeldBack.INSIDE: f"{where} in none of the zones {', '.join(rules.inside)}",
        HeldBack.OUTSIDE: f"{where} in a zone to leave out ({', '.join(rules.outside)})",
        HeldBack.COOLDOWN: f"the cooldown of {rules.cooldown_segments} s after the event before is not over",
    }
    what = "is an event" if verdict.event else "is no event"
    why = words[verdict.rule]
    if verdict.event and verdict.rule in set(HeldBack):
        why += ", but the pause was not longer than gap_segments"
    numbers = f"score {verdict.score:.2f}, on {limits.on:.2f}, off {limits.off:.2f}, {verdict.held} of min_segments {limits.min_segments}"
    return f"{verdict.label} {what}: {why} ({numbers})"
