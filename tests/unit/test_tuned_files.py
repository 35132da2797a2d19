"""Promises of what tuning writes: a configuration and a card with the same settings for a live run, a plot, and remarks."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamav.app import label_options
from streamav.bundle import AudioCard, ClassEntry, DetectionCard, LocalizerCard, ModelCard, VisualCard
from streamav.config import DetectionSettings
from streamav.config_loading import load_settings
from streamav.errors import DataError, MissingExtraError, SettingsError
from streamav.evaluation.counting import FinalSegments
from streamav.thresholds import PartialThresholds, Thresholds
from streamav.training.streams.tuned import Curve, config_text, detection_of, draw_curve, sparkline, write_config
from streamav.training.streams.tuning import Asked, raised_on_quiet, tuned_on_streams

CARD = ModelCard(
    name="formula",
    version="1",
    profile="custom",
    classes=tuple(ClassEntry(slug=slug, name=slug.title()) for slug in ("bark", "bird", "siren")),
    audio=AudioCard(network="compact_audio", log_mel_offset=0.01, size=3),
    visual=VisualCard(network="compact_visual", picture=(14, 14), frames_per_second=2, size=4, grid=7),
    localizer=LocalizerCard(options={}),
    detection=DetectionCard(on=0.6, off=0.4, classes={"bird": PartialThresholds(on=0.8, min_segments=3)}),
    licence_note="none",
)

thresholds = st.tuples(st.integers(0, 1000), st.integers(0, 1000)).map(lambda pair: sorted(pair, reverse=True))
settings = st.builds(
    lambda pair, least, gap: Thresholds(on=pair[0] / 1000, off=pair[1] / 1000, min_segments=least, gap_segments=gap),
    thresholds,
    st.integers(1, 60),
    st.integers(0, 60),
)


@given(settings, st.lists(settings, min_size=3, max_size=3), st.integers(1, 10))
def test_configuration_and_card_say_the_same_to_a_run(
    tmp_path_factory: pytest.TempPathFactory, general: Thresholds, classes: list[Thresholds], latency: int
) -> None:
    """A run has exactly the tuned settings, both with the copied card and with the configuration and the old card."""
    detection = detection_of(CARD, general, classes, latency)
    path = tmp_path_factory.mktemp("config") / "tuned.toml"
    write_config(path, config_text('a "model"', detection, ["One", "two."]))
    loaded = load_settings(path, environment={})
    by_card = label_options(CARD.model_copy(update={"detection": detection}), DetectionSettings())
    by_config = label_options(CARD, loaded.detection)
    assert [one.thresholds for one in by_card] == classes
    assert by_config == by_card
    assert loaded.detection.latency_segments == latency
    assert loaded.model.name == 'a "model"'


def test_the_settings_of_a_card_are_those_of_a_run() -> None:
    """A class has its own settings if the card holds some, and the general settings otherwise."""
    assert CARD.thresholds() == tuple(one.thresholds for one in label_options(CARD, DetectionSettings()))
    assert CARD.thresholds()[1] == Thresholds(on=0.8, off=0.4, min_segments=3, gap_segments=1)


def test_a_configuration_is_never_written_over(tmp_path: Path) -> None:
    """An existing configuration file is never overwritten."""
    path = tmp_path / "there.toml"
    path.write_text("mine", encoding="utf-8")
    with pytest.raises(SettingsError, match="must not exist yet"):
        write_config(path, "theirs")
    assert path.read_text(encoding="utf-8") == "mine"


def test_a_sparkline_goes_from_low_to_high() -> None:
    """The smallest value is the lowest bar, the largest the highest, and NaN a space; equal values are bars of middle height."""
    assert sparkline([0.0, float("nan"), 0.5, 1.0]) == "▁ ▅█"
    assert sparkline([0.3, 0.3]) == "▅▅"
    assert sparkline([float("nan")]) == " "


@pytest.mark.slow
def test_a_picture_needs_matplotlib_and_a_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing folder raises a SettingsError; a missing matplotlib raises an error with the command that installs it."""
    curve = Curve(title="x", alarms_per_hour=(0.0, 1.0), lines={"event-F1": (0.1, 0.2)}, chosen=0.5)
    with pytest.raises(SettingsError, match="cannot be written"):
        draw_curve(curve, tmp_path / "no" / "curve.png")
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingExtraError, match=r"streamav\[train\]"):
        draw_curve(curve, tmp_path / "curve.png")


