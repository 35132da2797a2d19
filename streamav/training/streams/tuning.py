"""Makes detection settings from scores, with the figures, the curve and the remarks that belong to them.

`streamav.evaluation` chooses the settings. This module converts them to the form of a model card and states how reliable they are.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

from streamav.errors import DataError
from streamav.evaluation.counting import operating_table
from streamav.evaluation.tuning.classes import LEAST_EVENTS, class_candidates, curve_of, held_out, tune_classes
from streamav.evaluation.tuning.quiet import quiet_table, raise_thresholds, upper_rate
from streamav.thresholds import resolve
from streamav.training.streams.tuned import Curve, detection_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from streamav.bundle import DetectionCard, ModelCard
    from streamav.evaluation.counting import FinalSegments, OperatingTable
    from streamav.evaluation.events import EventCounts
    from streamav.evaluation.tuning.classes import Tuned
    from streamav.evaluation.tuning.quiet import QuietTable, Raised

__all__ = ["Asked", "Outcome", "digits", "raised_on_quiet", "tuned_on_streams"]

_Checks = tuple["EventCounts | None", "EventCounts | None"]
"""Counts on streams that were not used for tuning: with settings for single classes, and with the general settings only."""
_BUDGETS = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0, 6.0, 10.0, 20.0, 40.0, 60.0)
"""Budgets of the curve, in false alarms per hour."""
_LEFT = (0, 1, 2, 3, 5, 10, 20, 50, 100, 200, 500, 1000)
"""Numbers of alarms left in quiet recordings, for the points of the curve."""

_THREE_DIGITS = 1000.0
"""From here on a number has no digit after the point."""
_ALARMS_TO_SHOW = 3.0
"""Rule of three: with 95 % confidence, no alarm in so many times the mean time between alarms shows that alarms are rarer."""
_SHORT_H = 1.0 / 30.0
"""Shorter recordings are told in seconds."""


@dataclass(frozen=True, slots=True)
class Asked:
    """The requirements that tuning must meet."""

    alarms: float
    """Budget: false alarms per hour of all classes together, at least 0."""
    latency: int
    """Latency L in segments, 1 to 10, as in `streamav run`."""
    only: tuple[int, ...] | None = None
    """class_ids of the classes that may get their own settings; None for all classes."""
    least_events: int = LEAST_EVENTS
    """On streams: number of true events that a class needs to get its own settings."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The result of tuning, on streams or on quiet recordings."""

    detection: DetectionCard
    figures: dict[str, object]
    points: list[dict[str, float]]
    """The points of the curve, one for each budget."""
    curve: Curve
    remarks: list[str]
    """Sentences that state how reliable the result is."""


def tuned_on_streams(card: ModelCard, streams: Sequence[FinalSegments], asked: Asked) -> Outcome:
    """Choose the settings with the best event-F1 within the budget.

    As a check, settings are also chosen on each half of the streams and scored on the other half.

    Raises:
        DataError: when there is no stream, no event or no background to tune on, or no settings keep the budget.
    """
    halves = [operating_table(half, class_candidates()) for half in (streams[::2], streams[1::2]) if half]
    if not halves:
        msg = "tuning needs at least one stream, got none"
        raise DataError(msg)
    table = halves[0] if len(halves) == 1 else halves[0] + halves[1]
    best = tune_classes(table, asked.alarms, asked.least_events, asked.only)
    checks = _checked(halves, asked)
    points = curve_of(table, (*_BUDGETS, asked.alarms), asked.least_events, asked.only)
    detection = detection_of(card, best.general, [table.options[number] for number in best.chosen], asked.latency)
    return Outcome(
        detection=detection,
        figures=_stream_figures(detection, best, checks, asked),
        points=[asdict(point) for point in points],
        curve=Curve(
            title=f"{card.name}: validation streams, latency {asked.latency}",
            alarms_per_hour=tuple(point.false_alarms_per_hour for point in points),
            lines={"event-F1": tuple(point.event_f1 for point in points), "recall": tuple(point.recall for point in points)},
            chosen=best.counts.background_false_alarms_per_hour,
        ),
        remarks=_stream_remarks(best.counts, checks, asked),
    )


