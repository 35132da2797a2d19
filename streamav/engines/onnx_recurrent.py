"""Stands in for torch's LSTM and GRU while a network is exported, so that each becomes one ONNX operator.

Left to itself the exporter unrolls them step by step first, which takes most of its time and leaves the weights cut into gates.
The stand-ins compute nothing in torch; only single-layer, bidirectional, batch-first modules are known.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from streamav.errors import EngineError

__all__ = ["with_onnx_recurrent"]

OPSET = 18
DIRECTIONS = 2
LSTM_GATES = (0, 3, 1, 2)
"""torch has input, forget, cell, output; ONNX has input, output, forget, cell. Source: ONNX operators, LSTM, inputs W and R."""
GRU_GATES = (1, 0, 2)
"""torch has reset, update, new; ONNX has update, reset, hidden. Source: ONNX operators, GRU, inputs W and R."""


class _OnnxRecurrent(nn.Module):
    """One bidirectional layer as one ONNX operator, with torch's signature."""

    weight: Tensor
    recurrence: Tensor
    bias: Tensor

    def __init__(self, layer: nn.LSTM | nn.GRU) -> None:
        super().__init__()
        if layer.num_layers != 1 or not (layer.bidirectional and layer.batch_first and layer.bias):
            msg = f"only recurrent layers that are single, bidirectional, batch-first and with bias are exported, got {layer}"
            raise EngineError(msg)
        self.hidden = layer.hidden_size
        self.operator = "LSTM" if isinstance(layer, nn.LSTM) else "GRU"
        gates = LSTM_GATES if isinstance(layer, nn.LSTM) else GRU_GATES
        ways = ("", "_reverse")
        self.register_buffer("weight", torch.stack([_reorder(layer.get_parameter(f"weight_ih_l0{way}"), gates) for way in ways]))
        self.register_buffer("recurrence", torch.stack([_reorder(layer.get_parameter(f"weight_hh_l0{way}"), gates) for way in ways]))
        biases = [torch.cat([_reorder(layer.get_parameter(f"bias_{kind}_l0{way}"), gates) for kind in ("ih", "hh")]) for way in ways]
        self.register_buffer("bias", torch.stack(biases))

    def forward(self, stream: Tensor, initial: Tensor | None = None) -> tuple[Tensor, None]:
        """Give (B, T, 2 hidden) of (B, T, I), and None in the place of the last state, which nobody reads."""
        batch, steps = stream.shape[0], stream.shape[1]
        inputs: list[Tensor | None] = [stream.transpose(0, 1), self.weight, self.recurrence, self.bias]
        if initial is not None:
            inputs += [None, initial]  # the lengths of the sequences, all equal, and the first state
        attributes: dict[str, int | str] = {"hidden_size": self.hidden, "direction": "bidirectional"}
        if self.operator == "GRU":
            attributes["linear_before_reset"] = 1  # as torch and cuDNN do it
        output = torch.onnx.ops.symbolic(
            self.operator,
            inputs,
            attrs=attributes,
            dtype=stream.dtype,
            shape=(steps, DIRECTIONS, batch, self.hidden),
            version=OPSET,
        )
        return output.permute(2, 0, 1, 3).flatten(2), None  # (T, 2, B, H) -> (B, T, 2 H)


def with_onnx_recurrent(module: nn.Module) -> nn.Module:
    """Give a copy of *module* for the exporter, whose LSTM and GRU layers are the stand-ins.

    Raises:
        EngineError: for a recurrent layer of a kind that is not known here.
    """
    module = copy.deepcopy(module)
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.LSTM | nn.GRU):
                setattr(parent, name, _OnnxRecurrent(child))
    return module


def _reorder(values: Tensor, gates: tuple[int, ...]) -> Tensor:
    parts = values.detach().chunk(len(gates))
    return torch.cat([parts[gate] for gate in gates])
