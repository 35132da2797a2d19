"""Tests labels by definition: who defines them, which compete, what is published, and what keeps untrained ones quiet."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import cast

import numpy as np
import pytest
from numpy.typing import NDArray
from rigs.evidence_bundle import make_evidence_bundle, segment_of
from typer.testing import CliRunner

from streamav.app import chosen_labels, label_options
from streamav.bundle import Bundle, ClassEntry, DetectionCard, write_bundle
from streamav.bundle.classes import AVE_CLASSES
from streamav.cli.explain import _labels_of
from streamav.cli.labels import app
from streamav.config import DetectionSettings, LabelSettings, OneOfSources, Settings
from streamav.config_loading import load_settings
from streamav.control import kept_path
from streamav.errors import SettingsError
from streamav.labels import LabelTable, defined_labels
from streamav.localizer import VscgLocalizer
from streamav.protocols import Engine
from streamav.training.clips.own_labels import Learned, with_own_labels
from streamav.types import Quality, SegmentFeatures, Window
from streamav.vocabulary import complete_names, find_classes
from streamav.vocabulary.presets import presets

BABY = {"hear": ["infant cry"], "see": ["crib", "Bassinet"]}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make_evidence_bundle(tmp_path_factory.mktemp("models") / "sensing")


def own(**tables: Mapping[str, object]) -> dict[str, LabelSettings]:
    return Settings.model_validate({"labels": tables}).labels


class SilentNetworks:
    """Networks that favour the first class by far, in every segment."""

    name = "fake"

    def network(self, name: str) -> object:
        return {"encode_segment": self._encode, "localize_window": self._localize}[name]

    def _encode(self, audio: NDArray[np.float32], visual: NDArray[np.float32]) -> tuple[NDArray[np.float32], ...]:
        return audio, visual[:, 0, 0], np.ones((len(audio), 2, 2), np.float32)

    def _localize(self, audio: NDArray[np.float32], visual: NDArray[np.float32]) -> tuple[NDArray[np.float32], ...]:
        batch, length, _ = audio.shape
        segments = np.tile(np.array([4.0, 0.0, 0.0, 0.0], np.float32), (batch, length, 1))
        return np.zeros((batch, length), np.float32), segments[:, 0, :3], segments, np.zeros((batch, length), np.float32)


def scored(table: LabelTable, *segments: tuple[dict[str, float], dict[str, float], Quality]) -> NDArray[np.float32]:
    localizer = VscgLocalizer(cast("Engine", SilentNetworks()), evidence=table.evidence())
    window = Window(segments=tuple(segment_of(number, *one) for number, one in enumerate(segments)))
    return localizer.localize([window])[0].class_probabilities


DOG = ({"Bark": 0.95}, {"beagle": 0.7}, Quality())
BANG: tuple[dict[str, float], dict[str, float], Quality] = ({"Knock": 0.95, "Speech": 0.01}, {}, Quality())


# Definitions and presets


def test_every_preset_holds_defined_labels_whose_classes_exist() -> None:
    """Each label of each preset has one definition; its names fit the class lists; a sound sees nothing, all others hear and see."""
    for slugs in presets().values():
        assert set(slugs) <= set(defined_labels())
        assert len(set(slugs)) == len(slugs)
    for slug, one in defined_labels().items():
        assert find_classes("hear", one.hear), slug
        assert bool(find_classes("see", one.see, ("face", "helicopter", "mandolin", "fire"))) == (one.kind == "audio-visual"), slug


def test_presets_hold_what_their_names_say() -> None:
    """ave28 has the classes of AVE in its order, all24 the labels of the package's models, and home is what the documentation lists."""
    assert presets()["ave28"] == tuple(entry.slug for entry in AVE_CLASSES)
    assert len(presets()["all24"]) == 24
    sounds = {slug for slug in presets()["home"] if defined_labels()[slug].kind == "sound"}
    assert sounds == {"alarm", "glass", "door", "knock"}
    assert set(presets()["home"]) - sounds == {
        "bark", "cat", "baby_cry", "speech", "siren", "car_engine", "motorcycle", "gunshot", "chainsaw", "fire",
    }  # fmt: skip


def test_names_are_completed() -> None:
    """A part of a name and any case are enough; the label then holds the whole names, and a group keeps its own."""
    assert complete_names("hear", ["infant cry", "BARK", "bark"]) == ("Baby cry, infant cry", "Bark")
    assert complete_names("see", ["Dog", "face", "chain saw"], ("face",)) == ("dog", "face", "chain saw")


