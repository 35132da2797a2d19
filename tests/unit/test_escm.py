"""Tests of the event semantic consistency module."""

from __future__ import annotations

from typing import get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from streamav.networks.escm import EventSemanticConsistency, WindowSummary, _halves
from streamav.networks.options import Prior


@settings(deadline=None)  # the first call into torch is slow
@given(length=st.integers(1, 16), seed=st.integers(0, 2**16))
def test_halves_are_adaptive_max_pooling_to_two(length: int, seed: int) -> None:
    """The written-out pooling equals torch's operator for every length."""
    steps = torch.randn(2, 3, length, generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(_halves(steps), torch.nn.functional.adaptive_max_pool1d(steps, 2), rtol=0, atol=0)


@pytest.mark.parametrize("prior", get_args(Prior))
@pytest.mark.parametrize("post_gru", ["project_norm", "dropout_norm"])
def test_streams_keep_their_shape_under_every_setting(prior: Prior, post_gru: str) -> None:
    """The module takes two streams and returns two streams of the same shape and their mean, so it fits behind any network."""
    escm = EventSemanticConsistency(4, prior=prior, post_gru=post_gru).eval()  # type: ignore[arg-type]
    heard, seen, fused = escm(torch.rand(1, 10, 8), torch.rand(1, 10, 8))
    assert heard.shape == seen.shape == fused.shape == (1, 10, 8)
    torch.testing.assert_close(fused, (heard + seen) / 2)


def test_floor_pooling_takes_only_eight_to_eleven_segments() -> None:
    """The authors' pooling leaves two steps for T = 8 to 11 and for no other length up to 20 (bug B6)."""
    summary = WindowSummary(8, 4, "floor")
    fits = [length for length in range(4, 21) if summary(torch.rand(1, length, 8)).shape[0] == 2]
    assert fits == [8, 9, 10, 11]


def test_the_mean_prior_does_not_care_which_modality_is_which() -> None:
    """The shared summaries of (a, v) and (v, a) are the same initial state for both GRUs (Eq. 9)."""
    escm = EventSemanticConsistency(4, prior="mean").eval()
    audio, visual = torch.rand(1, 10, 8), torch.rand(1, 10, 8)
    one, other = escm._initial_states(audio, visual)[0], escm._initial_states(visual, audio)[1]
    assert one is not None
    assert other is not None
    torch.testing.assert_close(one, other)


def test_cross_seeding_starts_each_gru_from_the_other_modality() -> None:
    """With cross_linear the audio GRU's initial state depends on the picture only, and the visual GRU's on the sound only."""
    escm = EventSemanticConsistency(4, prior="cross_linear").eval()
    audio, visual = torch.rand(1, 10, 8), torch.rand(1, 10, 8)
    before = escm._initial_states(audio, visual)
    after = escm._initial_states(audio + 1.0, visual)
    assert before[0] is not None
    assert after[0] is not None
    assert before[1] is not None
    assert after[1] is not None
    torch.testing.assert_close(before[0], after[0], rtol=0, atol=0)
    assert not torch.allclose(before[1], after[1])