def raised_on_quiet(card: ModelCard, recordings: Sequence[NDArray[np.floating]], asked: Asked) -> Outcome:
    """Raise the thresholds of a card by as little as possible to keep the budget on recordings without events.

    Args:
        card: card with the thresholds to start from.
        recordings: final probabilities of each recording, shape (S, C + 1).
        asked: budget and latency.

    Raises:
        DataError: when the recordings have no segment, or no thresholds keep the budget.
    """
    before = card.thresholds()
    table = quiet_table(recordings, before)
    found = raise_thresholds(table, asked.alarms, card.slugs, asked.only)
    after = [replace(one, on=on) for one, on in zip(before, found.on, strict=True)]
    detection = detection_of(card, resolve("all classes", card=card.detection), after, asked.latency)
    raised = {
        slug: {"from": one.on, "to": on, "alarms_before": int(counts[0]), "alarms": left}
        for slug, one, on, counts, left in zip(card.slugs, before, found.on, table.alarms, found.alarms, strict=True)
        if on > one.on
    }
    points = _quiet_points(table, asked, card.slugs)
    return Outcome(
        detection=detection,
        figures={
            **_plain(detection),
            "budget_per_hour": asked.alarms,
            "hours": table.hours,
            "alarms_before": table.before,
            "alarms": found.total,
            "alarms_per_hour": found.total / table.hours,
            "upper_95_per_hour": upper_rate(found.total, table.hours),
            "expected_per_hour": (found.total + len(raised)) / table.hours,
            "smallest_rate_per_hour": 1.0 / table.hours,
            "raised": raised,
        },
        points=points,
        curve=Curve(
            title=f"{card.name}: {digits(table.hours)} h of quiet recordings",
            alarms_per_hour=tuple(point["alarms_per_hour"] for point in points),
            lines={"mean threshold": tuple(point["mean_on"] for point in points)},
            chosen=found.total / table.hours,
        ),
        remarks=_quiet_remarks(table, found, asked, len(raised)),
    )


def _plain(detection: DetectionCard) -> dict[str, object]:
    return {**detection.model_dump(exclude={"classes"}), "classes": detection.model_dump(exclude_none=True)["classes"]}


def _checked(halves: Sequence[OperatingTable], asked: Asked) -> _Checks:
    """Score each half of the streams with settings chosen on the other half: with settings for single classes, and with general ones only.

    Both counts are None if there is only one half.
    """
    if len(halves) == 1:
        return None, None
    everyone = int(sum(half.true.sum() for half in halves))
    return held_out(halves, asked.alarms, asked.least_events, asked.only), held_out(halves, asked.alarms, 2 * everyone + 2)


def _stream_figures(detection: DetectionCard, best: Tuned, checks: _Checks, asked: Asked) -> dict[str, object]:
    counts = best.counts
    own, general = checks
    return {
        **_plain(detection),
        "budget_per_hour": asked.alarms,
        "event_f1": counts.f1,
        "recall": counts.hits / counts.true,
        "background_false_alarms_per_hour": counts.background_false_alarms_per_hour,
        "within_limit": True,
        "events": counts.true,
        "background_hours": counts.background_seconds / 3600.0,
        "classes_with_own_settings": len(best.own),
        "held_out_event_f1": None if own is None else own.f1,
        "held_out_background_false_alarms_per_hour": None if own is None else own.background_false_alarms_per_hour,
        "held_out_general_event_f1": None if general is None else general.f1,
    }


