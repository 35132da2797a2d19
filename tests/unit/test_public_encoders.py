"""Tests of VGG-19, VGGish, MobileNetV2 and YAMNet with files in the real public layouts and random weights."""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import h5py
import numpy as np
import pytest
import torch
from torch.nn import functional

from streamav.errors import ModelError, ShapeError
from streamav.networks import vgg19
from streamav.networks.encoders import load_encoder, read_encoder
from streamav.networks.vgg19 import BLOCKS, CAFFE_PORT_LAYERS, VGG19, read_vgg19
from streamav.networks.vggish import TENSORFLOW_LAYERS, TORCHVGGISH_LAYERS, VGGish, read_vggish

if TYPE_CHECKING:
    from numpy.typing import NDArray

KERAS_LAYERS = [f"block{block}_conv{number + 1}" for block, (_, count) in enumerate(BLOCKS, start=1) for number in range(count)]


def random(rng: np.random.Generator, *shape: int) -> NDArray[np.float32]:
    """Return random weights whose size keeps activations from vanishing over many layers."""
    fan_in = int(np.prod(shape[:-1]))
    return rng.standard_normal(shape, dtype=np.float32) * np.float32((2 / fan_in) ** 0.5)


@pytest.fixture(scope="module")
def vgg19_kernels() -> list[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Return random kernels (h, w, in, out) and biases."""
    rng = np.random.default_rng(0)
    channels = [3, *(size for size, count in BLOCKS for _ in range(count))]
    return [
        (random(rng, 3, 3, inputs, outputs), rng.standard_normal(outputs, dtype=np.float32))
        for inputs, outputs in itertools.pairwise(channels)
    ]


@pytest.fixture(scope="module")
def vgg19_files(vgg19_kernels: list[tuple[NDArray[np.float32], NDArray[np.float32]]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with files in four layouts: Keras with old names, with new names, with a classifier, and the Caffe port."""
    folder = tmp_path_factory.mktemp("vgg19")
    with h5py.File(folder / "old_notop.h5", "w") as old, h5py.File(folder / "new_top.h5", "w") as new:
        new.create_group("model_weights/fc1").create_dataset("fc1/kernel:0", data=np.zeros((8, 8), np.float32))
        old.create_group("block1_pool")
        for layer, (kernel, bias) in zip(KERAS_LAYERS, vgg19_kernels, strict=True):
            group = old.create_group(layer)
            group.create_dataset(f"{layer}_W_1:0", data=kernel)
            group.create_dataset(f"{layer}_b_1:0", data=bias)
            new.create_dataset(f"model_weights/{layer}/{layer}/kernel:0", data=kernel)
            new.create_dataset(f"model_weights/{layer}/{layer}/bias:0", data=bias)
    state = {"classifier.0.weight": torch.zeros(4, 4)}
    for place, (kernel, bias) in zip(CAFFE_PORT_LAYERS, vgg19_kernels, strict=True):
        state[f"features.{place}.weight"] = torch.from_numpy(kernel.transpose(3, 2, 0, 1).copy())
        state[f"features.{place}.bias"] = torch.from_numpy(bias)
    torch.save(state, folder / "port.pth", _use_new_zipfile_serialization=False)
    return folder


@pytest.mark.slow
def test_all_layouts_of_vgg19_give_the_same_weights(vgg19_files: Path) -> None:
    """Keras files of both namings, with and without a classifier, and the Caffe port give the same network."""
    first = read_vgg19(vgg19_files / "old_notop.h5")
    assert sum(tensor.numel() for tensor in first.values()) == 20_024_384
    for name in ("new_top.h5", "port.pth"):
        other = read_vgg19(vgg19_files / name)
        assert other.keys() == first.keys()
        assert all(torch.equal(other[key], first[key]) for key in first)


@pytest.mark.slow
def test_vgg19_is_caffe_preprocessing_and_sixteen_convolutions(
    vgg19_files: Path, vgg19_kernels: list[tuple[NDArray[np.float32], NDArray[np.float32]]]
) -> None:
    """The output equals a chain computed directly from the kernels: BGR minus the means, ReLU, pooling, channels last."""
    model = load_encoder("vgg19", vgg19_files / "old_notop.h5")
    pictures = np.random.default_rng(1).integers(0, 256, (1, 224, 224, 3), dtype=np.uint8)
    x = torch.from_numpy(pictures[..., ::-1].astype(np.float32) - np.array([103.939, 116.779, 123.68], np.float32)).permute(0, 3, 1, 2)
    kernels = iter(vgg19_kernels)
    with torch.inference_mode():
        for _, count in BLOCKS:
            for _ in range(count):
                kernel, bias = next(kernels)
                x = functional.relu(
                    functional.conv2d(x, torch.from_numpy(kernel.transpose(3, 2, 0, 1).copy()), torch.from_numpy(bias), padding=1)
                )
            x = functional.max_pool2d(x, 2)
        got = model(torch.from_numpy(pictures))
    assert got.shape == (1, 7, 7, 512)
    assert got.min() >= 0
    torch.testing.assert_close(got, x.permute(0, 2, 3, 1), rtol=1e-4, atol=1e-3)


@pytest.mark.slow
def test_torchvision_s_vgg19_is_refused(vgg19_files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights of the same names and shapes with torchvision's hash give an error that names torchvision."""
    import hashlib

    digest = hashlib.sha256((vgg19_files / "port.pth").read_bytes()).hexdigest()
    monkeypatch.setattr(vgg19, "TORCHVISION_HASH", digest[:8])
    with pytest.raises(ModelError, match="torchvision"):
        read_vgg19(vgg19_files / "port.pth")


@pytest.mark.slow
@pytest.mark.parametrize("wrong", ["theano order", "layer missing", "two kernels", "compressed", "integers", "link"])
def test_wrong_keras_files_are_refused(vgg19_files: Path, tmp_path: Path, wrong: str) -> None:
    """Other layouts, missing layers, compressed data and links to other files give a ModelError."""
    path = tmp_path / "x.h5"
    shutil.copyfile(vgg19_files / "old_notop.h5", path)
    with h5py.File(path, "r+") as file:
        layer = file["block1_conv1"]
        kernel = layer["block1_conv1_W_1:0"][()]
        del layer["block1_conv1_W_1:0"]
        match wrong:
            case "theano order":
                layer["w"] = kernel.transpose(3, 2, 0, 1)
            case "two kernels":
                layer["w"], layer["w2"] = kernel, kernel[:2]
            case "compressed":
                layer.create_dataset("w", data=kernel, compression="gzip")
            case "integers":
                layer["w"] = kernel.astype(np.int32)
            case "link":
                layer["w"] = h5py.ExternalLink(str(vgg19_files / "old_notop.h5"), "block1_conv1/block1_conv1_W_1:0")
    with pytest.raises(ModelError):
        read_vgg19(path)


@pytest.mark.parametrize(
    ("network", "name"),
    [("vgg19", "x.h5"), ("vgg19", "x.pth"), ("vgg19", "x.npy"), ("vggish", "x.pth"), ("vggish", "x.npz"), ("yamnet", "x.h5")],
)
@pytest.mark.parametrize("content", [None, b"", b"no such thing", b"PK\x05\x06" + bytes(18)])
def test_damaged_and_missing_files_are_refused(tmp_path: Path, network: str, name: str, content: bytes | None) -> None:
    """A missing, empty or foreign file gives a ModelError with its name, whatever its suffix is."""
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ModelError, match=name):
        read_encoder(network, tmp_path / name)


def test_shapes_are_checked() -> None:
    """Pictures and patches of another shape or type give a ShapeError before any computation."""
    with torch.device("meta"):
        seeing, hearing = VGG19(), VGGish()
        for wrong in (
            torch.zeros(1, 3, 224, 224, dtype=torch.uint8),
            torch.zeros(1, 224, 224, 3),
            torch.zeros(1, 112, 112, 3, dtype=torch.uint8),
        ):
            with pytest.raises(ShapeError):
                seeing(wrong)
        for patch in (torch.zeros(1, 64, 96), torch.zeros(96, 64), torch.zeros(1, 1, 96, 64)):
            with pytest.raises(ShapeError):
                hearing(patch)
        assert hearing(torch.zeros(2, 96, 64)).shape == (2, 128)
        assert seeing(torch.zeros(2, 224, 224, 3, dtype=torch.uint8)).shape == (2, 7, 7, 512)
        assert sum(parameter.numel() for parameter in hearing.parameters()) == 72_141_184


@pytest.mark.slow
def test_both_layouts_of_vggish_flatten_channels_last(tmp_path: Path) -> None:
    """TensorFlow's variables and torchvggish's state_dict give the same network, which equals a chain in TensorFlow's order of axes."""
    rng = np.random.default_rng(4)
    shapes = [(3, 3, i, o) for i, o in ((1, 64), (64, 128), (128, 256), (256, 256), (256, 512), (512, 512))]
    shapes_dense = [(12288, 4096), (4096, 4096), (4096, 128)]
    variables: dict[str, NDArray[np.float32]] = {}
    state: dict[str, torch.Tensor] = {}
    for theirs, torch_name, shape in zip(TENSORFLOW_LAYERS, TORCHVGGISH_LAYERS, [*shapes, *shapes_dense], strict=True):
        weights, biases = random(rng, *shape), rng.standard_normal(shape[-1], dtype=np.float32) * np.float32(0.1)
        variables[f"vggish/{theirs}/weights:0"], variables[f"vggish/{theirs}/biases:0"] = weights, biases
        state[f"{torch_name}.weight"] = torch.from_numpy(weights.transpose(3, 2, 0, 1).copy() if weights.ndim == 4 else weights.T.copy())
        state[f"{torch_name}.bias"] = torch.from_numpy(biases)
    np.savez(tmp_path / "vggish.npz", allow_pickle=False, **variables)
    torch.save(state, tmp_path / "vggish.pth", _use_new_zipfile_serialization=False)
    ours, other = read_vggish(tmp_path / "vggish.npz"), read_vggish(tmp_path / "vggish.pth")
    assert all(torch.equal(ours[key], other[key]) for key in ours)

    model = VGGish().eval()
    model.load_state_dict(ours)
    patches = torch.from_numpy(rng.standard_normal((3, 96, 64), dtype=np.float32))
    with torch.inference_mode():
        x = patches[:, None]
        for place, layer in enumerate(TENSORFLOW_LAYERS[:6]):
            kernel = torch.from_numpy(variables[f"vggish/{layer}/weights:0"]).permute(3, 2, 0, 1)
            x = functional.relu(functional.conv2d(x, kernel, torch.from_numpy(variables[f"vggish/{layer}/biases:0"]), padding=1))
            x = functional.max_pool2d(x, 2) if place in (0, 1, 3, 5) else x
        y = x.permute(0, 2, 3, 1).reshape(3, 6 * 4 * 512).numpy()
        for layer in TENSORFLOW_LAYERS[6:]:
            y = np.maximum(y @ variables[f"vggish/{layer}/weights:0"] + variables[f"vggish/{layer}/biases:0"], 0)
        got = model(patches).numpy()
    np.testing.assert_allclose(got, y, rtol=1e-3, atol=1e-4)
    assert got.shape == (3, 128)
    assert got.min() == 0
    assert 0.2 < (got == 0).mean() < 0.8


def test_ave_s_audio_features_are_raw_embeddings(shared_data: Path) -> None:
    """AVE's published features are of the same kind as the output of `VGGish`: after the last ReLU, without PCA and quantisation."""
    with h5py.File(shared_data / "ave" / "audio_feature_noisy.h5") as file:
        features = file["avadataset"][()]
    assert features.shape[1:] == (10, 128)
    assert features.min() == 0
    assert features.max() == pytest.approx(4.54, abs=0.01)
    assert (features == 0).mean() == pytest.approx(0.653, abs=0.001)
    assert np.unique(features).size > 70_000


def test_keras_and_folded_yamnet_are_one_network(tmp_path: Path) -> None:
    """The publisher's yamnet.h5, with batch norms, gives the same output as its layers computed one by one."""
    rng = np.random.default_rng(6)
    channels = [32, 64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 512, 1024, 1024]
    strides = [2, 1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1]
    layers: list[tuple[str, NDArray[np.float32], int, int]] = [("layer1/conv", random(rng, 3, 3, 1, 32), 2, 1)]
    for n in range(1, 14):
        inputs = channels[n - 1]
        layers.append((f"layer{n + 1}/depthwise_conv", random(rng, 3, 3, 1, inputs).transpose(0, 1, 3, 2), strides[n], inputs))
        layers.append((f"layer{n + 1}/pointwise_conv", random(rng, 1, 1, inputs, channels[n]), 1, 1))
    x = torch.from_numpy(rng.standard_normal((2, 1, 96, 64), dtype=np.float32))
    patches = x[:, 0]
    with h5py.File(tmp_path / "yamnet.h5", "w") as file:
        for name, kernel, stride, groups in layers:
            size = kernel.shape[2] if groups > 1 else kernel.shape[3]
            beta, mean = (rng.standard_normal(size, dtype=np.float32) * np.float32(0.1) for _ in range(2))
            variance = 0.5 + rng.random(size, dtype=np.float32)
            word = "depthwise_kernel" if groups > 1 else "kernel"
            file[f"{name}/{name}/{word}:0"] = kernel
            for key, array in (("beta", beta), ("moving_mean", mean), ("moving_variance", variance)):
                file[f"{name}/bn/{name}/bn/{key}:0"] = array
            weights = torch.from_numpy(kernel.transpose((2, 3, 0, 1) if groups > 1 else (3, 2, 0, 1)).copy())
            if kernel.shape[0] == 3:
                x = functional.pad(x, (0, 1, 0, 1) if stride == 2 else (1, 1, 1, 1))
            x = functional.conv2d(x, weights, stride=stride, groups=groups)
            x = functional.batch_norm(x, torch.from_numpy(mean), torch.from_numpy(variance), None, torch.from_numpy(beta), eps=1e-4)
            x = functional.relu6(x)
        file["logits/logits/kernel:0"] = random(rng, 1024, 521)
        file["logits/logits/bias:0"] = np.zeros(521, np.float32)
    model = load_encoder("yamnet", tmp_path / "yamnet.h5")
    with torch.inference_mode():
        torch.testing.assert_close(model(patches), x.mean((2, 3)), rtol=1e-3, atol=1e-4)


def test_plain_and_keras_mobilenetv2_are_one_network(shared_data: Path, tmp_path: Path) -> None:
    """The same arrays in Keras' layout and as safetensors give the same state_dict."""
    from safetensors.numpy import load_file

    plain = shared_data / "weights" / "mobilenetv2.safetensors"
    with h5py.File(tmp_path / "x.h5", "w") as file:
        for name, array in load_file(plain).items():
            file[f"{name.split('/')[0]}/{name}:0"] = array
    ours, keras = read_encoder("mobilenetv2", plain), read_encoder("mobilenetv2", tmp_path / "x.h5")
    assert ours.keys() == keras.keys()
    assert all(torch.equal(ours[key], keras[key]) for key in ours)
