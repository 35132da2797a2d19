"""Promises of the fast training step."""

from __future__ import annotations

import pytest
import torch

from streamav.networks.attention import AudioGuidedAttention
from streamav.training.fit.fast_attention import fast_attention

SEGMENTS, AUDIO, VISUAL, HIDDEN, GRID = 70, 5, 9, 8, 3


def layer() -> AudioGuidedAttention:
    torch.manual_seed(0)
    return AudioGuidedAttention(AUDIO, VISUAL, HIDDEN, GRID)


def inputs() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    audio = torch.randn(SEGMENTS, AUDIO, generator=generator, requires_grad=True)
    return audio, torch.randn(SEGMENTS, GRID, GRID, VISUAL, generator=generator)


def gradients(attention: AudioGuidedAttention, share: float | None) -> dict[str, torch.Tensor]:
    audio, visual = inputs()
    attention.zero_grad()

    def run() -> tuple[torch.Tensor, torch.Tensor]:
        attended, weights = attention(audio, visual)
        towards = torch.linspace(-1, 1, attended.numel()).view_as(attended)
        ((attended * towards).square().sum() + (weights * torch.arange(GRID)).sum()).backward()
        return attended.detach(), weights.detach()

    if share is None:
        attended, weights = run()
    else:
        with fast_attention(attention, share):
            attended, weights = run()
    assert audio.grad is not None
    found = {name: value.grad.clone() for name, value in attention.named_parameters() if value.grad is not None}
    return {**found, "audio": audio.grad, "attended": attended, "weights": weights}


def test_the_fast_step_is_the_same_step() -> None:
    """Outputs and every gradient equal those of the plain layer, over several blocks of which the last is smaller."""
    expected, actual = gradients(layer(), None), gradients(layer(), 1.0)
    assert expected.keys() == actual.keys()
    for name, value in expected.items():
        torch.testing.assert_close(actual[name], value, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_the_estimated_gradient_has_no_bias() -> None:
    """The mean of many estimates converges to the exact gradient, as fast as for independent draws; the output is exact."""
    exact = gradients(layer(), None)
    torch.manual_seed(2)
    draws = [gradients(layer_with(seed), 0.25) for seed in range(400)]
    for name in ("attended", "weights", "audio", "score.weight"):
        torch.testing.assert_close(draws[0][name], exact[name], rtol=1e-4, atol=1e-5)
    for name in ("visual_in.weight", "visual_in.bias", "visual_rows.weight"):
        each = torch.stack([draw[name] for draw in draws])
        one = float((each[0] - exact[name]).norm())
        mean = float((each.mean(dim=0) - exact[name]).norm())
        assert one > 0
        assert mean < 0.15 * one + 1e-6


def layer_with(seed: int) -> AudioGuidedAttention:
    made = layer()
    torch.manual_seed(1000 + seed)
    return made


def test_the_layer_is_put_back_and_keeps_its_names() -> None:
    """After the context the layer has its own forward again; within the context the names in its state are the same."""
    attention = layer()
    names = list(attention.state_dict())
    with fast_attention(attention):
        assert list(attention.state_dict()) == names
        assert "forward" in vars(attention)
    assert "forward" not in vars(attention)


@pytest.mark.parametrize("share", [1.0, 0.25])
def test_without_gradients_the_plain_layer_runs(share: float) -> None:
    """Without gradients, the outputs inside the context equal those of the plain layer bit for bit."""
    attention = layer()
    audio, visual = inputs()
    with torch.inference_mode():
        expected = attention(audio, visual)
        with fast_attention(attention, share):
            actual = attention(audio, visual)
    assert all(torch.equal(one, other) for one, other in zip(expected, actual, strict=True))


def bfloat16_gradients() -> dict[str, torch.Tensor]:
    attention, (audio, visual) = layer(), inputs()
    with fast_attention(attention, dtype=torch.bfloat16):
        attended, weights = attention(audio, visual)
    towards = torch.linspace(-1, 1, attended.numel()).view_as(attended)
    ((attended * towards).square().sum() + (weights * torch.arange(GRID)).sum()).backward()
    assert audio.grad is not None
    found = {name: value.grad for name, value in attention.named_parameters() if value.grad is not None}
    return {**found, "audio": audio.grad, "attended": attended.detach(), "weights": weights.detach()}


def test_bfloat16_stays_near_float32() -> None:
    """Outputs and gradients are float32, and their relative error (norm) is below 2 %: five roundings to 8 bits, 0.4 % each.

    In the gradient of the wide layer itself, large parts cancel: its error was 0.3 to 7 % over twelve draws of this small layer. The
    error of a wrong gradient is several times larger.
    """
    expected, actual = gradients(layer(), None), bfloat16_gradients()
    assert expected.keys() == actual.keys()
    for name, value in expected.items():
        assert actual[name].dtype == torch.float32
        error = float((actual[name] - value).norm() / value.norm())
        assert error < (0.2 if name.startswith("visual_in.") else 0.02), name
    assert not torch.equal(actual["attended"], expected["attended"])


def test_float32_is_exact_to_1e5() -> None:
    """The relative error of every output and gradient of the blocked float32 layer is below 1e-5 (norm)."""
    expected, actual = gradients(layer(), None), gradients(layer(), 1.0)
    for name, value in expected.items():
        assert float((actual[name] - value).norm() / value.norm()) < 1e-5, name


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_weights_that_are_not_numbers_are_not_hidden(dtype: torch.dtype, sign: float) -> None:
    """NaN of either sign in the wide layer gives NaN in the output, so that the training loop stops."""
    attention, (audio, visual) = layer(), inputs()
    with torch.no_grad():
        attention.visual_in.weight.copy_(torch.copysign(torch.full_like(attention.visual_in.weight, torch.nan), torch.tensor(sign)))
    with fast_attention(attention, dtype=dtype):
        attended, _ = attention(audio, visual)
    assert attended.isnan().all()
