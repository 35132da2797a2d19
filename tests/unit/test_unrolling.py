"""Tests of recurrent layers that are replaced by their single steps."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from streamav.engines.unrolling import UnrolledGRU, UnrolledLSTM, unroll
from streamav.errors import EngineError

sizes = st.integers(1, 5)


@given(batch=sizes, steps=sizes, size=sizes, hidden=sizes, both=st.booleans(), seed=st.integers(0, 99))
def test_an_unrolled_lstm_is_the_lstm(batch: int, steps: int, size: int, hidden: int, both: bool, seed: int) -> None:
    """An unrolled LSTM gives the outputs of torch's layer, in one direction and in both."""
    torch.manual_seed(seed)
    layer = nn.LSTM(size, hidden, batch_first=True, bidirectional=both)
    inputs = torch.randn(batch, steps, size)
    torch.testing.assert_close(UnrolledLSTM(layer)(inputs)[0], layer(inputs)[0], rtol=1e-5, atol=1e-6)


@given(batch=sizes, steps=sizes, size=sizes, hidden=sizes, both=st.booleans(), started=st.booleans(), seed=st.integers(0, 99))
def test_an_unrolled_gru_is_the_gru(batch: int, steps: int, size: int, hidden: int, both: bool, started: bool, seed: int) -> None:
    """An unrolled GRU gives the outputs of torch's layer, also from a state that is not zero, such as the event's summary."""
    torch.manual_seed(seed)
    layer = nn.GRU(size, hidden, batch_first=True, bidirectional=both)
    inputs = torch.randn(batch, steps, size)
    start = torch.randn(2 if both else 1, batch, hidden) if started else None
    torch.testing.assert_close(UnrolledGRU(layer)(inputs, start)[0], layer(inputs, start)[0], rtol=1e-5, atol=1e-6)


def test_every_layer_inside_is_replaced() -> None:
    """Unrolling replaces every LSTM and GRU, at any depth of the module."""
    module = unroll(nn.ModuleDict({"a": nn.Sequential(nn.LSTM(2, 3, batch_first=True)), "b": nn.GRU(2, 3, batch_first=True)}))
    assert not any(isinstance(part, nn.RNNBase) for part in module.modules())


def test_layers_that_no_network_has_are_refused() -> None:
    """Stacked layers, which need another order of steps, are refused with the supported form."""
    with pytest.raises(EngineError, match="must be single, batch first"):
        unroll(nn.LSTM(2, 3, num_layers=2, batch_first=True))
