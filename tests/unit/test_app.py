"""Tests how settings and a model card become options."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from streamav.app import PlanMaker, build, label_options, localizer_head, source_controls
from streamav.app.detection import kept_note
from streamav.bundle import ModelCard, load_bundle
from streamav.config import DetectionSettings, Settings
from streamav.config_loading import load_settings
from streamav.control import kept_path
from streamav.errors import CaptureError, SettingsError
from streamav.labels import Label, LabelTable


@pytest.fixture(scope="module")
def card(tiny_bundle: Path) -> ModelCard:
    """Return the card of a model whose class bird has its own thresholds."""
    tree = load_bundle(tiny_bundle).card.model_dump(mode="json", by_alias=True)
    tree["detection"]["classes"] = {"bird": {"on": 0.8, "off": 0.4}}
    return ModelCard.model_validate(tree)


def detection(*overrides: str) -> DetectionSettings:
    return load_settings(overrides=[f"detection.{one}" for one in overrides], environment={}).detection


def test_the_card_speaks_where_the_settings_are_silent(card: ModelCard) -> None:
    """Without settings, thresholds come from the card and its classes, in class_id order."""
    options = label_options(card, DetectionSettings())
    assert [(one.label, one.class_id, one.thresholds.on, one.thresholds.off) for one in options] == [
        ("bark", 0, 0.5, 0.3),
        ("bird", 1, 0.8, 0.4),
        ("siren", 2, 0.5, 0.3),
    ]


def test_settings_win_over_the_card_and_a_class_over_all(card: ModelCard) -> None:
    """The class's own setting comes first, then the general one, then the card."""
    options = label_options(card, detection("on=0.9", "classes.siren.on=0.7", "classes.siren.min_segments=3"))
    assert [(one.thresholds.on, one.thresholds.min_segments) for one in options] == [(0.9, 1), (0.9, 1), (0.7, 3)]


def test_a_disabled_class_is_not_followed(card: ModelCard) -> None:
    """A disabled class has no options, and the other classes keep their class_id."""
    options = label_options(card, detection("classes.bark.enabled=false"))
    assert [(one.label, one.class_id) for one in options] == [("bird", 1), ("siren", 2)]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ([f"classes.{'brad' * 25_000}.on=0.5"], r"detection.classes.(brad){25}: model tiny has no such label"),
        (["classes.brad.on=0.5"], r"detection.classes.brad: model tiny has no such label; the nearest is bird|bark"),
        (["off=0.9"], r"detection.off of bark must be at most on \(0.5\), got 0.9"),
        ([f"classes.{label}.enabled=false" for label in ("bark", "bird", "siren")], "at least one label"),
    ],
)
def test_settings_that_contradict_the_model_are_refused(card: ModelCard, overrides: list[str], message: str) -> None:
    """Each contradiction is refused with an error that states what must be."""
    with pytest.raises(SettingsError, match=message):
        label_options(card, detection(*overrides))


def test_a_lower_on_takes_the_off_of_the_card_along(card: ModelCard) -> None:
    """If the settings lower only `on`, the card's `off` is lowered with it."""
    assert [one.thresholds.off for one in label_options(card, detection("on=0.2"))] == [0.2, 0.2, 0.2]


@pytest.mark.parametrize(
    ("options", "head"),
    [
        ({}, "segment"),
        ({"segment_head": "untrained"}, "two_stage"),
        ({"segment_head": "untrained", "supervision": "weakly"}, "segment"),
    ],
)
def test_an_untrained_head_never_decides(card: ModelCard, options: dict[str, str], head: str) -> None:
    """Fully supervised models without a trained head for single segments use both stages."""
    changed = card.model_copy(update={"localizer": card.localizer.model_copy(update={"options": options})})
    assert localizer_head(changed) == head


def several(tiny_bundle: Path, *sources: dict[str, object], **general: object) -> Settings:
    return Settings.model_validate({"sources": sources, "model": {"name": str(tiny_bundle), "engine": "torch"}} | general)


