"""Tests the evidence of labels from the encoders' own classes, and its part in the localizer's scores."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from rigs.evidence_arrays import HEARD, SEEN, arrays

from streamav.bundle import ClassEntry, EvidenceCard
from streamav.errors import ModelError, SettingsError
from streamav.evidence import LabelEvidence, Sensed, competitors, defined, neighbourhood, network_logits
from streamav.types import SegmentFeatures
from streamav.vocabulary import find_classes, nearest_names

if TYPE_CHECKING:
    from numpy.typing import NDArray

PROBES = ("face", "helicopter")
CARD = EvidenceCard(bias=-2.0, heard=0.5, heard_peak=0.25, seen=1.0, sound_bias=0.3, network=0.4, probes=PROBES)
DOG = ClassEntry(slug="bark", name="Dog bark", hear=("Bark",), see=("dog",))
SPEECH = ClassEntry(slug="speech", name="Speech", hear=("Speech",), see=("face", "suit"))
ALARM = ClassEntry(slug="alarm", name="Alarm", hear=("Smoke detector, smoke alarm",), kind="sound")


def features(heard: dict[str, float], seen: dict[str, float], grid: float = -3.0) -> SegmentFeatures:
    """Return a segment in which the named classes have the given scores, and every cell has the given features."""
    sounds, sights = np.full(HEARD, 1e-3, np.float32), np.full(SEEN, 1e-5, np.float32)
    for name, score in heard.items():
        sounds[list(find_classes("hear", [name]))] = score
    for name, score in seen.items():
        sights[list(find_classes("see", [name]))] = score
    visual = np.full((3, 3, 4), grid, np.float32)
    return SegmentFeatures(index=0, start_ns=0, audio=np.zeros(1, np.float32), visual=visual, level_dbfs=-20.0, heard=sounds, seen=sights)


def logits(evidence: LabelEvidence, segment: SegmentFeatures) -> NDArray[np.float32]:
    middle: NDArray[np.float32] = evidence.logits([evidence.sensed(segment)] * 3)[1]
    return middle


def test_a_label_needs_to_be_heard_and_seen() -> None:
    """The logit of a label rises with what is heard and with what is seen; neither alone makes it as likely as both."""
    evidence = LabelEvidence(CARD, (DOG,), arrays())
    none, heard, seen, both = (
        float(logits(evidence, features(*given))[0])
        for given in (({}, {}), ({"Bark": 0.9}, {}), ({}, {"beagle": 0.8}), ({"Bark": 0.9}, {"beagle": 0.8}))
    )
    assert none < heard < both
    assert none < seen < both
    assert both > 0.0 > heard


def test_a_sound_label_does_not_ask_for_a_picture() -> None:
    """A label of kind sound has the same logit whatever is seen."""
    evidence = LabelEvidence(CARD, (ALARM,), arrays())
    one = logits(evidence, features({"Smoke detector, smoke alarm": 0.8}, {}))
    other = logits(evidence, features({"Smoke detector, smoke alarm": 0.8}, {"beagle": 0.9}))
    np.testing.assert_array_equal(one, other)
    assert one[0] > 0.0


def test_motion_speaks_for_labels_that_are_seen() -> None:
    """With a weight for it, motion above the usual raises a label that is heard and seen, and leaves one that is only heard."""
    evidence = LabelEvidence(CARD.model_copy(update={"motion": 0.5}), (DOG, ALARM), arrays())
    still, moving = (replace(features({"Bark": 0.9}, {}), motion=motion) for motion in (-1.3, 0.7))
    before, after = logits(evidence, still), logits(evidence, moving)
    assert after[0] - before[0] == pytest.approx(1.0, abs=1e-5)
    assert after[1] == before[1]


def test_what_is_heard_and_seen_at_once_counts_more_than_either() -> None:
    """With a weight for it, a dog that is heard and seen gains. A dog that is only heard or only seen hardly does, nor does an alarm."""
    plain, together = (LabelEvidence(CARD.model_copy(update={"heard_and_seen": weight}), (DOG, ALARM), arrays()) for weight in (0.0, 0.5))

    def gained(heard: dict[str, float], seen: dict[str, float]) -> list[float]:
        segment = features(heard, seen)
        return [float(number) for number in logits(together, segment) - logits(plain, segment)]

    assert gained({"Bark": 0.9}, {"beagle": 0.9})[0] > 1.0
    assert gained({"Bark": 0.9}, {}) == [0.0, 0.0]
    assert gained({}, {"beagle": 0.9})[0] < 0.5
    assert gained({"Smoke detector, smoke alarm": 0.9}, {"beagle": 0.9})[1] == 0.0


def test_a_sound_label_has_a_scale_of_its_own() -> None:
    """What is heard counts twice for a label that is only heard with a scale of two, and as before for one that is also seen."""
    plain, scaled = (LabelEvidence(CARD.model_copy(update={"sound_scale": scale}), (DOG, ALARM), arrays()) for scale in (1.0, 2.0))
    segment = features({"Bark": 0.9, "Smoke detector, smoke alarm": 0.9}, {})
    before, after = logits(plain, segment), logits(scaled, segment)
    assert after[0] == before[0]
    assert after[1] - CARD.sound_bias == pytest.approx(2.0 * (before[1] - CARD.sound_bias))


def test_a_face_speaks_for_speech() -> None:
    """The bundle's own picture classes count beside ImageNet's: a face in one cell raises speech and leaves a bark as it is."""
    evidence = LabelEvidence(CARD, (SPEECH, DOG), arrays())
    empty, face = features({"Speech": 0.9}, {}), features({"Speech": 0.9}, {})
    face.visual[1, 2, 0] = 6.0
    before, after = logits(evidence, empty), logits(evidence, face)
    assert after[0] > before[0] + 1.0
    assert after[1] == before[1]


def test_what_is_seen_is_measured_against_usual_pictures() -> None:
    """The same probability counts less for a class that the reference pictures show all the time."""
    usual = arrays()
    often = dict(usual)
    often["reference.seen"] = usual["reference.seen"].copy()
    often["reference.seen"][:, list(find_classes("see", ["dog"]))] += 0.01
    segment = features({"Bark": 0.9}, {"beagle": 0.2})
    assert logits(LabelEvidence(CARD, (DOG,), often), segment)[0] < logits(LabelEvidence(CARD, (DOG,), usual), segment)[0]


def test_a_drawing_is_known_by_its_picture() -> None:
    """The probability of a drawing follows the mean of the grid; it is 0 to 1 for any features."""
    given = arrays()
    given["drawn.weight"], given["drawn.bias"] = np.ones((1, 4), np.float32), np.zeros(1, np.float32)
    evidence = LabelEvidence(CARD, (DOG,), given)
    low, high = (evidence.sensed(features({}, {}, grid)).drawn for grid in (-1e4, 1e4))
    assert low < 1e-6
    assert high > 1.0 - 1e-6


def test_competitors_stand_after_the_labels_and_give_way_to_them() -> None:
    """The labels are the first columns; a competitor with the slug of a label is left out."""
    rivals = competitors()
    own = next(one for one in rivals if one.slug == "chainsaw")
    evidence = LabelEvidence(CARD, (DOG, own), arrays(), rivals)
    assert evidence.count == 2
    assert logits(evidence, features({}, {})).shape == (2 + len(rivals) - 1,)


def test_every_definition_of_the_package_names_classes_that_exist() -> None:
    """Labels and competitors of the package resolve, with the picture classes that the models add."""
    further = ("face", "helicopter", "mandolin", "fire")
    for entry in (*defined("labels"), *competitors()):
        assert find_classes("hear", entry.hear), entry.slug
        assert find_classes("see", entry.see, further), entry.slug


def test_encoders_without_class_scores_are_refused() -> None:
    """Features without class scores raise an error that says what is missing."""
    plain = SegmentFeatures(
        index=0, start_ns=0, audio=np.zeros(1, np.float32), visual=np.zeros((3, 3, 4), np.float32), level_dbfs=None, heard=None, seen=None
    )
    with pytest.raises(ModelError, match="must score their own classes"):
        LabelEvidence(CARD, (DOG,), arrays()).sensed(plain)


@pytest.mark.parametrize("name", sorted(arrays()))
def test_a_bundle_without_an_array_is_refused(name: str) -> None:
    """A missing or misshapen array of the evidence is a model error that names it."""
    for wrong in ({key: value for key, value in arrays().items() if key != name}, arrays() | {name: np.zeros((2, 7), np.float32)}):
        if name in {"probes.weight", "drawn.weight"} and name in wrong:
            continue  # the size of the features is not known here
        with pytest.raises(ModelError, match=name.replace(".", r"\.")):
            LabelEvidence(CARD, (DOG,), wrong)


def test_names_are_completed_and_the_nearest_are_suggested() -> None:
    """A part of a name and any case are enough; a wrong name is answered with the nearest."""
    assert find_classes("hear", ["infant cry"]) == find_classes("hear", ["Baby cry, infant cry"])
    assert find_classes("see", ["BEAGLE"]) == find_classes("see", ["beagle"])
    assert len(find_classes("see", ["dog"])) == 118
    with pytest.raises(SettingsError, match="beagle"):
        find_classes("see", ["beagel"])
    assert nearest_names("hear", "crying")


def test_names_that_differ_in_case_only_are_told_apart() -> None:
    """Cardigan is a dog, cardigan is worn."""
    assert find_classes("see", ["Cardigan"]) != find_classes("see", ["cardigan"])


def test_neighbours_of_a_window() -> None:
    """The peak is over the segment and both neighbours, the mean too; a segment at an end has one neighbour."""
    rows = [Sensed(np.array([value], np.float32), np.array([value], np.float32)) for value in (0.0, 3.0, 6.0)]
    heard, peak, mean = neighbourhood(rows)
    assert heard[:, 0].tolist() == [0.0, 3.0, 6.0]
    assert peak[:, 0].tolist() == [3.0, 6.0, 6.0]
    assert mean[:, 0].tolist() == [1.5, 3.0, 4.5]


def test_the_answer_of_the_network_is_bounded() -> None:
    """A probability of 0 or 1 gives a logit within plus and minus 8."""
    said = network_logits(np.array([[0.0, 1.0], [1.0, 0.0], [0.5, 0.5]], np.float32))
    assert said[:, 0].tolist() == [-8.0, 8.0, 0.0]
