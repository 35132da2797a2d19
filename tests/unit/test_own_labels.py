"""Tests labels learned from own clips: what is found, what stays as it was, and how it is judged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from rigs.evidence_arrays import arrays
from rigs.own_clips import BASE, SLUGS, clip, reference_of
from safetensors.numpy import save_file

from streamav.bundle import ClassEntry, find_bundle
from streamav.errors import DataError, ModelError
from streamav.evaluation.counting import said_events
from streamav.thresholds import Thresholds
from streamav.training.clips.definitions import named_definition
from streamav.training.clips.own_checks import checked, verdict
from streamav.training.clips.own_labels import final_scores, learn, with_own_labels
from streamav.training.clips.recorded import own_recordings
from streamav.training.clips.table import Clip, ClipEvent, ClipTable

GIVEN = reference_of(arrays())
NOTHING = [clip(number, None) for number in range(100, 104)]
KETTLES = [clip(number, "kettle") for number in range(10)]
BARKS = [clip(number, "bark") for number in range(20, 24)]


@pytest.mark.parametrize("count", [1, 3, 10])
def test_a_class_of_any_name_is_found_in_new_clips(count: int) -> None:
    """One clip is enough to name what is heard and seen in it; new clips have the event, and clips without it have none."""
    learned = learn([*KETTLES[:count], *NOTHING], SLUGS, BASE, GIVEN)
    (entry,) = learned.entries
    assert entry.slug == "kettle"
    assert "Boiling" in entry.hear
    assert "teapot" in entry.see
    card, added = with_own_labels(BASE, GIVEN, learned)
    column = card.slugs.index("kettle")
    heard, *silent = final_scores([clip(50, "kettle"), clip(51, "bark"), clip(52, None)], card, added)
    assert (heard[2:6, column] > 0.35).all()
    assert (heard[:1, column] < 0.35).all()
    assert max(one[:, column].max() for one in silent) < 0.35


def test_the_other_labels_keep_their_scores_to_the_last_bit() -> None:
    """Neither a new label nor one that replaces a label of the model changes the score of any other label, nor their thresholds."""
    learned = learn([*KETTLES[:3], *BARKS], SLUGS, BASE, GIVEN)
    card, added = with_own_labels(BASE, GIVEN, learned)
    assert card.slugs == (*BASE.slugs, "kettle")
    clips = [*KETTLES, *BARKS, *NOTHING]
    for before, after in zip(final_scores(clips, BASE, GIVEN), final_scores(clips, card, added), strict=True):
        for slug in ("cow", "guitar"):
            np.testing.assert_array_equal(before[:, BASE.slugs.index(slug)], after[:, card.slugs.index(slug)])
    assert card.detection.thresholds("cow") == BASE.detection.thresholds("cow")


def test_labels_on_top_of_own_labels() -> None:
    """A model with own labels takes further ones and keeps the first; a label that is learned again replaces its own row."""
    card, added = with_own_labels(BASE, GIVEN, learn(KETTLES[:2], SLUGS, BASE, GIVEN))
    for clips in (BARKS, KETTLES[3:6]):
        card, added = with_own_labels(card, added, learn([*clips, *NOTHING], SLUGS, card, added))
    assert card.slugs == (*BASE.slugs, "kettle")
    assert card.evidence is not None
    assert set(card.evidence.own) == {"kettle", "bark"}
    assert [entry.slug for entry in card.evidence.replaced] == ["bark"]
    (scores,) = final_scores([clip(60, "kettle")], card, added)
    assert (scores[2:6, card.slugs.index("kettle")] > 0.35).all()


def test_a_clip_that_holds_a_label_somewhere_teaches_when() -> None:
    """Without times the quiet part of a clip is not taken for the event, and is found to be background in a new clip."""
    learned = learn([clip(number, "kettle", somewhere=True) for number in range(4)], SLUGS, BASE, GIVEN)
    assert "Boiling" in learned.entries[0].hear
    card, added = with_own_labels(BASE, GIVEN, learned)
    (scores,) = final_scores([clip(70, "kettle")], card, added)
    assert said_events(scores[:, [card.slugs.index("kettle"), -1]], Thresholds(on=0.35, off=0.2))[0].start in {1, 2}


def test_the_same_clips_give_the_same_labels() -> None:
    """There is no seed, and the order of the clips changes nothing that a card keeps."""
    one, other = learn([*KETTLES[:3], *NOTHING], SLUGS, BASE, GIVEN), learn([*NOTHING, *KETTLES[2::-1]], SLUGS, BASE, GIVEN)
    assert [entry.model_copy(update={"offset": 0.0}) for entry in one.entries] == [
        entry.model_copy(update={"offset": 0.0}) for entry in other.entries
    ]
    np.testing.assert_allclose(one.weights, other.weights, atol=1e-5)


def test_names_are_known_before_clips_are_looked_at() -> None:
    """A label of the model, one of the package, or a class of the encoders' lists is taken by its name; any other name is empty."""
    assert named_definition("bark", BASE) == BASE.classes[BASE.slugs.index("bark")]
    assert named_definition("chainsaw", BASE).see == ("chain saw",)
    assert named_definition("mechanical_fan", BASE).hear == ("Mechanical fan",)
    assert named_definition("xylophonist", BASE) == ClassEntry(slug="xylophonist", name="Xylophonist")