def _stream_remarks(counts: EventCounts, checks: _Checks, asked: Asked) -> list[str]:
    chosen = (
        f"Chosen on validation streams with {counts.true} events and {counts.background_seconds / 3600.0:.2f} h of background: "
        f"event-F1 {counts.f1:.3f} at {counts.background_false_alarms_per_hour:.2f} false alarms per hour (budget {asked.alarms:g})."
    )
    own, general = checks
    if own is None or general is None:
        return [
            chosen,
            "The same streams cannot test these settings, and there are too few streams for a test of one half with the other.",
        ]
    checked = (
        f"Chosen on one half of the streams and scored on the other: event-F1 {own.f1:.3f} at "
        f"{own.background_false_alarms_per_hour:.2f} false alarms per hour; with general settings only {general.f1:.3f}."
    )
    advice = ["Here, settings for single classes do not help: use more streams or a higher --least-events."] if own.f1 < general.f1 else []
    return [chosen, checked, *advice]


def _quiet_points(table: QuietTable, asked: Asked, labels: Sequence[str]) -> list[dict[str, float]]:
    """Return, for several budgets, the thresholds that must be raised; budgets that no thresholds keep are omitted."""
    allowed = {int(asked.alarms * table.hours + 1e-9), table.before, *_LEFT}
    points = []
    for left in sorted(count for count in allowed if count <= table.before):
        try:
            found = raise_thresholds(table, left / table.hours, labels, asked.only)
        except DataError:
            continue
        points.append(
            {
                "budget_per_hour": left / table.hours,
                "alarms_per_hour": found.total / table.hours,
                "upper_95_per_hour": upper_rate(found.total, table.hours),
                "classes_raised": float(sum(on > own[0] for on, own in zip(found.on, table.thresholds, strict=True))),
                "mean_on": sum(found.on) / len(found.on),
                "highest_on": max(found.on),
            }
        )
    return points


def _quiet_remarks(table: QuietTable, found: Raised, asked: Asked, raised: int) -> list[str]:
    """Return sentences that state how reliable a result on quiet recordings is."""
    hours, left = table.hours, found.total
    if not table.before and asked.alarms * hours < _ALARMS_TO_SHOW:
        return [_nothing_to_learn(hours, asked.alarms)]
    counted = (
        f"{digits(hours)} h of quiet recordings: {table.before} false alarms before, {left} after ({digits(left / hours)} per hour, "
        f"budget {asked.alarms:g}). These recordings are too short to measure a rate below {digits(1.0 / hours)} per hour."
    )
    remarks = [counted]
    rule = " (rule of three)" if left == 0 else ""
    remarks.append(
        f"For thresholds that were fixed before the recordings, {left} alarms in {digits(hours)} h mean at most "
        f"{digits(upper_rate(left, hours))} per hour, with 95 % confidence{rule}."
    )
    if raised:
        remarks.append(
            f"But {raised} thresholds were raised on these recordings, each just above the scores that must not give an alarm. In new "
            f"recordings, expect up to about {digits((left + raised) / hours)} per hour: in the same time, one more for each raised class."
        )
    if asked.alarms * hours < _ALARMS_TO_SHOW:
        need = (
            f"{digits(_ALARMS_TO_SHOW / asked.alarms)} h without an alarm are needed"
            if asked.alarms > 0.0
            else "no recording is long enough"
        )
        remarks.append(f"To show a rate of {asked.alarms:g} per hour with 95 % confidence, {need}.")
    return remarks


def _nothing_to_learn(hours: float, budget: float) -> str:
    """Return the sentence for recordings that give no alarm and are too short to say more."""
    told = f"{3600.0 * hours:.0f} s" if hours < _SHORT_H else f"{60.0 * hours:.0f} min" if hours < 1.0 else f"{digits(hours)} h"
    need = f"at least {digits(_ALARMS_TO_SHOW / budget)} h" if budget > 0.0 else "many hours"
    return (
        f"No threshold was changed: {told} of quiet recordings give no false alarm, but they are too short to show that the budget of "
        f"{budget:g} per hour is kept (they show at most {digits(upper_rate(0, hours))} per hour, with 95 % confidence). Record {need} "
        "of the usual sounds and pictures of the place, without an event, and run the command again."
    )


def digits(value: float) -> str:
    """Return a number with three digits, as people write it: 0.0117, 85.7, 3590; never 3.59e+03."""
    return f"{value:.0f}" if abs(value) >= _THREE_DIGITS else f"{value:.3g}"