def stream(seed: int) -> FinalSegments:
    """Return a stream with events of two classes at 0.8, over noise of up to 0.6."""
    random = np.random.default_rng(seed)
    truth = np.tile(np.repeat([3, 0, 3, 1, 3], [12, 5, 12, 5, 12]), 8).astype(np.int64)
    scores = 0.6 * random.random((len(truth), 4))
    events = np.flatnonzero(truth < 3)
    scores[events, truth[events]] = 0.8
    return FinalSegments(scores, truth)


@pytest.mark.slow
def test_tuning_on_streams_tells_what_it_comes_to() -> None:
    """The result has figures, curve and remarks of the chosen settings; one stream gives no check, and no stream is refused."""
    found = tuned_on_streams(CARD, [stream(1), stream(2)], Asked(0.0, 2))
    assert found.detection.latency_segments == 2
    assert set(found.detection.classes) <= {"bark", "bird"}
    assert found.figures["event_f1"] == 1.0
    assert found.figures["background_false_alarms_per_hour"] == 0.0
    assert isinstance(found.figures["held_out_event_f1"], float)
    assert len(found.curve.alarms_per_hour) == len(found.points) == len(found.curve.lines["recall"])
    assert "scored on the other" in found.remarks[1]
    assert "too few streams" in tuned_on_streams(CARD, [stream(1)], Asked(0.0, 2)).remarks[1]
    with pytest.raises(DataError, match="at least one stream"):
        tuned_on_streams(CARD, [], Asked(0.0, 2))


def test_raising_on_quiet_recordings_tells_how_sure_it_is() -> None:
    """With one alarm in an hour and none allowed, the class's threshold is raised just above it, and the remarks state the limits."""
    recording = np.zeros((3600, 4))
    recording[10:14, 1] = 0.93
    found = raised_on_quiet(CARD, [recording], Asked(0.5, 1))
    assert found.figures["raised"] == {"bird": {"from": 0.8, "to": 0.94, "alarms_before": 1, "alarms": 0}}
    assert found.detection.classes["bird"] == PartialThresholds(on=0.94, off=0.4, min_segments=3, gap_segments=1)
    assert found.detection.on == 0.6
    assert found.figures["expected_per_hour"] == 1.0
    assert found.figures["smallest_rate_per_hour"] == 1.0
    assert [point["alarms_per_hour"] for point in found.points] == [0.0, 1.0]
    assert [
        word for word in ("rule of three", "expect up to about 1 per hour", "6 h without an alarm") if word not in " ".join(found.remarks)
    ] == []


def test_half_a_minute_of_quiet_says_what_is_missing() -> None:
    """Where quiet recordings give no alarm and are too short to show the budget, one sentence says so and how much to record."""
    scores = np.full((30, len(CARD.classes) + 1), 1e-4)
    found = raised_on_quiet(CARD, [scores], Asked(1.0, 1))
    (said,) = found.remarks
    assert said.startswith("No threshold was changed: 30 s of quiet recordings")
    assert "Record at least 3 h" in said


def test_enough_quiet_says_what_it_shows() -> None:
    """Four hours without an alarm show one alarm per hour: no call for longer recordings."""
    scores = np.full((4 * 3600, len(CARD.classes) + 1), 1e-4)
    found = raised_on_quiet(CARD, [scores], Asked(1.0, 1))
    assert not any("Record" in one or "needed" in one for one in found.remarks)
