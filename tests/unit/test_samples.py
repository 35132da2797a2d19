"""Tests of the drawn samples on which engines are compared: they hold events, so that a wrong decision is found."""

from __future__ import annotations

import numpy as np
import pytest

from streamav.bundle import find_bundle
from streamav.engines.modules import build_modules
from streamav.engines.parity import Answers, answer, compare
from streamav.engines.recipe import load_recipe
from streamav.engines.samples import make_samples
from streamav.engines.torch_engine import TorchEngine
from streamav.protocols import Network

RECIPE = load_recipe("torch-fp32")


@pytest.fixture(scope="module")
def starter() -> TorchEngine:
    return TorchEngine(build_modules(find_bundle("starter")), RECIPE.batch)


@pytest.fixture(scope="module")
def reference(starter: TorchEngine) -> Answers:
    card = find_bundle("starter").card
    return answer(starter, make_samples(card.visual.picture, card.audio.log_mel_offset))


class Deaf:
    """The starter engine, changed so that it finds nothing relevant."""

    name = "deaf"

    def __init__(self, engine: TorchEngine) -> None:
        self._engine = engine

    def network(self, name: str) -> Network:
        whole = self._engine.network(name)
        return whole if name != "localize_window" else lambda *inputs: (whole(*inputs)[0] - 20, *whole(*inputs)[1:])


def test_the_starter_hears_and_sees_a_siren_in_them(reference: Answers) -> None:
    """Between 20 % and 80 % of the segments are relevant, all these are sirens, and no decision is close."""
    classes = [entry.slug for entry in find_bundle("starter").card.classes]
    relevance, said = reference.relevance, reference.segments.argmax(-1)
    assert 0.2 < (relevance > 0.5).mean() < 0.8
    assert np.abs(relevance - 0.5).min() > 0.05  # a tie of the comparison is 0.002
    assert np.diff(np.sort(reference.segments)[..., -2:]).min() > 0.2  # between the best class and the second; a tie is 0.002
    assert {[*classes, "background"][place] for place in np.unique(said)} == {"siren", "background"}
    assert ((said != len(classes)) == (relevance > 0.5)).mean() > 0.9  # two heads, trained apart


def test_an_engine_that_finds_no_event_fails_by_its_decisions(starter: TorchEngine, reference: Answers) -> None:
    """An engine that finds nothing relevant fails by its decisions, and the comparison reports the share of relevant segments."""
    wide = RECIPE.tolerance.model_copy(update={"relative": 100.0, "probability": 1.0, "decisions": 0.97})
    own = compare(starter, reference, wide)
    assert (own.decisions, own.passed) == (1.0, True)
    assert own.relevant == pytest.approx((reference.relevance > 0.5).mean())
    deaf = compare(Deaf(starter), reference, wide)
    assert not deaf.passed
    assert deaf.decisions == pytest.approx(1.0 - own.relevant)


@pytest.mark.parametrize("picture", [(8, 6), (14, 14), (120, 224)])
def test_events_are_drawn_at_any_size(picture: tuple[int, int]) -> None:
    """The drawn siren keeps the size and type of pictures and the floor of sounds."""
    samples = make_samples(picture, 0.01, segments=24)
    assert samples.pictures.shape == (24, *picture, 3)
    assert samples.patches.dtype == np.float32
    assert samples.patches.min() >= np.float32(np.log(0.01))
    assert np.isfinite(samples.patches).all()