def test_each_source_is_treated_as_its_settings_say(tiny_bundle: Path) -> None:
    """All sources share one engine; each source has its own labels, latency, queue and pace."""
    settings = several(
        tiny_bundle,
        {"id": "gate", "scene": True, "detection": {"latency_segments": 4, "classes": {"siren": {"enabled": False}}}},
        {"id": "yard", "scene": True, "speed": "max", "capture": {"queue_segments": 9}},
        detection={"on": 0.9},
    )
    application = build(settings)
    gate, yard = (lane.setup for lane in application.pipeline.lanes)
    assert list(application.sources) == ["gate", "yard"]
    assert ([one.label for one in gate.labels], gate.latency_segments, gate.queue_segments, gate.paced) == (["bark", "bird"], 4, 4, True)
    assert ([one.label for one in yard.labels], yard.queue_segments, yard.paced) == (["bark", "bird", "siren"], 9, False)
    assert {one.thresholds.on for setup in (gate, yard) for one in setup.labels} == {0.9}


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        ({"scene": True, "detection": {"classes": {"brad": {}}}}, SettingsError, r"^source yard: detection.classes.brad"),
        ({"camera": "0"}, CaptureError, r"^source yard: .*source.camera was given without source.mic"),
        ({"uri": "/no/such.mp4"}, CaptureError, r"^source yard: .*there is no such file"),
    ],
)
def test_what_is_wrong_with_one_of_several_sources_names_it(
    tiny_bundle: Path, wrong: dict[str, object], error: type[Exception], message: str
) -> None:
    """A mistake in one source is an error before anything runs, with the exit status of the same mistake in a single source."""
    with pytest.raises(error, match=message):
        build(several(tiny_bundle, {"id": "gate", "scene": True}, {"id": "yard"} | wrong))


def test_a_label_of_a_preset_keeps_the_number_of_its_class(card: ModelCard) -> None:
    """Events name the class by its number in the model, whatever column holds its scores."""
    (option,) = label_options(card, DetectionSettings(), [Label(entry=card.classes[1], column=7)])
    assert (option.class_id, option.place) == (1, 7)


def test_speech_is_muted_only_where_it_can_be_heard(card: ModelCard, tiny_bundle: Path) -> None:
    """A model that scores no AudioSet classes refuses `mute_speech`, at the start and as a change, and names what to do; blur it takes."""
    table = LabelTable(load_bundle(tiny_bundle))
    settings = Settings.model_validate({"source": {"id": "porch"}, "detection": {"privacy": "mute_speech"}})
    with pytest.raises(SettingsError, match=r"detection\.privacy: to mute speech the model must score .* use the model starter or edge"):
        source_controls(settings, PlanMaker(table, card))
    controls = source_controls(Settings.model_validate({"source": {"id": "porch"}}), PlanMaker(table, card))
    with pytest.raises(SettingsError, match="use the model starter or edge"):
        controls.change("porch", {"privacy": "blur,mute_speech"})
    assert controls.change("porch", {"privacy": "blur"}).privacy == ("blur",)


def test_kept_changes_are_told_at_the_start(card: ModelCard, tiny_bundle: Path, tmp_path: Path) -> None:
    """A run that lasts uses them and says so; any other run, such as localize, has the configuration alone."""
    kept_path(tmp_path).write_text(json.dumps({"porch": {"classes": {"bark": {"enabled": False}}, "on": 0.7}}), encoding="utf-8")
    settings = Settings.model_validate({"source": {"id": "porch"}, "state_dir": tmp_path})
    table = LabelTable(load_bundle(tiny_bundle))
    controls = source_controls(settings, PlanMaker(table, card), keep=True)
    assert [one.label for one in controls.plan("porch").labels] == ["bird", "siren"]
    assert kept_note(controls) == (
        "changes that earlier runs kept hold instead of the configuration: porch detection.classes.bark.enabled = false, "
        "porch detection.on = 0.7 (streamav changes shows them)"
    )
    plain = source_controls(settings, PlanMaker(table, card))
    assert [one.label for one in plain.plan("porch").labels] == ["bark", "bird", "siren"]
    assert kept_note(plain) is None


def test_one_process_takes_at_most_64_sources(tiny_bundle: Path) -> None:
    """More sources than one process carries are refused with the way to spread them; nothing is opened."""
    sources = [{"id": f"s{number}", "scene": True} for number in range(65)]
    settings = Settings.model_validate({"sources": sources, "model": {"name": str(tiny_bundle)}})
    with pytest.raises(SettingsError, match="one process takes at most 64 sources, got 65; spread them over machines with --cluster"):
        build(settings)
