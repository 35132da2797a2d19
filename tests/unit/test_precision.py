"""Promises of the precision of a training step."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from streamav.errors import SettingsError
from streamav.networks.heads import LocalizerOutput
from streamav.training import precision as subject
from streamav.training.options import TrainOptions
from streamav.training.precision import MixedStep, resolved

CPU = torch.device("cpu")


class Scores(nn.Module):
    """A network with the outputs of a localizer, computed by one linear layer."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(8, 1)

    def forward(self, audio: torch.Tensor, visual: torch.Tensor) -> LocalizerOutput:
        self.seen = self.layer(audio)
        return LocalizerOutput(relevance_logits=self.seen.squeeze(2))


@pytest.mark.parametrize(("has", "expected"), [(True, "bfloat16"), (False, "float32")])
def test_auto_goes_by_the_processor(monkeypatch: pytest.MonkeyPatch, has: bool, expected: str) -> None:
    """On a CPU, auto is bfloat16 if the processor has an instruction for it, and float32 otherwise."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": has}, raising=False)
    assert resolved("auto", CPU) == expected


def test_a_torch_that_cannot_tell_gets_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """If torch cannot find out the processor's features, auto is float32."""
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert resolved("auto", CPU) == "float32"


@pytest.mark.parametrize(("has", "expected"), [(True, "bfloat16"), (False, "float16")])
def test_auto_on_a_gpu_is_mixed(monkeypatch: pytest.MonkeyPatch, has: bool, expected: str) -> None:
    """On a GPU, auto is bfloat16 if the GPU supports it, and float16 otherwise."""
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: has)
    assert resolved("auto", torch.device("cuda")) == expected


def test_what_is_named_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """A named precision is used, whatever the processor supports."""
    monkeypatch.setattr(subject, "_multiplies_bfloat16", lambda: False)
    assert resolved("bfloat16", CPU) == "bfloat16"
    assert resolved("float32", CPU) == "float32"
    assert resolved("float16", torch.device("cuda")) == "float16"


def test_float16_on_a_cpu_is_refused() -> None:
    """float16 on a CPU is refused, and the message names the precisions to use instead."""
    with pytest.raises(SettingsError, match="bfloat16 on a CPU"):
        resolved("float16", CPU)


def test_an_unknown_precision_is_refused() -> None:
    """An unknown precision is refused, and the message lists the known ones."""
    with pytest.raises(SettingsError, match="auto, float32, bfloat16, float16"):
        TrainOptions.from_dict({"precision": "double"})


@pytest.mark.parametrize("kind", ["float32", "bfloat16", "float16"])
def test_the_answer_is_float32_and_the_product_is_not(kind: subject.Precision) -> None:
    """Under autocast the network multiplies in the chosen type; the outputs that the loss gets and the weights are float32."""
    network, optimizer = Scores(), None
    optimizer = torch.optim.Adam(network.parameters())
    mixed = MixedStep(kind, CPU, autocast=True)
    output = mixed.forward(network, torch.ones(2, 3, 8), torch.ones(1))
    assert network.seen.dtype == getattr(torch, kind)
    assert output.relevance_logits is not None
    assert output.relevance_logits.dtype == torch.float32
    assert output.class_logits is None
    before = network.layer.weight.detach().clone()
    # The loss is so small that float16 gradients do not overflow at the first scale, whatever the weights; an overflow would skip the step.
    mixed.backward(0.01 * output.relevance_logits.square().mean(), optimizer, list(network.parameters()), 0.0)
    assert network.layer.weight.dtype == torch.float32
    assert not torch.equal(before, network.layer.weight)


def test_float16_gradients_that_overflow_cost_one_step_and_no_weights() -> None:
    """After an overflow of float16 gradients, the weights are unchanged, the scale is lower, and a resumed run has the lower scale."""
    network = Scores()
    optimizer = torch.optim.Adam(network.parameters())
    mixed = MixedStep("float16", CPU, autocast=True)
    before = network.layer.weight.detach().clone()
    output = mixed.forward(network, torch.ones(2, 3, 8), torch.ones(1))
    assert output.relevance_logits is not None
    scale = mixed.state() or {"scale": 65536.0}
    mixed.backward(output.relevance_logits.sum() * 1e6, optimizer, list(network.parameters()), 1.0)
    assert torch.equal(before, network.layer.weight)
    assert mixed.state()["scale"] < scale["scale"]
    other = MixedStep("float16", CPU, autocast=True)
    other.restore(mixed.state())
    assert other.state() == mixed.state()


def test_clipping_bounds_the_gradients_themselves() -> None:
    """With scaled float16 gradients, the limit holds for the norm of the unscaled gradients."""
    network = Scores()
    optimizer = torch.optim.SGD(network.parameters(), lr=1.0)
    mixed = MixedStep("float16", CPU, autocast=True)
    before = torch.cat([value.detach().clone().flatten() for value in network.parameters()])
    output = mixed.forward(network, torch.ones(2, 3, 8), torch.ones(1))
    assert output.relevance_logits is not None
    mixed.backward(output.relevance_logits.sum() * 0.1, optimizer, list(network.parameters()), 0.5)
    after = torch.cat([value.detach().flatten() for value in network.parameters()])
    assert float((after - before).norm()) == pytest.approx(0.5, rel=1e-3)


def test_on_a_cpu_only_the_attention_is_bfloat16() -> None:
    """Without autocast only the attention gets the bfloat16 type, and the rest of the network computes in float32."""
    network = Scores()
    mixed = MixedStep("bfloat16", CPU)
    mixed.forward(network, torch.ones(2, 3, 8), torch.ones(1))
    assert mixed.attention_type == torch.bfloat16
    assert network.seen.dtype == torch.float32
    assert MixedStep("float32", CPU).attention_type == torch.float32
