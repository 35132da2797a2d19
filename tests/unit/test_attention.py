"""Tests of audio-guided visual attention."""

from __future__ import annotations

import torch

from streamav.networks.attention import AudioGuidedAttention


def test_attention_is_a_distribution_over_the_grid_and_pools_the_raw_cells() -> None:
    """Weights are not negative and sum to 1, and the picture vector is the weighted mean of the cells themselves."""
    torch.manual_seed(0)
    attention = AudioGuidedAttention(6, 10, 16, 3).eval()
    audio, visual = torch.rand(4, 6), torch.rand(4, 3, 3, 10)
    attended, weights = attention(audio, visual)
    assert weights.shape == (4, 3, 3)
    assert bool((weights >= 0).all())
    torch.testing.assert_close(weights.sum(dim=(1, 2)), torch.ones(4))
    torch.testing.assert_close(attended, (weights.unsqueeze(-1) * visual).sum(dim=(1, 2)))


def test_attention_depends_on_the_sound() -> None:
    """Another sound with the same picture gives another attention."""
    torch.manual_seed(0)
    attention = AudioGuidedAttention(6, 10, 16, 3).eval()
    visual = torch.rand(1, 3, 3, 10).expand(2, -1, -1, -1)
    weights = attention(torch.tensor([[1.0] * 6, [-1.0] * 6]), visual)[1]
    assert not torch.allclose(weights[0], weights[1])


def test_the_order_of_attention_cells_is_rows_then_columns() -> None:
    """A change of one cell of the picture changes only that cell's logit; the ratios among the other cells stay."""
    torch.manual_seed(0)
    attention = AudioGuidedAttention(6, 10, 16, 3).eval()
    audio, visual = torch.rand(1, 6), torch.rand(1, 3, 3, 10)
    before = attention(audio, visual)[1]
    visual[0, 0, 2] += 1.0
    ratio = (attention(audio, visual)[1] / before).flatten()
    others = torch.cat([ratio[:2], ratio[3:]])
    torch.testing.assert_close(others, others[:1].expand(8))
    assert not torch.isclose(ratio[2], others[0])
