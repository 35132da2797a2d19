"""What int8 changes in a network, and what it leaves alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import nn

from streamav.engines.bias_correction import STEPS, convolutions, correct_biases, is_pointwise
from streamav.engines.onnx_export import export_onnx
from streamav.engines.onnx_network import OnnxNetwork
from streamav.engines.parity import relative_l2
from streamav.engines.quantisation import quantise
from streamav.errors import EngineError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


class Small(nn.Module):
    """An encoder of few channels with every kind of layer: a stem, depthwise and pointwise convolutions, and class scores."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, stride=2, padding=1)
        self.blocks = nn.Sequential(
            *(
                nn.Sequential(
                    nn.Conv2d(16, 16, 3, padding=1, groups=16), nn.ReLU6(), nn.Conv2d(16, 64, 1), nn.ReLU6(), nn.Conv2d(64, 16, 1)
                )
                for _ in range(6)
            )
        )
        self.classifier = nn.Linear(16, 100)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return features (B, 8, 8, 16) and class scores (B, 100)."""
        grid = torch.relu(self.blocks(self.stem(x))).permute(0, 2, 3, 1)
        return grid, torch.softmax(self.classifier(grid.mean((1, 2))), -1)


@pytest.fixture
def network(tmp_path: Path) -> Path:
    """Return the ONNX file of a small encoder."""
    torch.manual_seed(0)
    path = tmp_path / "visual.onnx"
    export_onnx(Small().eval().requires_grad_(requires_grad=False), (inputs(2),), path, 2)
    return path


def inputs(count: int, seed: int = 0) -> NDArray[np.float32]:
    """Return smooth pictures, shape (count, 3, 16, 16), mostly above 0."""
    generator = np.random.default_rng(seed)
    return np.asarray(generator.normal(0.6, 0.5, (count, 3, 16, 16)), np.float32)


def test_a_corrected_bias_keeps_the_mean_of_each_channel(network: Path, tmp_path: Path) -> None:
    """With weights rounded to int8 the mean of the first convolution's channels is that of float32 once its bias is corrected."""
    model = onnx.load(network)
    stem = convolutions(model)[0]
    weight, bias = _arrays(model, stem)
    correct_biases(model, [stem], [inputs(64)], tmp_path / "scratch.onnx", STEPS)
    corrected = _arrays(model, stem)[1]
    step = np.abs(weight).max((1, 2, 3), keepdims=True) / 127
    rounded = np.round(weight / step) * step
    want, uncorrected, got = (_means(w, b) for w, b in ((weight, bias), (rounded, bias), (rounded, corrected)))
    # The padded border of the picture is not in the formula, so a small part of the error stays.
    assert np.abs(got - want).max() < 0.5 * np.abs(uncorrected - want).max()
    assert [path.name for path in tmp_path.iterdir()] == ["visual.onnx"]


def test_only_pointwise_convolutions_are_lowered_on_request(network: Path, tmp_path: Path) -> None:
    """With pointwise=True the weights of the stem and of depthwise convolutions stay float32; without it all are int8."""
    for pointwise, wanted in (
        (True, {(64, 16, 1, 1), (16, 64, 1, 1)}),
        (False, {(64, 16, 1, 1), (16, 64, 1, 1), (16, 1, 3, 3), (16, 3, 3, 3)}),
    ):
        quantise(network, tmp_path / "int8.onnx", inputs(8), pointwise=pointwise)
        model = onnx.load(tmp_path / "int8.onnx")
        assert {
            tuple(one.dims) for one in model.graph.initializer if one.data_type == onnx.TensorProto.INT8 and len(one.dims) > 1
        } == wanted


@pytest.mark.parametrize(("reduced", "largest"), [(False, 127), (True, 64)])
def test_weights_have_eight_bits_or_seven(reduced: bool, largest: int, network: Path, tmp_path: Path) -> None:
    """With reduced=True no stored weight exceeds 64, so that the sum of two products of a uint8 and a weight fits into 16 bits."""
    quantise(network, tmp_path / "int8.onnx", inputs(8), reduced=reduced)
    stored = onnx.load(tmp_path / "int8.onnx").graph.initializer
    weights = [numpy_helper.to_array(one) for one in stored if one.data_type == onnx.TensorProto.INT8 and len(one.dims) > 1]
    assert max(int(np.abs(weight.astype(int)).max()) for weight in weights) == largest
    assert 255 * 64 * 2 < 2**15


def test_the_layers_of_the_class_scores_stay_float32(network: Path, tmp_path: Path) -> None:
    """The weights that only the class scores depend on stay float32, and the scores keep their sum of 1."""
    quantise(network, tmp_path / "int8.onnx", inputs(8))
    model = onnx.load(tmp_path / "int8.onnx")
    kinds = {tuple(one.dims): one.data_type for one in model.graph.initializer}
    assert kinds.get((100, 16), kinds.get((16, 100))) == onnx.TensorProto.FLOAT
    scores = OnnxNetwork(tmp_path / "int8.onnx", 1)(inputs(4, seed=1))[1]
    assert scores.sum(-1) == pytest.approx(1.0, abs=1e-4)


def test_lowering_fewer_layers_is_more_exact(network: Path, tmp_path: Path) -> None:
    """The pointwise form is nearer to float32 than the full one, which is near too."""
    want = OnnxNetwork(network, 1)(inputs(16, seed=1))[0]
    errors = []
    for pointwise in (True, False):
        quantise(network, tmp_path / "int8.onnx", inputs(32), pointwise=pointwise)
        errors.append(relative_l2(OnnxNetwork(tmp_path / "int8.onnx", 1)(inputs(16, seed=1))[0], want))
    assert 1e-4 < errors[0] < errors[1] < 0.1


def test_a_file_that_is_no_network_is_refused(tmp_path: Path) -> None:
    """A damaged file ends in an error that names it, and leaves no file behind."""
    (tmp_path / "visual.onnx").write_bytes(b"no network")
    with pytest.raises(EngineError, match=r"visual\.onnx cannot be quantised"):
        quantise(tmp_path / "visual.onnx", tmp_path / "int8.onnx", inputs(8))
    assert [path.name for path in tmp_path.iterdir()] == ["visual.onnx"]


def test_a_grouped_convolution_of_one_by_one_is_not_pointwise(network: Path) -> None:
    """Only convolutions of 1 x 1 over all channels count as pointwise."""
    model = onnx.load(network)
    found = [is_pointwise(model, node) for node in convolutions(model)]
    assert found == [False, *[False, True, True] * 6]


def _arrays(model: onnx.ModelProto, node: onnx.NodeProto) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    stored = {one.name: numpy_helper.to_array(one) for one in model.graph.initializer}
    return stored[node.input[1]], stored[node.input[2]]


def _means(weight: NDArray[np.float32], bias: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the mean of each channel of the stem over the calibration pictures."""
    answer = torch.nn.functional.conv2d(torch.tensor(inputs(64)), torch.tensor(weight), torch.tensor(bias), stride=2, padding=1)
    return np.asarray(answer.mean((0, 2, 3)).numpy())