# Configuration


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ({"hear": ["Bark"]}, r"labels.x: .*must have hear and see, got no see; name what is seen, or write kind"),
        ({"hear": ["Bark"], "see": ["dog"], "kind": "sound"}, "labels.x: .*only heard, so it must have no see, got dog"),
        ({"see": ["dog"]}, "labels.x.hear must be given"),
        ({"hear": []}, "labels.x.hear"),
        ({"hear": ["Bark"], "see": ["dog"], "kind": "smell"}, "labels.x.kind"),
        ({"hear": ["Bark"], "sees": ["dog"]}, "unknown setting labels.x.sees; the nearest is labels.x.see"),
    ],
)
def test_a_definition_that_is_not_one_is_refused(table: dict[str, object], says: str) -> None:
    """An audio-visual label needs hear and see, a sound only hear; the error names the setting and what to do."""
    with pytest.raises(SettingsError, match=says):
        load_settings(options={"labels": {"x": table}}, environment={})


@pytest.mark.parametrize("slug", ["Baby cry", "background", "a/b", ""])
def test_a_slug_must_be_a_topic(slug: str) -> None:
    """The name of a table is the label in topics, so it has a to z, digits and underscores, and is not background."""
    with pytest.raises(SettingsError, match="labels"):
        load_settings(options={"labels": {slug: {"hear": ["Bark"], "see": ["dog"]}}}, environment={})


def test_a_class_that_does_not_exist_is_told_with_the_nearest(bundle: Bundle) -> None:
    """The error names the setting, the wrong name, the nearest names and the command that searches."""
    with pytest.raises(SettingsError, match=r"labels.baby_cry.hear: .*'baby cri'; the nearest are 'Baby cry, infant cry'.*labels search"):
        LabelTable(bundle, own(baby_cry={"hear": ["baby cri"], "see": ["crib"]}))


def test_labels_are_written_as_words_or_lists() -> None:
    """A preset, words between commas and a list are read alike in the file, the environment and --set."""
    for value in ("home,violin", ["home", "violin"]):
        assert load_settings(options={"detection": {"labels": value}}, environment={}).detection.labels == ("home", "violin")
    assert load_settings(environment={"STREAMAV_DETECTION_LABELS": "home"}).detection.labels == ("home",)
    assert load_settings(overrides=['labels.x.hear="Baby cry, infant cry"', "labels.x.kind=sound"], environment={}).labels["x"].hear == (
        "Baby cry, infant cry",
    )


# Choice


def test_the_models_labels_come_first_and_further_ones_follow(bundle: Bundle) -> None:
    """Without a choice: the model's labels on their own columns, then those by definition, which are not trained."""
    table = LabelTable(bundle, own(baby_cry=BABY))
    labels = table.choose()
    assert [(one.entry.slug, one.trained) for one in labels] == [("bark", True), ("guitar", True), ("speech", True), ("baby_cry", False)]
    assert labels[-1].entry.hear == ("Baby cry, infant cry",)
    assert scored(table, DOG).shape[1] == max(one.column for one in labels) + 2
    assert [one.column for one in LabelTable(bundle).choose()] == [0, 1, 2]


def test_presets_take_own_labels_along_and_single_labels_do_not(bundle: Bundle) -> None:
    """`labels = "home"` and [labels.mine] find both; a list with single labels is exact."""
    table = LabelTable(bundle, own(baby_cry=BABY, mine={"hear": ["Purr"], "see": ["cat"]}))
    assert {one.entry.slug for one in table.choose(["home"])} == {*presets()["home"], "mine"}
    assert [one.entry.slug for one in table.choose(["bark", "violin"])] == ["bark", "violin"]
    assert table.choose(["home"])[2].entry.see == ("crib", "bassinet")  # the user's baby_cry, not the preset's
    with pytest.raises(SettingsError, match=r"no label or preset 'hom'; the nearest is home; presets are model, home.*\[labels.hom\]"):
        table.choose(["hom"])


def test_a_word_that_people_use_leads_to_its_label(bundle: Bundle) -> None:
    """A label is asked for by a word of its name, or of what it hears and sees."""
    table = LabelTable(bundle, own(my_pet={"hear": ["Purr"], "see": ["cat"]}))
    for word, label in {"dog": "bark (Dog bark)", "Dog": "bark (Dog bark)", "purr": "my_pet (My pet)", "barc": "bark"}.items():
        with pytest.raises(SettingsError, match=rf"no label or preset '{word}'; the nearest is {re.escape(label)};"):
            table.choose([word])


