"""Batch normalisation folded into convolutions, in exported graphs."""

from __future__ import annotations

import copy
import warnings

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import fx, nn

from streamav.engines.folding import fold_batch_norms


def traced(module: nn.Module, inputs: torch.Tensor) -> fx.GraphModule:
    """Export in evaluation mode, as the engines do."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.export.export(module.eval(), (inputs,), strict=False).module(check_guards=False)


def settle(module: nn.Module) -> None:
    """Give every batch normalisation numbers of its own."""
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            for tensor in (part.weight, part.bias, part.running_mean, part.running_var):
                assert tensor is not None
                tensor.data = torch.rand_like(tensor) + 0.1


@pytest.mark.filterwarnings("ignore::FutureWarning:copyreg")
@given(bias=st.booleans(), groups=st.sampled_from([1, 2]), stride=st.integers(1, 2), seed=st.integers(0, 9))
def test_folding_changes_nothing(bias: bool, groups: int, stride: int, seed: int) -> None:
    """Whatever the convolution, the folded graph gives the same numbers without a batch normalisation."""
    torch.manual_seed(seed)
    module = nn.Sequential(nn.Conv2d(4, 6, 3, stride, 1, groups=groups, bias=bias), nn.BatchNorm2d(6, eps=1e-3), nn.ReLU())
    settle(module)
    inputs = torch.randn(2, 4, 5, 5)
    graph = traced(module, inputs)
    want = graph(inputs)
    assert fold_batch_norms(graph) == 1
    assert not graph.graph.find_nodes(op="call_function", target=torch.ops.aten.batch_norm.default)
    torch.testing.assert_close(graph(inputs), want, rtol=1e-5, atol=1e-5)


class Shared(nn.Module):
    """A convolution whose output is used twice, and a normalisation that follows no convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.first, self.second = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), nn.BatchNorm2d(3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        plain = self.convolution(x)
        normed: torch.Tensor = self.first(plain) + plain + self.second(x)
        return normed


@pytest.mark.filterwarnings("ignore::FutureWarning:copyreg")
def test_what_is_used_elsewhere_is_left_alone() -> None:
    """Only a convolution that belongs to its normalisation is changed."""
    module = Shared()
    settle(module)
    inputs = torch.randn(2, 3, 4, 4)
    graph = traced(module, inputs)
    want = graph(inputs)
    assert fold_batch_norms(graph) == 0
    torch.testing.assert_close(graph(inputs), want)


@pytest.mark.filterwarnings("ignore::FutureWarning:copyreg")
def test_half_precision_keeps_what_a_large_mean_would_have_cost() -> None:
    """A channel whose mean is a thousand times its spread survives half precision when it is folded, and does not when it is not."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2))
    convolution, norm = module[0], module[1]
    assert isinstance(convolution, nn.Conv2d)
    assert isinstance(norm, nn.BatchNorm2d)
    assert convolution.bias is not None
    assert norm.running_mean is not None
    convolution.bias.data[:] = 1000.0
    norm.running_mean[:] = 1000.0
    inputs = torch.rand(4, 3, 8, 8)
    with torch.no_grad():
        want = module.eval()(inputs)
    errors = []
    for fold in (False, True):
        graph = traced(copy.deepcopy(module), inputs)  # casting a graph casts the module it came from
        if fold:
            fold_batch_norms(graph)
        half = graph.to(torch.float16)
        errors.append(float((half(inputs.half()).detach().float() - want).abs().max()))
    assert errors[0] > 0.1
    assert errors[1] < 0.01
