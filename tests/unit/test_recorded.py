"""Tests of the figures of labelled recordings, by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest

from streamav.evaluation.recorded import JudgedRecording, figures_of, figures_of_label, split_by_truth
from streamav.evaluation.recorded_report import Answer, markdown, tree_of
from streamav.evaluation.recordings import Span
from streamav.evaluation.untrained import RECIPE, LabelClasses, recipe_scores, sound_scores


def judged(truth: list[Span], found: list[Span], group: str = "g", seconds: int = 10, *, off_screen: bool = False) -> JudgedRecording:
    return JudgedRecording(f"{group}.mp4", group, seconds, tuple(truth), tuple(found), off_screen)


@pytest.mark.parametrize(
    ("found", "named", "false"),
    [
        (Span("bark", 3, 6), True, 0),  # at the onset
        (Span("bark", 5, 6), True, 0),  # 2 s after it
        (Span("bark", 6, 7), False, 0),  # too late, and not false: it overlaps
        (Span("bark", 0, 8), True, 0),  # earlier, and goes on into the event
        (Span("bark", 0, 3), False, 1),  # over before the event begins
        (Span("cat", 3, 7), False, 1),  # another label
        (Span("bark", 7, 9), False, 1),  # begins when the event is over
    ],
)
def test_an_event_names_or_is_late_or_is_false(found: Span, named: bool, false: int) -> None:
    """An event names a true one of its label if it overlaps and begins at most 2 s after the onset; it is false if it overlaps none."""
    one = judged([Span("bark", 3, 7)], [found])
    assert (bool(one.named), len(one.missed), len(one.false)) == (named, not named, false)


def test_the_figures_by_hand() -> None:
    """Clips, events, false events an hour and seconds are counted over all recordings, those without an event included."""
    recordings = [
        judged([Span("bark", 0, 2), Span("bark", 8, 10)], [Span("bark", 0, 2)], "a"),
        judged([Span("cat", 0, 10)], [Span("bark", 0, 10)], "b"),
        judged([], [Span("speech", 2, 4), Span("speech", 6, 7)], "c", off_screen=True),
    ]
    figures = figures_of(recordings)
    assert (figures.clips_named.part, figures.clips_named.whole) == (1, 2)
    assert (figures.events_named.part, figures.events_named.whole) == (1, 3)
    assert figures.false_events.part == 3
    assert figures.false_events.value == pytest.approx(3 * 3600 / 30)
    assert figures.seconds_right.part == 8 + 0 + 7
    bark = figures_of_label(recordings, "bark")
    assert (bark.recordings, bark.clips_named.part, bark.false_events.part) == (1, 1, 1)
    assert (bark.seconds_right.part, bark.seconds_right.whole) == (2, 4)
    parts = split_by_truth(recordings)
    assert [len(part) for part in parts.values()] == [2, 1, 1]


def test_recordings_of_one_source_are_drawn_together() -> None:
    """Twenty recordings of two sources, one always named and one never, give an interval from 0 to 1; as twenty sources they do not."""
    bark = [Span("bark", 0, 2)]
    together = figures_of([judged(bark, bark if n % 2 else [], f"source {n % 2}") for n in range(20)]).clips_named
    apart = figures_of([judged(bark, bark if n % 2 else [], f"source {n}") for n in range(20)]).clips_named
    assert (together.low, together.high) == (0.0, 1.0)
    assert apart.low is not None
    assert 0.1 < apart.low < 0.5


def test_no_false_event_does_not_prove_that_there_is_none() -> None:
    """Without any false event the rate an hour has the upper end 3 / hours (rule of three), not 0."""
    rate = figures_of([judged([], [], f"{n}", seconds=360) for n in range(10)]).false_events
    assert (rate.value, rate.low) == (0.0, 0.0)
    assert rate.high == pytest.approx(3.0, rel=0.01)


def test_recordings_without_any_event_have_no_share_of_named_clips() -> None:
    """Background alone gives false alarms and seconds; named clips are a dash in the table and null in JSON."""
    answers = [Answer("tiny", 2, (judged([], [Span("speech", 0, 1)]),))]
    assert "| tiny | 2 | - | - | 1 | 360.0" in markdown(answers, [])
    tree = json.loads(json.dumps(tree_of(answers, []), allow_nan=False))
    assert tree["answers"][0]["clips_named"]["value"] is None
    assert tree["answers"][0]["by_label"]["speech"]["false_events"]["part"] == 1


def test_the_report_lists_what_is_missed_and_false_and_left_out() -> None:
    """Each recording with a mistake has a line that names what is missed and what is false; labels that were left out are told."""
    wrong = judged([Span("bark", 3, 7)], [Span("cat", 1, 2)], "wrong")
    text = markdown([Answer("tiny", 2, (wrong, judged([], [], "right")))], ["violin", "violin", "bus"])
    assert "| wrong.mp4 | bark 3-7 | bark 3-7 | cat 1-2 | 5 of 10 |" in text
    assert "right.mp4" not in text
    assert "bus (1), violin (2)" in text


def test_the_untrained_recipe_wants_sound_and_picture() -> None:
    """Of a dog that is heard, the recipe finds the one that is seen; sound alone finds both; neither finds a dog that is only seen."""
    classes = LabelClasses([(["Bark"], ["dog"])])
    heard, dog = np.full(521, 0.001, np.float32), np.zeros(1000, np.float32)
    loud = heard.copy()
    loud[70] = 0.9
    dog[200] = 0.9
    scores = [(classes.heard(a), classes.seen(v)) for a, v in ((loud, dog), (loud, 0 * dog), (heard, dog))]
    sound = [float(sound_scores(np.stack([a] * 3))[1, 0]) for a, _ in scores]
    recipe = [float(recipe_scores(np.stack([a] * 3), np.stack([v] * 3))[1, 0]) for a, v in scores]
    assert sound[0] == sound[1] > 0.8
    assert sound[2] < 0.01
    assert recipe[0] > RECIPE.on > max(recipe[1:])
