from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from streamav.errors import DataError
from streamav.evaluation.stream_events import Hysteresis
from streamav.networks.options import VSCGOptions
from streamav.networks.vscg import VSCG
from streamav.training.composite.features import SceneFeatures, WindowOptions, Windows, stream_windows, window_set
from streamav.training.starter import calibrate, judge, train

if TYPE_CHECKING:
    from pathlib import Path

C, SCENES, SECONDS = 3, 5, 16


@pytest.fixture
def features() -> SceneFeatures:
    """Scenes whose features say class and scene: audio channel 0 the class heard, visual channel 0 the class seen."""
    rng = np.random.default_rng(0)
    heard, seen = (rng.integers(0, C + 1, (SCENES, SECONDS)) for _ in range(2))
    audio = rng.normal(size=(SCENES, SECONDS, 8)).astype(np.float32)
    visual = rng.normal(size=(SCENES, SECONDS, 2, 2, 6)).astype(np.float16)
    audio[:, :, 0], visual[:, :, :, :, 0] = heard, seen[:, :, None, None]
    labels = np.where(heard == seen, heard, C)
    return SceneFeatures(audio=audio, visual=visual, labels=labels, heard=heard, seen=seen)


@pytest.fixture
def network() -> VSCG:
    torch.manual_seed(0)
    options = VSCGOptions.corrected(
        "fully", audio_size=8, visual_size=6, grid=2, classes=C, hidden=4, attention_size=5, front_size=4, head_size=5
    )
    return VSCG(options).eval()


def test_labels_stay_with_what_is_heard_and_seen(features: SceneFeatures) -> None:
    """However windows are cut and pictures swapped between scenes, a second is an event exactly where both classes agree."""
    for batch in Windows(features, C, WindowOptions(batch=32, steps=4, noise=0.0, swap=0.5))(1):
        heard, seen = batch.audio[:, :, 0].long(), batch.visual[:, :, 0, 0, 0].long()
        expected = torch.where(heard == seen, heard, C)
        assert (batch.labels == expected).all()


def test_an_epoch_is_the_same_whenever_it_is_asked_for(features: SceneFeatures) -> None:
    """The number of the epoch and the seed decide its windows; another epoch has others."""
    windows = Windows(features, C, WindowOptions(batch=4, steps=2))
    first, again, other = (next(iter(windows(epoch))) for epoch in (3, 3, 4))
    assert torch.equal(first.audio, again.audio)
    assert torch.equal(first.visual, again.visual)
    assert not torch.equal(first.audio, other.audio)


def test_the_window_set_holds_every_window_at_its_stride(features: SceneFeatures) -> None:
    """Scenes of 16 s have windows at 0 and 5 s; labels are those of the scene."""
    found = window_set(features, C, stride=5)
    assert len(found) == 2 * SCENES
    np.testing.assert_array_equal(found.labels[SCENES], features.labels[0, 5:15])


def test_a_stream_is_scored_as_the_whole_network_would(features: SceneFeatures, network: VSCG) -> None:
    """Seconds encoded once and windows put together of them give what the network says of whole windows."""

    def localize(audio: torch.Tensor, visual: torch.Tensor) -> torch.Tensor:
        logits = network.localize_window(audio, visual).segment_logits
        assert logits is not None
        return logits

    said = stream_windows(features, network.encode_segment, localize)
    assert said.shape == (SCENES * SECONDS - 9, 10, C + 1)
    audio = torch.from_numpy(features.audio).flatten(0, 1)[20:30][None]
    visual = torch.from_numpy(features.visual).flatten(0, 1)[20:30][None].float()
    with torch.inference_mode():
        whole = network(audio, visual).segment_logits
    assert whole is not None
    np.testing.assert_allclose(said[20], torch.softmax(whole[0], dim=-1).numpy(), atol=1e-5)


def test_an_untrained_network_is_judged_and_calibrated(features: SceneFeatures, network: VSCG) -> None:
    """Figures are shares of one, thresholds are usable, and knowing nothing scores no better than the truth allows."""
    chosen = calibrate(network, features)
    assert 0.0 < chosen.off <= chosen.on < 1.0
    figures = judge(network, features, Hysteresis())
    assert 0.0 <= figures["accuracy"] < 1.0
    assert figures["seconds"] == SCENES * SECONDS - 18


def test_training_asks_for_the_teachers_before_any_work(tmp_path: Path) -> None:
    """Without the public weights the command ends at once and names the file and the folder."""
    with pytest.raises(DataError, match=r"yamnet\.safetensors"):
        train(tmp_path / "data", tmp_path / "out", teachers=tmp_path)
    assert list(tmp_path.iterdir()) == []