def test_a_label_with_the_slug_of_the_models_replaces_it(bundle: Bundle) -> None:
    """The user's bark is published, on a column of its own and untrained; the thresholds that the card tuned for bark are not used."""
    labels = LabelTable(bundle, own(bark={"hear": ["Bark"], "kind": "sound"})).choose()
    (bark,) = [one for one in labels if one.entry.slug == "bark"]
    assert (bark.trained, bark.modalities) == (False, ("sound",))
    assert bark.column >= len(bundle.card.classes)
    detection = DetectionCard.model_validate({"on": 0.6, "off": 0.3, "classes": {"bark": {"on": 0.9}}})
    tuned = bundle.card.model_copy(update={"detection": detection})
    options = {one.label: one for one in label_options(tuned, DetectionSettings(), labels)}
    assert options["bark"].thresholds.on == 0.6
    assert label_options(tuned, DetectionSettings())[0].thresholds.on == 0.9


def test_a_model_without_evidence_keeps_its_labels_and_says_so(bundle: Bundle) -> None:
    """Presets and definitions change nothing there and are told; its own labels may still be chosen."""
    plain = Bundle(bundle.card.model_copy(update={"evidence": None}), bundle.path)
    table = LabelTable(plain, own(baby_cry=BABY))
    assert [one.entry.slug for one in table.choose(["home"])] == ["bark", "guitar", "speech"]
    (note,) = table.notes
    assert "keeps its 3 labels" in note
    quiet = LabelTable(plain)
    assert [one.column for one in quiet.choose(["speech", "bark"])] == [2, 0]
    assert len(quiet.choose()) == 3
    assert quiet.notes == []


@pytest.mark.parametrize(
    ("source", "preset"),
    [
        ({"camera": "0", "mic": "default"}, True),
        ({"uri": "rtsp://door/stream"}, True),
        ({"uri": "clip.mp4"}, False),
        ({"uri": "https://host/clip.mp4"}, False),
        ({"scene": True}, False),
    ],
)
def test_cameras_have_the_preset_home_and_files_the_labels_of_the_model(bundle: Bundle, source: dict[str, object], preset: bool) -> None:
    """The default is told once, also for several cameras; a setting overrides it, and a model of the user's own clips keeps its labels."""
    table = LabelTable(bundle)
    for name in ("one", "two"):
        labels = chosen_labels(table, OneOfSources.model_validate(source | {"id": name}), bundle.card)
        assert [label.entry.slug for label in labels] == list(presets()["home"] if preset else bundle.card.slugs)
    assert len(table.notes) == preset
    mine = bundle.card.model_copy(update={"profile": "custom"})
    asked = OneOfSources.model_validate(source | {"id": "one", "detection": {"labels": "bark"}})
    assert [label.entry.slug for label in chosen_labels(table, asked, bundle.card)] == ["bark"]
    kept = chosen_labels(LabelTable(bundle), OneOfSources.model_validate(source | {"id": "one"}), mine)
    assert [label.entry.slug for label in kept] == list(bundle.card.slugs)


# Scores


def test_a_label_by_definition_is_found_without_training(bundle: Bundle) -> None:
    """A cry with a crib scores high for the label alone; a cry without a crib, and a dog, do not."""
    table = LabelTable(bundle, own(baby_cry=BABY))
    column = table.choose()[-1].column
    cry, crib = {"Baby cry, infant cry": 0.97}, {"crib": 0.6}
    assert scored(table, (cry, crib, Quality()))[0, column] > 0.8
    assert scored(table, (cry, {}, Quality()))[0, column] < 0.3
    dog = scored(table, DOG)[0]
    assert dog[column] < 0.3
    assert dog[0] > 0.8


def test_a_further_label_takes_nothing_from_one_with_the_same_sound(bundle: Bundle) -> None:
    """A user's `puppy` that listens to barks leaves the score of the model's bark as it was, and both may hold."""
    before = scored(LabelTable(bundle), DOG)[0, 0]
    table = LabelTable(bundle, own(puppy={"hear": ["Bark"], "see": ["dog"]}))
    labels = table.choose()
    found = scored(table, DOG)[0]
    assert found[labels[0].column] == pytest.approx(before, abs=1e-6)
    assert found[labels[-1].column] > 0.8


