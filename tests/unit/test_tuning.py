"""Tests of tuning: the same counts as live, a budget that is kept and used best, thresholds that are only raised on quiet recordings."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from rigs.cases import cases
from rigs.live_events import LABELS, live_events
from rigs.random_scores import PROBABILITIES

from streamav.errors import DataError
from streamav.evaluation.counting import FinalSegments, OperatingTable, ScoredStream, operating_table
from streamav.evaluation.events import Collar, EventCounts, count_events
from streamav.evaluation.tuning.budget import Group, best_ratio, share
from streamav.evaluation.tuning.classes import class_candidates, curve_of, final_segments, held_out, tune_classes
from streamav.evaluation.tuning.quiet import STRICTEST, quiet_table, raise_thresholds, upper_rate
from streamav.thresholds import Thresholds
from streamav.training.streams.tuning import digits

CLASSES = len(LABELS)
SMALL = [
    Thresholds(on=on, off=off, min_segments=least, gap_segments=gap)
    for (on, off), least, gap in product([(0.25, 0.125), (0.5, 0.375), (0.75, 0.25), (0.75, 0.75)], (1, 2), (0, 1))
]


def drawn_stream(seed: int, length: int = 60) -> FinalSegments:
    """Draw a stream whose scores sometimes follow the truth."""
    random = np.random.default_rng(seed)
    truth = np.repeat(random.integers(0, CLASSES + 1, length), random.integers(1, 6, length))[:length]
    scores = random.choice(PROBABILITIES, (length, CLASSES + 1))
    scores[:, :CLASSES] *= random.random((length, CLASSES)) < 0.4
    right = random.random(length) < 0.5
    scores[np.flatnonzero(right), truth[right]] = 0.75
    return FinalSegments(scores, truth.astype(np.int64))


streams = st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=3).map(lambda seeds: [drawn_stream(seed) for seed in seeds])


@given(streams)
@cases(8)
def test_the_table_counts_as_the_evaluation_does(drawn: list[FinalSegments]) -> None:
    """Hits, false alarms and background false alarms of every setting are those of count_events on the events of a live run."""
    table = operating_table(drawn, SMALL)
    for number, setting in enumerate(SMALL):
        expected = sum((count_events(one.truth, live_events(one.scores, setting), CLASSES, Collar()) for one in drawn), EventCounts())
        assert table.counts([number] * CLASSES) == replace(expected, detected=0)  # the table does not count `detected`


def test_tables_of_two_halves_add_up_to_that_of_all() -> None:
    """Tables of different streams can be added; a table of other settings is refused."""
    drawn = [drawn_stream(seed) for seed in range(5)]
    whole, first, second = (operating_table(part, SMALL) for part in (drawn, drawn[::2], drawn[1::2]))
    both = first + second
    for name in ("true", "said", "hits", "false_alarms", "background_false_alarms"):
        np.testing.assert_array_equal(getattr(both, name), getattr(whole, name))
    assert (both.seconds, both.background_seconds) == (whole.seconds, whole.background_seconds)
    with pytest.raises(DataError, match="settings and classes"):
        first + operating_table(drawn, SMALL[:2])


def test_streams_of_no_or_other_classes_are_refused() -> None:
    """No stream, or streams with different classes, is a DataError."""
    other = FinalSegments(np.zeros((3, 2)), np.ones(3, dtype=np.int64))
    for wrong in ([], [drawn_stream(0), other]):
        with pytest.raises(DataError, match="one set of classes"):
            operating_table(wrong, SMALL)


numbers = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 8), st.integers(0, 5)), min_size=1, max_size=4)


@given(st.lists(numbers, min_size=1, max_size=4), st.integers(0, 12), st.integers(0, 5))
def test_a_budget_is_shared_in_the_best_way_there_is(groups: list[list[tuple[int, int, int]]], budget: int, base: int) -> None:
    """The best sum and the best ratio equal those of an exhaustive search, and None is returned exactly when no choice is cheap enough."""
    made = [Group(*(np.array(column) for column in zip(*group, strict=True))) for group in groups]
    ways = [way for way in product(*groups) if sum(one[2] for one in way) <= budget]
    sums = share([group.gains for group in made], [group.costs for group in made], budget)
    ratio = best_ratio(made, budget, base)
    if not ways:
        assert sums is ratio is None
        return
    assert sums is not None
    assert ratio is not None
    assert sum(groups[number][point][0] for number, point in enumerate(sums)) == max(sum(one[0] for one in way) for way in ways)
    for chosen in (sums, ratio):
        assert sum(groups[number][point][2] for number, point in enumerate(chosen)) <= budget
    taken = [groups[number][point] for number, point in enumerate(ratio)]
    if base > 0:
        top = max(sum(one[0] for one in way) / (base + sum(one[1] for one in way)) for way in ways)
        assert sum(one[0] for one in taken) / (base + sum(one[1] for one in taken)) == pytest.approx(top)


def tuned(table: OperatingTable, budget: float, least: int) -> EventCounts | None:
    try:
        return tune_classes(table, budget, least).counts
    except DataError:
        return None


@given(streams, st.integers(1, 12))
@cases(40)
def test_the_budget_is_kept_and_more_of_it_never_gives_less(drawn: list[FinalSegments], least: int) -> None:
    """On the tuned streams alarms keep the budget, event-F1 never falls with a larger budget, and results are reproducible."""
    table = operating_table(drawn, SMALL)
    if not table.true.sum() or not table.background_seconds:
        return
    before = -1.0
    for budget in (0.0, 60.0, 120.0, 300.0, 600.0, 1200.0, 3000.0):
        counts = tuned(table, budget, least)
        assert counts == tuned(table, budget, least)
        if counts is None:
            assert before == -1.0
            continue
        assert counts.background_false_alarms_per_hour <= budget + 1e-9
        assert counts.f1 >= before
        before = counts.f1


@given(streams)
@cases(25)
def test_own_settings_are_never_worse_than_those_for_all(drawn: list[FinalSegments]) -> None:
    """Settings for each class are at least as good as any single set for all classes that keeps the budget."""
    table = operating_table(drawn, SMALL)
    if not table.true.sum() or not table.background_seconds:
        return
    shared = [table.counts([number] * CLASSES) for number in range(len(SMALL))]
    for budget in (0.0, 300.0, 3000.0):
        kept = [one.f1 for one in shared if one.background_false_alarms_per_hour <= budget]
        if kept:
            assert tune_classes(table, budget, 1).counts.f1 >= max(kept)


def noisy(seed: int, noise: tuple[float, ...]) -> FinalSegments:
    """Return events at 0.8 over noise up to the given level in each class."""
    random = np.random.default_rng(seed)
    truth = np.tile(np.repeat([3, 0, 3, 1, 3], [12, 5, 12, 5, 12]), 6).astype(np.int64)
    scores = np.concatenate([random.random((len(truth), 3)) * np.array(noise), np.zeros((len(truth), 1))], axis=1)
    events = np.flatnonzero(truth < 3)
    scores[events, truth[events]] = 0.8
    return FinalSegments(scores, truth)


def test_each_class_gets_what_its_own_noise_asks_for() -> None:
    """A class with strong noise gets a high threshold, one with weak noise a lower one, and one without events the general one."""
    table = operating_table([noisy(1, (0.78, 0.1, 0.1)), noisy(2, (0.78, 0.1, 0.1))], class_candidates())
    found = tune_classes(table, 0.0)
    assert found.counts.f1 == 1.0
    assert set(found.own) == {0, 1}
    assert found.own[0].on > 0.7
    assert found.own[1].on < found.own[0].on
    assert table.options[found.chosen[2]] == found.general
    only = tune_classes(table, 0.0, only=(1,))
    assert set(only.own) == {1}
    assert table.options[only.chosen[0]] == only.general


def test_few_events_mean_general_settings() -> None:
    """With fewer events than required no class has settings of its own, and all have the general ones."""
    table = operating_table([noisy(1, (0.5, 0.1, 0.1))], class_candidates())
    assert table.true.tolist() == [6, 6, 0]
    found = tune_classes(table, 0.0, least_events=7)
    assert not found.own
    assert len(set(found.chosen)) == 1


def always_loud() -> FinalSegments:
    """Return 50 s of an event and 50 s of background in which another class has a score of 0.99."""
    scores = np.zeros((100, 3))
    scores[:50, 0] = scores[75:90, 1] = 0.99
    return FinalSegments(scores, np.repeat([0, 2], 50).astype(np.int64))


def test_an_impossible_budget_says_what_is_possible() -> None:
    """The error for an impossible budget names the smallest possible rate; streams without events or background are refused."""
    loud = always_loud()
    with pytest.raises(DataError, match=r"the strictest ones still give 72\.00 \(1 in 0\.01 h\)"):
        tune_classes(operating_table([loud], class_candidates()), 1.0)
    for truth in (np.zeros(50, dtype=np.int64), np.full(50, 2)):
        with pytest.raises(DataError, match="true events and background"):
            tune_classes(operating_table([FinalSegments(np.zeros((50, 3)), truth)], class_candidates()), 1.0)


def test_the_curve_rises_with_the_budget_and_leaves_out_what_cannot_be_kept() -> None:
    """F1 never falls along the curve, alarms stay within the budgets, and an impossible budget has no point."""
    table = operating_table([drawn_stream(seed, 300) for seed in range(4)], SMALL)
    points = curve_of(table, [0.0, 100.0, 50.0, 1000.0, 3600.0])
    assert points
    assert [point.budget_per_hour for point in points] == sorted(point.budget_per_hour for point in points)
    assert all(point.false_alarms_per_hour <= point.budget_per_hour + 1e-9 for point in points)
    assert all(first.event_f1 <= second.event_f1 for first, second in pairwise(points))
    assert not curve_of(operating_table([always_loud()], SMALL), [0.0])


def test_halves_check_each_other() -> None:
    """Each half is scored with the settings of the other half; a half without events gives None."""
    halves = [operating_table([noisy(seed, (0.6, 0.1, 0.1))], class_candidates()) for seed in (1, 2)]
    found = held_out(halves, 0.0)
    assert found is not None
    assert found.true == 24
    assert 0.8 < found.f1 <= 1.0
    empty = operating_table([FinalSegments(np.zeros((50, 4)), np.full(50, 3))], class_candidates())
    assert held_out([halves[0], empty], 0.0) is None


def test_final_seconds_are_those_of_a_latency() -> None:
    """Each stream gives the segments that have scores at every age, with their truth."""
    truth = np.arange(40) % 3
    scored = final_segments([ScoredStream(np.full((31, 10, 3), 0.5), truth)], 3)
    assert scored[0].scores.shape == (22, 3)
    np.testing.assert_array_equal(scored[0].truth, truth[9:31])


START = Thresholds(on=0.5, off=0.25, min_segments=1, gap_segments=1)
quiet = st.integers(0, 2**32 - 1).map(lambda seed: 0.99 * np.random.default_rng(seed).random((200, 4)) ** 3)


@pytest.mark.slow
@given(st.lists(quiet, min_size=1, max_size=3), st.sampled_from([0.0, 20.0, 100.0, 1000.0]))
@cases(30)
def test_quiet_recordings_are_brought_within_the_budget(recordings: list[NDArray[np.float64]], budget: float) -> None:
    """After raising, a live run over the recordings has the stated number of alarms, within the budget, and no threshold falls."""
    table = quiet_table(recordings, [START] * 3)
    found = raise_thresholds(table, budget, LABELS)
    assert found == raise_thresholds(table, budget, LABELS)
    assert found.total <= budget * table.hours + 1e-9
    assert all(START.on <= on <= STRICTEST for on in found.on)
    for label, on in enumerate(found.on):
        setting = Thresholds(on=on, off=START.off, min_segments=1, gap_segments=1)
        said = sum(sum(span.label == label for span in live_events(one, setting)) for one in recordings)
        assert said == found.alarms[label]


@given(quiet)
@cases(30)
def test_less_budget_never_asks_for_less(recording: NDArray[np.float64]) -> None:
    """The sum of raises falls with a larger budget, alarms never rise with a threshold, and a large budget changes nothing."""
    table = quiet_table([recording], [START] * 3)
    assert all((np.diff(alarms) <= 0).all() for alarms in table.alarms)
    raises = [raise_thresholds(table, budget, LABELS).raise_log_odds for budget in (0.0, 50.0, 200.0, 1e6)]
    assert raises == sorted(raises, reverse=True)
    assert raise_thresholds(table, 1e6, LABELS).on == (0.5, 0.5, 0.5)


def test_only_what_may_be_raised_is_raised() -> None:
    """The loudest class is raised just above its noise; when it may not be raised, the error names it."""
    recording = np.zeros((3600, 4))
    recording[100, 0], recording[200, 1] = 0.873, 0.4
    table = quiet_table([recording], [START] * 3)
    assert table.hours == 1.0
    found = raise_thresholds(table, 0.5, LABELS)
    assert found.on == (0.88, 0.5, 0.5)
    assert found.total == 0
    with pytest.raises(DataError, match="remaining alarms: bark 1"):
        raise_thresholds(table, 0.5, LABELS, only=(1, 2))
    assert raise_thresholds(table, 1.0, LABELS).on == (0.5, 0.5, 0.5)


def test_a_class_that_is_always_sure_cannot_be_silenced() -> None:
    """A class that still gives alarms at the highest threshold is an error that tells how to disable it."""
    with pytest.raises(DataError, match=r"remaining alarms: siren 1.*enabled = false"):
        raise_thresholds(quiet_table([np.tile([0.0, 0.0, 1.0, 0.0], (50, 1))], [START] * 3), 1.0, LABELS)
    with pytest.raises(DataError, match="at least one segment"):
        quiet_table([np.zeros((0, 4))], [START] * 3)


def test_what_no_alarm_proves() -> None:
    """The bound is the rule of three for no alarm, Garwood's value for five, and half as much for twice the hours."""
    assert upper_rate(0, 1.0) == pytest.approx(-math.log(0.05), abs=1e-6)
    assert upper_rate(5, 1.0) == pytest.approx(10.513, abs=1e-3)
    assert upper_rate(5, 2.0) == pytest.approx(10.513 / 2, abs=1e-3)
    assert 1000.0 < upper_rate(1000, 1.0) < 1060.0


@pytest.mark.parametrize(("value", "shown"), [(0.01167, "0.0117"), (85.71, "85.7"), (3590.4, "3590"), (0.0, "0"), (1000.0, "1000")])
def test_rates_are_shown_as_people_write_them(value: float, shown: str) -> None:
    """A rate has three digits and no exponent: a recording of three seconds shows at most 3590 an hour, not 3.59e+03."""
    assert digits(value) == shown
