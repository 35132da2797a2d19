"""Promises of the training loop."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from streamav.errors import DataError, SettingsError
from streamav.networks.options import VSCGOptions
from streamav.networks.vscg import VSCG
from streamav.training.data.feature_set import Batch, FeatureSet
from streamav.training.fit.checkpoints import load_progress
from streamav.training.fit.run_state import EpochRecord, StepReport
from streamav.training.fit.selection import answers
from streamav.training.fit.trainer import Recipe, TrainResult, fit
from streamav.training.options import TrainOptions

SEGMENTS, GRID, VISUAL, AUDIO, CLASSES = 10, 2, 6, 5, 3
STATE_GROUPS = ("network", "best", "average")
"""Groups of tensors in the state of a run, besides the optimiser's."""


def feature_set(clips: int = 12, seed: int = 0) -> FeatureSet:
    random = np.random.default_rng(seed)
    labels = np.full((clips, SEGMENTS), CLASSES, dtype=np.int64)
    audio = random.normal(size=(clips, SEGMENTS, AUDIO)).astype(np.float32) * 0.1
    visual = random.normal(size=(clips, SEGMENTS, GRID, GRID, VISUAL)).astype(np.float32) * 0.1
    for clip in range(clips):
        label, start = clip % CLASSES, int(random.integers(0, 5))
        labels[clip, start : start + 4] = label
        audio[clip, start : start + 4, label] += 2.0
        visual[clip, ..., label] += 2.0
    tags = np.zeros((clips, CLASSES + 1), dtype=np.float32)
    tags[np.arange(clips), labels.min(axis=1)] = 1.0
    return FeatureSet(audio=audio, visual=visual, labels=labels, tags=tags, rows=np.arange(clips))


def network(seed: int = 0) -> VSCG:
    torch.manual_seed(seed)
    return VSCG(
        VSCGOptions.corrected(
            audio_size=AUDIO, visual_size=VISUAL, grid=GRID, classes=CLASSES, hidden=8, attention_size=8, front_size=8, head_size=8
        )
    )


def recipe(**changes: object) -> Recipe:
    values: dict[str, object] = {"epochs": 4, "batch": 5, "select_every": 2, "learning_rate": 0.01, **changes}
    return Recipe(classes=CLASSES, options=TrainOptions.from_dict(values))


def weights(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(value, second[name]) for name, value in first.items())


class Stop(Exception):  # noqa: N818 - it represents a kill, which is not an error
    pass


class Killer:
    """A watcher that ends the run in the middle of an epoch, as a kill would."""

    def __init__(self, epoch: int, step: int) -> None:
        self.when = (epoch, step)

    def step(self, report: StepReport) -> None:
        if (report.epoch, report.step) == self.when:
            raise Stop

    def epoch(self, record: EpochRecord) -> None:
        pass


@pytest.mark.slow
def test_the_loss_falls() -> None:
    """Ten epochs on separable clips lower the loss to less than 0.7 of its value in the first epoch."""
    result = fit(network(), feature_set(), None, recipe(epochs=10))
    assert result.history[-1].loss < 0.7 * result.history[0].loss


@pytest.mark.slow
@pytest.mark.parametrize("average", [0.0, 0.5])
@pytest.mark.parametrize("shifted", [0.0, 0.5])
def test_a_killed_run_goes_on_to_the_same_end(tmp_path: Path, average: float, shifted: float) -> None:
    """A run that was killed within an epoch and resumed ends with the weights, scores and history of an uninterrupted run."""
    made = recipe(weight_average=average, shifted_share=shifted)
    data, validation = feature_set(), feature_set(6, seed=1)
    whole, resumed = network(), network()
    expected = fit(whole, data, validation, made)
    with pytest.raises(Stop):
        fit(resumed, data, validation, made, folder=tmp_path, watcher=Killer(3, 2))
    fresh = network(seed=99)
    actual = fit(fresh, data, validation, made, folder=tmp_path, resume=True)
    assert same(weights(whole), weights(fresh))
    assert expected == actual


