from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from streamav.errors import ModelError
from streamav.networks.compact import COMPACT_SIDE, CompactAudio, CompactVisual
from streamav.networks.regions import region_means
from streamav.training.starter.score_distillation import (
    ScorePlan,
    audio_score_loss,
    class_weights,
    picture_score_loss,
    teach_audio_scores,
    teach_visual_scores,
)

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor


def _without(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value for name, value in state.items() if not name.startswith("classifier")}


def test_an_encoder_without_scores_is_the_old_one() -> None:
    """With scores=0 there is no classifier: the same weights, so bundles of before load, and a question for scores is an error."""
    torch.manual_seed(0)
    patch, picture = torch.randn(2, 96, 64), torch.randint(0, 256, (2, COMPACT_SIDE, COMPACT_SIDE, 3), dtype=torch.uint8)
    for plain, scored, given in (
        (CompactAudio().eval(), CompactAudio(scores=521).eval(), patch),
        (CompactVisual().eval(), CompactVisual(scores=1000).eval(), picture),
    ):
        assert not any(name.startswith("classifier") for name in plain.state_dict())
        plain.load_state_dict(_without(scored.state_dict()))
        assert torch.equal(plain(given), scored(given))
        with pytest.raises(ModelError, match="scores=0"):
            plain.scores(plain(given))


def test_scores_have_the_teachers_meaning() -> None:
    """Sound: one score of 0 to 1 for each class. Picture: the mean over nine regions of probabilities that sum to 1."""
    torch.manual_seed(0)
    sound, sight = CompactAudio(scores=521).eval(), CompactVisual(scores=1000).eval()
    heard = sound.scores(sound(torch.randn(3, 96, 64)))
    assert heard.shape == (3, 521)
    assert heard.min() >= 0
    assert heard.max() <= 1
    grid = sight(torch.randint(0, 256, (2, COMPACT_SIDE, COMPACT_SIDE, 3), dtype=torch.uint8))
    seen = sight.scores(grid)
    assert seen.shape == (2, 1000)
    torch.testing.assert_close(seen.sum(1), torch.ones(2))
    assert sight.classifier is not None
    torch.testing.assert_close(seen, torch.softmax(sight.classifier(region_means(grid)), -1).mean(1))


def test_the_losses_are_least_where_student_and_teacher_agree() -> None:
    """Each loss falls when the student's answer moves to the teacher's; classes of labels count more than others."""
    generator = torch.Generator().manual_seed(0)
    wanted = torch.randn(4, 521, generator=generator) * 3 - 6
    weights = class_weights([[3, 5], [7]], 521)
    assert weights.sum() == 521 + 3 * 5
    far, near = (audio_score_loss(wanted + step, wanted, weights) for step in (1.0, 0.0))
    assert near < far
    related, other = wanted.clone(), wanted.clone()
    related[:, 3] += 4
    other[:, 4] += 4
    wanted[:, 3] = wanted[:, 4] = -4.0
    related[:, 4], other[:, 3] = -4.0, -4.0
    related[:, 3] = other[:, 4] = 0.0
    assert audio_score_loss(related, wanted, weights) > audio_score_loss(other, wanted, weights)
    logits = torch.randn(2, 9, 1000, generator=generator)
    truth = torch.softmax(logits, -1)
    members = torch.zeros(1, 1000)
    members[0, :3] = 1
    assert picture_score_loss(logits, truth, members).item() == pytest.approx(0.0, abs=1e-3)
    assert picture_score_loss(logits + torch.randn(2, 9, 1000, generator=generator), truth, members) > 0.1


def test_a_few_steps_teach_scores_and_keep_complete_files(tmp_path: Path) -> None:
    """The loss falls within a few steps; the files load into encoders with classifiers, and the probes have their names."""
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    kinds = rng.integers(0, 2, 8)
    patches = (rng.normal(size=(8, 96, 64)) + 3 * kinds[:, None, None] - 4).astype(np.float16)
    logits = np.where(np.arange(521) % 2 == kinds[:, None], 2.0, -6.0).astype(np.float16)
    heard = {"patches": patches, "embeddings": rng.normal(size=(8, 8)).astype(np.float16), "logits": logits}
    start = CompactAudio().state_dict()
    noises = torch.full((1, 96, 64), -5.0)
    plans = (ScorePlan(steps=steps, heads_only=steps // 2, batch=4) for steps in (2, 16))
    first, last = (teach_audio_scores(start, heard, noises, tmp_path, plan, [[1]]) for plan in plans)
    assert last < first
    CompactAudio(scores=521).load_state_dict(load_file(tmp_path / "audio.safetensors"))
    pictures = np.clip(100 * kinds[:, None, None, None] + rng.integers(0, 50, (8, 112, 112, 3)), 0, 255).astype(np.uint8)
    probabilities = np.full((8, 9, 10), 0.01, np.float16)
    probabilities[np.arange(8), :, kinds] = 0.91
    probes = np.broadcast_to(np.where(kinds, 3.0, -3.0)[:, None, None, None], (8, 7, 7, 1)).astype(np.float16)
    seen = {
        "pictures": pictures,
        "probabilities": probabilities,
        "probes": probes,
        "cells": rng.normal(size=(8, 7, 7, 4)).astype(np.float16),
    }
    sight = CompactVisual().state_dict()
    plans = (ScorePlan(steps=n, heads_only=n // 2, batch=4) for n in (2, 12))
    first, last = (teach_visual_scores(sight, seen, tmp_path, plan, [[0], [1]], ["face"]) for plan in plans)
    assert last < first
    CompactVisual(scores=10).load_state_dict(load_file(tmp_path / "visual.safetensors"))
    kept = np.load(tmp_path / "probes.npz")
    assert list(kept["names"]) == ["face"]
    assert kept["w"].shape == (1, 256)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["audio.safetensors", "probes.npz", "visual.safetensors"]
