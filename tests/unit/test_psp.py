"""Tests of positive sample propagation."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from streamav.networks.psp import PositiveSamplePropagation, pruned_shares


def _psp(threshold: float | None = None, *, renorm: bool = True) -> PositiveSamplePropagation:
    torch.manual_seed(0)
    return PositiveSamplePropagation(8, threshold=threshold, renorm=renorm, dropout=0.2, project_dropout=0.2).eval()


@settings(deadline=None)  # the first call into torch is slow
@given(seed=st.integers(0, 2**16), length=st.integers(1, 16), renorm=st.booleans())
def test_shares_are_pruned_and_rows_sum_to_at_most_one(seed: int, length: int, renorm: bool) -> None:
    """Remaining shares exceed the threshold; rows sum to 1 with renorm and to at most 1 without."""
    similarity = torch.rand(2, length, length, generator=torch.Generator().manual_seed(seed))
    shares = pruned_shares(similarity, 0.99 / length, renorm=renorm)
    sums = shares.sum(dim=-1)
    assert bool((shares[shares > 0] > 0.99 / length - 1e-6).all())
    if renorm:
        torch.testing.assert_close(sums, torch.ones_like(sums), atol=1e-4, rtol=0)
    assert bool((sums <= 1 + 1e-5).all())


def test_a_pair_at_the_threshold_is_pruned() -> None:
    """A share equal to the threshold is pruned."""
    shares = pruned_shares(torch.tensor([[[0.5, 0.25, 0.25]]]), 0.25, renorm=False)
    torch.testing.assert_close(shares, torch.tensor([[[0.5, 0.0, 0.0]]]))


def test_rows_without_any_agreement_stay_zero() -> None:
    """Rows without any similarity have shares of 0 and no NaN."""
    assert pruned_shares(torch.zeros(1, 3, 3), 0.33, renorm=True).abs().sum() == 0


def test_the_default_threshold_at_ten_segments_is_the_reference_one() -> None:
    """At T = 10 the default threshold 0.99 / T equals 0.099 and prunes the same pairs."""
    audio, visual = torch.rand(2, 10, 8), torch.rand(2, 10, 8)
    for ours, theirs in zip(_psp(None)(audio, visual), _psp(0.099)(audio, visual), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


def test_without_agreement_both_streams_pass_unchanged() -> None:
    """Propagation adds nothing when the branches have no similarity."""
    psp = _psp()
    torch.nn.init.zeros_(psp.audio_first.weight)
    audio, visual = torch.rand(2, 5, 8), torch.rand(2, 5, 8)
    heard, seen = psp.propagate(audio, visual)
    torch.testing.assert_close(heard, audio)
    torch.testing.assert_close(seen, visual)


@pytest.mark.parametrize("length", [1, 2, 10, 30])
def test_any_window_length_gives_finite_streams(length: int) -> None:
    """The threshold scales with T, so windows of every length are treated alike."""
    for stream in _psp()(torch.rand(1, length, 8), torch.rand(1, length, 8)):
        assert stream.shape == (1, length, 8)
        assert bool(stream.isfinite().all())