def test_clips_of_one_recording_do_not_judge_each_other() -> None:
    """A label from one recording is not measured, whatever the number of clips; the verdict says so and what to add."""
    same = [clip(number, "kettle", group="one day") for number in range(4)]
    check = checked([*same, *NOTHING], SLUGS[:1], BASE, GIVEN)
    assert not check.labels[0].measured
    assert "not measured" in verdict(check)[0]
    assert "add recordings of other days" in verdict(check)[1]


def test_the_verdict_compares_with_always_background() -> None:
    """Labels that are found in clips of other recordings are better than background, with the figures; all are named."""
    check = checked([*KETTLES, *BARKS, *NOTHING], SLUGS, BASE, GIVEN)
    assert check.right > 0.95
    assert check.background < 0.75
    assert verdict(check)[0].startswith("verdict: better than background")
    assert [(one.named, one.events, one.false) for one in check.labels] == [(10, 10, 0), (4, 4, 0)]
    assert {slug: one.on for slug, one in check.detection.items()} == {"kettle": 0.35, "bark": 0.35}


def test_labels_that_are_not_told_apart_are_called_so() -> None:
    """Labels given at random are not better than background, and the verdict says not to use them."""
    rng = np.random.default_rng(0)
    wrong = [clip(number, "kettle") for number in range(8)]
    for one in wrong:
        one.truth[:, 0] = rng.permutation(one.truth[:, 0])
    noise = [clip(number, "kettle") for number in range(30, 38)]
    for one in noise:
        one.truth[:] = False
    assert verdict(checked([*wrong, *noise], SLUGS[:1], BASE, GIVEN))[0].startswith("verdict: do not use")


def test_an_event_after_the_end_of_its_clip_is_refused(tmp_path: Path) -> None:
    """The end is known after decoding; an event beyond it would teach nothing, so the row of the table is named."""
    starter = find_bundle("starter")
    arrays = {
        "audio": np.zeros((3, starter.card.audio.size), np.float16),
        "visual": np.zeros((3, starter.card.visual.grid, starter.card.visual.grid, starter.card.visual.size), np.float16),
        "heard": np.full((3, 521), 0.01, np.float16),
        "seen": np.full((3, 1000), 0.001, np.float16),
        "motion": np.zeros(3, np.float16),
    }
    save_file(arrays, tmp_path / "clip.safetensors")

    def table(offset_s: float) -> ClipTable:
        clip = Clip("a.mp4", 2, [ClipEvent("kettle", 1.0, offset_s, 2)], group="a.mp4")
        return ClipTable(tmp_path / "labels.csv", tmp_path, (clip,), ("kettle",))

    (found,) = own_recordings(table(2.5), {0: tmp_path / "clip.safetensors"}, starter)
    assert found.truth[:, 0].tolist() == [False, True, True]
    assert found.network.shape == (3, 25)
    with pytest.raises(DataError, match=r"row 2: the event must end within a\.mp4"):
        own_recordings(table(9.0), {0: tmp_path / "clip.safetensors"}, starter)


def test_a_model_without_evidence_is_refused() -> None:
    """The error says which models have evidence."""
    with pytest.raises(ModelError, match="starter or edge"):
        learn(KETTLES[:1], SLUGS, BASE.model_copy(update={"evidence": None}), GIVEN)
