"""Tests of the calls of torch.cuda: every name and argument exists, and with stand-ins the calls have the required effects."""

from __future__ import annotations

import ast
import contextlib
import inspect
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from streamav.engines import cuda_engine
from streamav.engines.cuda_device import CudaDevice
from streamav.engines.cuda_graphs import GraphedNetwork


class Twice(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return 2 * x


def network_on(device: CudaDevice, most: int) -> GraphedNetwork:
    return GraphedNetwork("twice", Twice(), (((3,), torch.float32),), most, device, threading.Lock())


def right(network: GraphedNetwork, count: int) -> bool:
    rows = np.arange(3 * count, dtype=np.float32).reshape(count, 3)
    return np.array_equal(network(rows)[0], 2 * rows)


def attributes(path: Path) -> set[str]:
    """Return every `torch.x.y.z` that a file names."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute) and (name := ast.unparse(node)).startswith("torch."):
            found.add(name)
    return found


@pytest.mark.parametrize("module", ["cuda_device", "cuda_engine", "cuda_graphs", "cuda_modules"])
def test_every_name_of_torch_exists(module: str) -> None:
    """Every name of torch.cuda exists, since a wrong name would fail on a GPU only."""
    path = Path(cuda_engine.__file__).with_name(f"{module}.py")
    names = {name for name in attributes(path) if not name.startswith(("torch.__version__", "torch.version"))}
    assert names
    for name in names:
        place: object = torch
        for part in name.split(".")[1:]:
            place = getattr(place, part)


def test_every_argument_of_torch_exists() -> None:
    """Every keyword passed to torch.cuda is in the signatures of the installed torch."""
    stub = inspect.signature(torch.cuda.graph.__init__).parameters
    assert {"pool", "stream", "capture_error_mode"} <= stub.keys()
    assert "blocking" in inspect.signature(torch.cuda.Event.__new__).parameters
    assert {"enabled", "benchmark", "deterministic", "allow_tf32"} <= inspect.signature(torch.backends.cudnn.flags).parameters.keys()
    assert "including_emulation" in inspect.signature(torch.cuda.is_bf16_supported).parameters
    assert {"record", "synchronize"} <= set(dir(torch.cuda.Event))
    assert "replay" in dir(torch.cuda.CUDAGraph)


class FakeCuda:
    """A stand-in for torch.cuda: it works at once on the CPU and records all calls."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, captures: bool = True) -> None:
        self.notes: list[str] = []
        self.current: list[str] = []
        self.tf32: list[bool] = []
        self.captures = captures
        for name, stand_in in (("Event", self.event), ("CUDAGraph", self.cudagraph), ("graph", self.graph), ("stream", self.stream)):
            monkeypatch.setattr(torch.cuda, name, stand_in)
        monkeypatch.setattr(torch.cuda, "graph_pool_handle", object)
        monkeypatch.setattr(torch.cuda, "synchronize", lambda *_: self.notes.append("synchronize"))
        self.empty = torch.empty
        monkeypatch.setattr(torch, "empty", self.page_locked)

    def page_locked(self, shape: tuple[int, ...], *, dtype: torch.dtype, pin_memory: bool) -> Tensor:
        self.note(f"pinned {pin_memory}")
        return self.empty(shape, dtype=dtype)

    def note(self, text: str) -> None:
        self.notes.append(text)

    @contextlib.contextmanager
    def stream(self, stream: SimpleNamespace) -> Iterator[None]:
        self.current.append(stream.name)
        try:
            yield
        finally:
            self.current.pop()

    def event(self, *, blocking: bool) -> SimpleNamespace:
        return SimpleNamespace(
            record=lambda stream: self.note(f"record {stream.name}"),
            synchronize=lambda: self.note(f"join {'asleep' if blocking else 'awake'}"),
        )

    def cudagraph(self) -> SimpleNamespace:
        return SimpleNamespace(replay=lambda: self.note(f"replay in {self.current[-1]}"))

    @contextlib.contextmanager
    def graph(self, graph: object, *, pool: object, stream: SimpleNamespace, capture_error_mode: str) -> Iterator[None]:
        self.note(f"capture in {stream.name} {capture_error_mode}")
        self.tf32.append(torch.backends.cudnn.allow_tf32 or torch.backends.cuda.matmul.allow_tf32)
        if not self.captures:
            msg = "operation not permitted when stream is capturing"
            raise RuntimeError(msg)
        yield


def device_of(fake: FakeCuda, monkeypatch: pytest.MonkeyPatch) -> CudaDevice:
    monkeypatch.setattr(torch.cuda, "Stream", lambda _: SimpleNamespace(name="ours"))
    return CudaDevice(torch.device("cpu"))


def test_a_graph_is_captured_in_our_stream_without_tf32(monkeypatch: pytest.MonkeyPatch) -> None:
    """A graph is captured after three plain runs, in our stream and shared pool; later runs only replay. torch's flags are restored."""
    fake = FakeCuda(monkeypatch)
    device = device_of(fake, monkeypatch)
    before = torch.backends.cudnn.allow_tf32
    calls: list[str] = []

    class Counted(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            calls.append(fake.current[-1])
            return x + 1

    inputs = (device.memory((2, 3), torch.float32),)
    program = device.prepare("counted", device.place(Counted()), inputs)
    assert calls == ["ours"] * 4
    assert program()[0].shape == (2, 3)
    assert len(calls) == 4
    assert (device.graphs, fake.tf32) == (1, [False])
    assert "capture in ours thread_local" in fake.notes
    assert fake.notes[-1] == "replay in ours"
    assert torch.backends.cudnn.allow_tf32 == before


def test_a_capture_that_fails_is_said_once_and_launched_plainly(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """A failed capture gives one warning and no second attempt for another batch size, and the results are right."""
    fake = FakeCuda(monkeypatch, captures=False)
    device = device_of(fake, monkeypatch)
    network = network_on(device, 4)
    assert all(right(network, count) for count in (1, 4, 9))
    assert device.graphs == 0
    assert [note for note in fake.notes if note.startswith("capture")] == ["capture in ours thread_local"]
    assert [record.message for record in caplog.records] == [
        "engine: network twice runs without CUDA graphs, since its capture failed: operation not permitted when stream is capturing"
    ]


def test_one_piece_is_copied_replayed_and_copied_in_our_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    """Copies use page-locked memory on the host's side, and the host waits once, asleep, for the end of our stream."""
    fake = FakeCuda(monkeypatch)
    network = network_on(device_of(fake, monkeypatch), 1)
    network.warm_up(1)
    copied: list[tuple[str, bool]] = []
    monkeypatch.setattr(Tensor, "copy_", lambda _, __, *, non_blocking=False: copied.append((fake.current[-1], non_blocking)))
    fake.notes.clear()
    network(np.ones((1, 3), np.float32))
    assert copied == [("ours", True)] * 2
    assert fake.notes == ["replay in ours", "record ours", "join asleep"]


def test_page_locked_memory_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Host memory is page-locked, since only such memory can be copied without blocking the host."""
    fake = FakeCuda(monkeypatch)
    network_on(device_of(fake, monkeypatch), 4).warm_up(1)
    assert [note for note in fake.notes if note.startswith("pinned")] == ["pinned True"] * 2  # inputs, outputs