def test_labels_of_another_source_change_nothing(bundle: Bundle) -> None:
    """Two sources share one localizer; the scores of each are those that it has alone."""
    sitar = own(sitar={"hear": ["Sitar"], "see": ["acoustic guitar"]})
    playing = ({"Guitar": 0.9, "Sitar": 0.9}, {"acoustic guitar": 0.6}, Quality())
    alone, shared = LabelTable(bundle), LabelTable(bundle, sitar)
    first = alone.choose(["guitar"])[0]
    guitar, (rivalled, _) = shared.choose(["guitar"])[0], shared.choose(["guitar", "sitar"])
    found = scored(shared, playing)[0]
    assert found[guitar.column] == pytest.approx(scored(alone, playing)[0, first.column], abs=1e-5)
    assert found[rivalled.column] < found[guitar.column] - 0.1  # at the source that has both, neighbours compete


def test_a_sound_has_a_probability_of_its_own(bundle: Bundle) -> None:
    """Speech that is heard and seen and speech that is heard both hold; the share of audio-visual labels stays at most 1."""
    table = LabelTable(bundle, own(voice={"hear": ["Speech"], "kind": "sound"}))
    labels = table.choose()
    plain = scored(LabelTable(bundle), ({"Speech": 0.99}, {"microphone": 0.9}, Quality()))[0]
    found = scored(table, ({"Speech": 0.99}, {"microphone": 0.9}, Quality()))[0]
    assert found[labels[-1].column] > 0.8
    assert found[2] > 0.5
    np.testing.assert_allclose(found[[0, 1, 2, -1]], plain, atol=1e-6)
    assert plain.sum() == pytest.approx(1.0, abs=1e-5)


def test_a_sound_needs_no_picture_and_an_audio_visual_label_does(bundle: Bundle) -> None:
    """Where the picture is missing only the sound is found; where the sound is missing neither is."""
    table = LabelTable(bundle, own(dog={"hear": ["Bark"], "kind": "sound"}))
    column = table.choose()[-1].column
    unseen, unheard = Quality(picture_missing=True), Quality(missing_samples=16_000)
    found = scored(table, DOG, (*DOG[:2], unseen), (*DOG[:2], unheard))
    assert found[0, 0] > 0.8
    assert found[1:, 0].tolist() == [0.0, 0.0]
    assert found[1:, -1].tolist() == [1.0, 1.0]
    assert found[1, column] == pytest.approx(found[0, column], abs=0.05)
    assert found[2, column] == 0.0


def test_the_network_speaks_for_its_own_labels_only(tmp_path: Path) -> None:
    """A network that favours bark lifts the model's bark, and not the user's definition of it."""
    lifted = {}
    for network in (0.0, 1.0):
        table = LabelTable(make_evidence_bundle(tmp_path / str(network), network=network), own(bark={"hear": ["Bark"], "see": ["dog"]}))
        (users,) = (one.column for one in table.choose() if one.entry.slug == "bark")
        lifted[network] = scored(table, BANG)[0, [0, users]]
    models, users_own = lifted[1.0] / lifted[0.0]
    assert models > 5.0
    assert users_own == pytest.approx(1.0, abs=0.05)


# Thresholds of labels that were never trained


def test_an_untrained_label_is_lowered_until_the_reference_is_quiet(tmp_path: Path) -> None:
    """A sound that a tenth of the reference segments hold by mistake is lowered, at most by 2; a quiet one keeps its offset of 0."""
    loud = make_evidence_bundle(tmp_path / "loud", loud=("Hum",))
    labels = LabelTable(loud, own(hum={"hear": ["Hum"], "kind": "sound"}, knock={"hear": ["Knock"], "kind": "sound"})).choose()
    hum, knock = labels[-2:]
    assert -2.0 <= hum.entry.offset < -1.0
    assert knock.entry.offset == 0.0


def test_the_events_of_trained_labels_are_no_negatives(tmp_path: Path) -> None:
    """Reference segments where the model's own label is heard may hold the event, so a label with that sound is not lowered for them."""
    loud = make_evidence_bundle(tmp_path / "loud", loud=("Bark",))
    assert LabelTable(loud, own(dog={"hear": ["Bark"], "kind": "sound"})).choose()[-1].entry.offset == 0.0


# Commands


