from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from streamav.networks.compact import CompactAudio, CompactVisual
from streamav.training.composite.picture import photometry
from streamav.training.starter.distillation import _named, train_audio, train_visual
from streamav.training.starter.student import BalancedRows, Steps

if TYPE_CHECKING:
    from pathlib import Path


def test_rows_are_drawn_by_class_and_in_order() -> None:
    """A class with few rows is drawn as often as one with many; rows of no class and rows without a label have fixed shares."""
    labels = np.array([0] * 900 + [1] * 50 + [2] * 30 + [-1] * 20)  # 2 is none
    drawn = labels[BalancedRows(labels, 0).draw(20_000)]
    shares = {label: float((drawn == label).mean()) for label in (0, 1, 2, -1)}
    assert shares[0] == pytest.approx(0.365, abs=0.02)
    assert shares[1] == pytest.approx(0.365, abs=0.02)
    assert shares[2] == pytest.approx(0.12, abs=0.02)
    assert shares[-1] == pytest.approx(0.15, abs=0.02)


def test_an_unlabelled_row_is_named_by_the_teacher_alone() -> None:
    """Without a label, the loss is the cross-entropy against the teacher's opinion; with a label, half of the target is the label."""
    logits = torch.tensor([[2.0, 0.0]])
    opinion = torch.tensor([[0.0, 1.0]])
    lines = torch.log_softmax(logits, 1)[0]
    assert _named(logits, np.array([-1]), opinion).item() == pytest.approx(-lines[1].item())
    assert _named(logits, np.array([0]), opinion).item() == pytest.approx(-0.5 * (lines[0] + lines[1]).item())


def test_hard_compression_is_among_the_changes_and_keeps_the_range() -> None:
    """`photometry` keeps shape and range, changes the pictures, and gives equal results for equal generators; no picture is no error."""
    smooth = torch.linspace(0, 255, 64).expand(32, 3, 64, 64).contiguous()
    first, again = (photometry(smooth, torch.Generator().manual_seed(4)) for _ in range(2))
    assert torch.equal(first, again)
    assert first.shape == smooth.shape
    assert first.min() >= 0.0
    assert first.max() <= 255.0
    assert not torch.equal(first, smooth)
    assert photometry(smooth[:0], torch.Generator()).shape == (0, 3, 64, 64)


@pytest.mark.slow
def test_a_compact_encoder_learns_from_its_teacher(tmp_path: Path) -> None:
    """A few steps of each training write complete weights files that load, and leave no temporary files."""
    rng = np.random.default_rng(0)
    labels = np.array([0, 1, 2, -1] * 16)
    pooled = (np.eye(4)[labels] + 0.1 * rng.normal(size=(64, 4))).astype(np.float16)
    pictures = np.clip(60 * labels[:, None, None, None] + rng.integers(0, 50, (64, 112, 112, 3)), 0, 255).astype(np.uint8)
    grid = np.broadcast_to(pooled[:, None, None, :2], (64, 7, 7, 2)).astype(np.float16)
    seen = {"labels": labels, "pooled": pooled, "pictures": pictures, "grid": grid}
    train_visual(seen, seen, tmp_path, (Steps(2, 64), Steps(2)), batch=8)
    patches = rng.normal(size=(64, 96, 64)).astype(np.float16)
    heard = {"labels": labels, "embeddings": pooled, "patches": patches}
    train_audio(heard, heard, tmp_path, (Steps(3),), batch=8)
    CompactVisual().load_state_dict(load_file(tmp_path / "visual.safetensors"))
    CompactAudio().load_state_dict(load_file(tmp_path / "audio.safetensors"))
    assert sorted(file.name for file in tmp_path.iterdir()) == ["audio.safetensors", "visual.safetensors"]
