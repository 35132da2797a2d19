"""Replaces recurrent layers by their single steps, for converters that do not support LSTM or GRU; the results stay the same.

It uses the weights of torch's own layers unchanged.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from streamav.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["UnrolledGRU", "UnrolledLSTM", "unroll"]


class _Unrolled(nn.Module):
    """One layer in one or both directions, batch first; the ten segments of a window become ten steps in the graph."""

    def __init__(self, layer: nn.LSTM | nn.GRU) -> None:
        super().__init__()
        if layer.num_layers != 1 or not layer.batch_first or not layer.bias or layer.proj_size > 0:
            msg = f"a recurrent layer must be single, batch first, with bias and without projection to be unrolled, got {layer}"
            raise EngineError(msg)
        self.hidden = layer.hidden_size
        self.suffixes = ("", "_reverse") if layer.bidirectional else ("",)
        for name, weight in layer.named_parameters():
            self.register_parameter(name, weight)

    def run(self, inputs: Tensor, start: Callable[[int], Tensor | None]) -> Tensor:
        """Return (B, T, directions * hidden) from inputs (B, T, size); *start* returns the first state of a direction, None for zeros."""
        outputs = []
        for direction, suffix in enumerate(self.suffixes):
            weights = [cast("Tensor", getattr(self, f"{name}_l0{suffix}")) for name in ("weight_ih", "bias_ih", "weight_hh", "bias_hh")]
            driven = nn.functional.linear(inputs, weights[0], weights[1])  # (B, T, gates * hidden): all steps in one product
            steps = range(inputs.shape[1])
            states = self.steps(
                [driven[:, step] for step in (reversed(steps) if suffix else steps)], weights[2], weights[3], start(direction)
            )
            outputs.append(torch.stack(states[::-1] if suffix else states, dim=1))
        return torch.cat(outputs, dim=-1)

    def steps(self, driven: list[Tensor], weight: Tensor, bias: Tensor, state: Tensor | None) -> list[Tensor]:
        """Return the state (B, hidden) after each step; *driven* holds the input's contribution to the gates of each step."""
        raise NotImplementedError


class UnrolledLSTM(_Unrolled):
    """Computes `nn.LSTM` from zeros. Source: the equations in the documentation of torch.nn.LSTM; gates in the order i, f, g, o."""

    def forward(self, inputs: Tensor) -> tuple[Tensor]:
        """Return (outputs,), the first return value of `nn.LSTM`."""
        return (self.run(inputs, lambda _: None),)

    def steps(self, driven: list[Tensor], weight: Tensor, bias: Tensor, state: Tensor | None) -> list[Tensor]:
        """Run the cell over all steps; the first step has neither state nor memory."""
        states: list[Tensor] = []
        memory: Tensor | None = None
        for share in driven:
            gates = share + (bias if state is None else nn.functional.linear(state, weight, bias))
            into, keep, new, out = (gates[:, place * self.hidden : (place + 1) * self.hidden] for place in range(4))
            fresh = torch.sigmoid(into) * torch.tanh(new)
            memory = fresh if memory is None else torch.sigmoid(keep) * memory + fresh
            state = torch.sigmoid(out) * torch.tanh(memory)
            states.append(state)
        return states


class UnrolledGRU(_Unrolled):
    """Computes `nn.GRU`. Source: the equations in the documentation of torch.nn.GRU; gates in the order r, z, n."""

    def forward(self, inputs: Tensor, start: Tensor | None = None) -> tuple[Tensor]:
        """Return (outputs,), the first return value of `nn.GRU`, from *start* (directions, B, hidden) or zeros."""
        return (self.run(inputs, lambda direction: None if start is None else start[direction]),)

    def steps(self, driven: list[Tensor], weight: Tensor, bias: Tensor, state: Tensor | None) -> list[Tensor]:
        """Run the cell over all steps."""
        states: list[Tensor] = []
        size = self.hidden
        for share in driven:
            own = bias.expand_as(share) if state is None else nn.functional.linear(state, weight, bias)
            reset, update = (torch.sigmoid(share[:, a : a + size] + own[:, a : a + size]) for a in (0, size))
            new = torch.tanh(share[:, 2 * size :] + reset * own[:, 2 * size :])
            state = new - update * new if state is None else new + update * (state - new)
            states.append(state)
        return states


def unroll(module: nn.Module) -> nn.Module:
    """Replace every LSTM and GRU inside *module* by an unrolled layer; *module* is changed and returned.

    Raises:
        EngineError: when a layer is of a kind that our networks do not use (several layers, a projection).
    """
    if isinstance(module, nn.LSTM):
        return UnrolledLSTM(module).eval()
    if isinstance(module, nn.GRU):
        return UnrolledGRU(module).eval()
    for name, child in module.named_children():
        setattr(module, name, unroll(child))
    return module