@pytest.mark.slow
def test_the_same_seed_gives_the_same_weights_and_another_does_not() -> None:
    """The same data, settings and seed give the same weights, with and without prefetching; another seed gives others."""
    runs = []
    for changes in ({}, {"prefetch": False}, {"seed": 1}):
        module = network()
        fit(module, feature_set(), None, recipe(**changes))
        runs.append(weights(module))
    assert same(runs[0], runs[1])
    assert not same(runs[0], runs[2])


def test_a_resumed_run_must_have_the_same_settings(tmp_path: Path) -> None:
    """Resuming with another learning rate is refused, and the message names the setting."""
    fit(network(), feature_set(), None, recipe(epochs=1), folder=tmp_path)
    with pytest.raises(SettingsError, match="learning_rate"):
        fit(network(), feature_set(), None, recipe(learning_rate=0.5), folder=tmp_path, resume=True)


def test_a_resumed_run_must_have_the_same_precision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If auto means another precision on resuming, the run is refused, and the message names the precision to set."""
    monkeypatch.setattr("streamav.training.precision._multiplies_bfloat16", lambda: True)
    fit(network(), feature_set(), None, recipe(epochs=1), folder=tmp_path)
    monkeypatch.setattr("streamav.training.precision._multiplies_bfloat16", lambda: False)
    with pytest.raises(SettingsError, match=r"train\.precision = 'bfloat16'"):
        fit(network(), feature_set(), None, recipe(epochs=2), folder=tmp_path, resume=True)
    resumed = fit(
        network(), feature_set(), None, recipe(epochs=2, precision="bfloat16", device_features=False), folder=tmp_path, resume=True
    )
    assert len(resumed.history) == 2


@pytest.mark.slow
def test_the_loss_falls_in_bfloat16_too() -> None:
    """Ten epochs in bfloat16 end with nearly the same loss as in float32, and with different weights."""
    networks = [network(), network()]
    losses = [
        fit(module, feature_set(), None, recipe(epochs=10, precision=name)).history[-1].loss
        for module, name in zip(networks, ("float32", "bfloat16"), strict=True)
    ]
    assert losses[1] == pytest.approx(losses[0], rel=0.1)
    assert not same(weights(networks[0]), weights(networks[1]))


def test_a_damaged_state_is_refused(tmp_path: Path) -> None:
    """A state file that was cut short raises an error; the run does not start again silently."""
    fit(network(), feature_set(), None, recipe(epochs=1), folder=tmp_path)
    state = tmp_path / "training.safetensors"
    state.write_bytes(state.read_bytes()[:100])
    with pytest.raises(DataError, match="delete it"):
        fit(network(), feature_set(), None, recipe(), folder=tmp_path, resume=True)


def test_a_loss_that_is_not_finite_stops_the_run_before_it_spoils_the_weights() -> None:
    """A loss that is not finite ends training with an error that names epoch and step; the weights stay finite."""
    module = network()
    data = feature_set()

    def overflowing(epoch: int) -> list[Batch]:
        batch = data.gather(np.arange(5))
        return [batch, replace(batch, audio=batch.audio * float("inf"))]

    with pytest.raises(DataError, match="epoch 1, step 2"):
        fit(module, overflowing, None, recipe())
    assert all(torch.isfinite(value).all() for value in module.state_dict().values())


@pytest.mark.slow
@pytest.mark.parametrize("average", [0.0, 0.5])
def test_the_best_weights_on_validation_are_kept(average: float) -> None:
    """The network ends with the weights of the epoch with the best score (the last of equal ones), and has this score again."""
    module = network()
    validation = feature_set(6, seed=1)
    result = fit(module, feature_set(), validation, recipe(epochs=12, select_every=1, weight_average=average))
    looked = {record.epoch: record.validation["accuracy"] for record in result.history if record.validation}
    assert result.best_score == max(looked.values())
    assert max(epoch for epoch, value in looked.items() if value == result.best_score) == result.best_epoch
    said = answers(module, validation.batches(5), "two_stage", 0.7)
    assert float((said.truth == said.decided).mean()) == pytest.approx(result.best_score)


@pytest.mark.slow
def test_a_tie_does_not_keep_the_least_trained_weights() -> None:
    """If every validation score is equal, the weights of the last scored epoch are kept."""
    module = network()
    first = weights(module)
    # Steps this small change the weights but no answer.
    result = fit(module, feature_set(), feature_set(6, seed=1), recipe(epochs=7, select_every=3, learning_rate=1e-7))
    assert len({record.validation["accuracy"] for record in result.history if record.validation}) == 1
    assert result.best_epoch == 7
    assert [record.epoch for record in result.history if record.best] == [3, 6, 7]
    assert not same(weights(module), first)


@pytest.mark.slow
def test_the_average_begins_at_the_first_weights_and_moves_with_each_step() -> None:
    """After every step the average is decay * average + (1 - decay) * weights; a run without validation ends with the average."""
    module = network()
    expected = weights(module)

    class Follower(Killer):
        def step(self, report: StepReport) -> None:
            for name, value in module.state_dict().items():
                expected[name] = 0.9 * expected[name] + 0.1 * value

    fit(module, feature_set(), None, recipe(epochs=3, weight_average=0.9), watcher=Follower(0, 0))
    for name, value in weights(module).items():
        torch.testing.assert_close(value, expected[name], rtol=1e-5, atol=1e-7)


@pytest.mark.slow
def test_a_run_that_does_not_get_better_stops() -> None:
    """With patience, a run whose learning rate is too small to change an answer ends early, and its result states this."""
    result = fit(
        network(), feature_set(), feature_set(6, seed=1), recipe(epochs=50, select_every=1, patience_epochs=3, learning_rate=1e-12)
    )
    assert isinstance(result, TrainResult)
    assert result.stopped_early
    assert len(result.history) == 4


def test_the_learning_rate_follows_its_steps() -> None:
    """The learning rate is multiplied after the epochs of `decay_epochs`, not in them."""
    options = TrainOptions(learning_rate=1.0, decay=0.5, decay_epochs=(2, 4))
    assert [options.learning_rate_at(epoch) for epoch in range(1, 6)] == [1.0, 1.0, 0.5, 0.5, 0.25]


def test_an_unknown_setting_names_the_nearest() -> None:
    """An unknown setting is refused, and the message names the nearest known one."""
    with pytest.raises(SettingsError, match="learning_rate"):
        TrainOptions.from_dict({"learn_rate": 0.1})


def test_a_network_is_asked_where_it_is() -> None:
    """Clips are moved to the device of the network; `answers` has no argument for a device."""
    data, asked = feature_set(), network()
    asked.train()
    said = answers(asked, data.batches(5), "argmax29", 0.7)
    assert said.decided.shape == (12, SEGMENTS)
    assert asked.training
    with pytest.raises(TypeError, match="device"):
        answers(asked, data.batches(5), "argmax29", 0.7, device="meta")  # type: ignore[call-arg]


def test_the_state_holds_the_average_under_the_network_s_own_names(tmp_path: Path) -> None:
    """The state file holds the average under the network's own names, so that states of older versions can be resumed."""
    module = network()
    fit(module, feature_set(), feature_set(6, seed=1), recipe(epochs=1, weight_average=0.5), folder=tmp_path)
    progress = load_progress(tmp_path)
    assert progress is not None
    groups = {group: {key.removeprefix(f"{group}.") for key in progress.tensors if key.startswith(f"{group}.")} for group in STATE_GROUPS}
    assert groups == {key: set(module.state_dict()) for key in STATE_GROUPS}