def command(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(one) for one in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_labels_list_tells_what_is_trained(bundle: Bundle, tmp_path: Path) -> None:
    """`streamav labels list --json` has the model's labels, those of presets and those of the file, with kind and trained."""
    (tmp_path / "my.toml").write_text('[labels.mine]\nhear = "Purr"\nsee = "cat"\n')
    tree = json.loads(command("list", "--model", bundle.path, "--config", tmp_path / "my.toml", "--json"))
    rows = {row["label"]: row for row in tree["labels"]}
    assert (rows["bark"]["trained"], rows["knock"]["trained"], rows["mine"]["trained"]) == (True, False, False)
    assert rows["knock"]["kind"] == "sound"
    assert rows["bark"]["presets"] == ["home", "ave28", "all24"]
    assert "bark\tDog bark\taudio-visual\tyes\t" in command("list", "--model", bundle.path)


def test_labels_search_finds_both_lists_groups_and_labels() -> None:
    """`streamav labels search` has names that contain the word, and says where a name is only spelt alike."""
    tree = json.loads(command("search", "dog", "--json"))
    assert "Dog" in tree["hear"]
    assert "dog" in tree["groups"]
    assert "bark" in tree["labels"]
    assert "hear\tBaby cry, infant cry\n" in command("search", "infant")
    assert "(spelt alike)" in command("search", "chainsow")


@pytest.mark.parametrize("options", [[], ["--label", "bark", "--hear", "Bark"], ["--see", "dog"], ["--label", "bark", "--see", "dog"]])
def test_labels_test_needs_one_label(options: list[str]) -> None:
    """A label and a definition at once, and neither, are refused before a model is loaded."""
    with pytest.raises(SettingsError, match="name either --label X, or --hear NAME"):
        CliRunner().invoke(app, ["test", "clip.mp4", *options], catch_exceptions=False)


def test_explain_knows_the_labels_of_stored_scores(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> None:
    """Scores of labels that the model was not trained for, as those of the preset home, are explained with the thresholds of their source.

    A change that a run kept counts, whether a file names the source or not.
    """
    model = tmp_path_factory.mktemp("models") / "sensing"
    bundle = make_evidence_bundle(model)
    kept_path(tmp_path).write_text('{"porch": {"classes": {"bark": {"on": 0.9}}}}', encoding="utf-8")
    rules = {"classes": {"violin": {"on": 0.8}, "speech": {"enabled": False}}}
    settings = Settings.model_validate({"model": {"name": str(model)}, "state_dir": tmp_path, "detection": rules})
    labels = _labels_of(settings, bundle, "porch", ("bark", "violin"))
    assert [(one.label, one.thresholds.on) for one in labels] == [("bark", 0.9), ("violin", 0.8)]


def test_labels_of_own_clips_are_labels_of_the_model_and_change_no_other(tmp_path: Path) -> None:
    """They are chosen with the model's labels and by name; all other labels have the scores of before, whatever is chosen."""
    base = make_evidence_bundle(tmp_path / "base", network=0.4)
    kettle = ClassEntry(slug="kettle", name="Kettle", hear=("Boiling",), see=("teapot",))
    dog = ClassEntry(slug="bark", name="My dog", hear=("Bark",), see=("dog",), offset=0.5)
    learned = Learned((kettle, dog), np.zeros((2, 1522), np.float32), ((), ()))
    card, arrays = with_own_labels(base.card, base.weights("evidence"), learned)
    tensors = {f"{part}.weight": np.zeros(1, np.float32) for part in ("audio", "visual", "localizer")}
    own = write_bundle(tmp_path / "own", card, tensors | {f"evidence.{name}": value for name, value in arrays.items()})
    window = [segment_of(index, {"Bark": 0.9, "Boiling": 0.9}, {"beagle": 0.5, "teapot": 0.3}) for index in range(3)]
    network = np.random.default_rng(0).dirichlet(np.ones(4), (1, 3)).astype(np.float32)
    for wanted in (None, ["model", "chainsaw"], ["home"], ["speech", "guitar", "siren"]):
        scores = [scores_of(bundle, window, network, wanted) for bundle in (base, own)]
        assert scores[1].keys() - scores[0].keys() == ({"kettle"} if wanted is None or "model" in wanted else set())
        for slug in scores[0].keys() - {"bark"}:
            np.testing.assert_array_equal(scores[0][slug], scores[1][slug], slug)
    assert [label.trained for label in LabelTable(own).choose(["kettle", "bark"])] == [True, True]
    boiling = [segment_of(index, {"Boiling": 0.9}, {"teapot": 0.3}) for index in range(3)]
    assert (scores_of(own, boiling, network)["kettle"] > 0.5).all()


def scores_of(
    bundle: Bundle, window: list[SegmentFeatures], network: NDArray[np.float32], wanted: list[str] | None = None
) -> dict[str, NDArray[np.float32]]:
    table = LabelTable(bundle)
    columns = {label.entry.slug: label.column for label in table.choose(wanted)}
    evidence = table.evidence()
    assert evidence is not None
    found = evidence.together([[evidence.sensed(one) for one in window]], network)[0]
    return {slug: found[:, column] for slug, column in columns.items()}
