"""Tests of the convolution with padding SAME: TensorFlow's rule on every size, and no layer of its own in what a runtime runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from streamav.engines.onnx_export import export_onnx
from streamav.networks.efficientnet_lite import EfficientNetLite
from streamav.networks.mobilenetv2 import MobileNetV2
from streamav.networks.same_padding import SameConv2d
from streamav.networks.yamnet import Yamnet


def by_definition(layer: SameConv2d, x: Tensor) -> Tensor:
    """Compute the layer on its definition: output (i, j) covers the input from stride * i - before, zeros outside."""
    kernel, stride = layer.kernel_size[0], layer.stride[0]
    sizes = [-(-size // stride) for size in x.shape[-2:]]
    before = [max((count - 1) * stride + kernel - size, 0) // 2 for count, size in zip(sizes, x.shape[-2:], strict=True)]
    wide = torch.zeros(*x.shape[:2], *(size + 2 * kernel + stride for size in x.shape[-2:]))
    wide[:, :, kernel : kernel + x.shape[2], kernel : kernel + x.shape[3]] = x
    out = torch.zeros(len(x), layer.out_channels, *sizes)
    for i in range(sizes[0]):
        for j in range(sizes[1]):
            top, left = kernel + stride * i - before[0], kernel + stride * j - before[1]
            out[:, :, i, j] = torch.einsum("bchw,ochw->bo", wide[:, :, top : top + kernel, left : left + kernel], layer.weight)
    return out


@given(
    kernel=st.sampled_from([1, 3, 5]),
    stride=st.sampled_from([1, 2]),
    high=st.integers(1, 11),
    wide=st.integers(1, 11),
    seed=st.integers(0, 9),
)
def test_every_size_is_padded_by_the_rule(kernel: int, stride: int, high: int, wide: int, seed: int) -> None:
    """Odd and even sizes, also below the kernel, give what the definition gives, in each axis by itself."""
    torch.manual_seed(seed)
    layer, x = SameConv2d(2, 3, kernel, stride, bias=False), torch.randn(2, 2, high, wide)
    with torch.no_grad():
        torch.testing.assert_close(layer(x), by_definition(layer, x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("network", "example"),
    [
        (EfficientNetLite(), np.zeros((2, 224, 224, 3), np.uint8)),
        (MobileNetV2(), np.zeros((2, 224, 224, 3), np.uint8)),
        (Yamnet(), np.zeros((2, 96, 64), np.float32)),
    ],
    ids=["efficientnet_lite0", "mobilenetv2", "yamnet"],
)
def test_no_layer_pads_alone(network: nn.Module, example: np.ndarray, tmp_path: Path) -> None:
    """ONNX Runtime joins every padding of the public encoders with its convolution; separate layers cost a third of the time."""
    export_onnx(network.eval(), [example], tmp_path / "network.onnx", 1)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    onnxruntime.InferenceSession((tmp_path / "network.onnx").read_bytes(), options, providers=["CPUExecutionProvider"])
    operators = [node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node]
    assert "Conv" in operators
    assert "Pad" not in operators
