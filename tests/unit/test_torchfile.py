"""Tests that a checkpoint file can only provide arrays and can do nothing else."""

from __future__ import annotations

import builtins
import io
import os
import pickle
import struct
import subprocess
import warnings
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rigs.authors_networks import TENSORS, authors_network
from rigs.cases import cases

from streamav.errors import ModelError
from streamav.networks.files.torchfile import LEGACY_MAGIC, LEGACY_VERSION, read_checkpoint
from streamav.networks.files.unpickle import RefusedError, run_program

if TYPE_CHECKING:
    from collections.abc import Callable

ZIPPED = pytest.mark.parametrize("zipped", [True, False], ids=["zip", "stream"])


def save(value: object, path: Path, *, zipped: bool = True) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # the classes of authors_networks have no source text that torch could store
        torch.save(value, path, _use_new_zipfile_serialization=zipped)
    return path


def small_state() -> dict[str, torch.Tensor]:
    numbers = torch.arange(24, dtype=torch.float32)
    shared = numbers.reshape(4, 6)
    return {
        "a": numbers,
        "b": shared.t(),
        "c": shared[1:3, ::2],
        "half": numbers.half(),
        "none": torch.zeros(0, 3),
        "one": torch.tensor(5.0),
    }


def archive(program: bytes, path: Path, *, storages: dict[str, bytes] | None = None, compression: int = zipfile.ZIP_STORED) -> Path:
    """Write a checkpoint in the zip format around a given pickle."""
    with zipfile.ZipFile(path, "w", compression) as file:
        file.writestr("archive/data.pkl", program)
        file.writestr("archive/version", "3\n")
        for key, data in (storages or {}).items():
            file.writestr(f"archive/data/{key}", data)
    return path


def stream(program: bytes, path: Path) -> Path:
    """Write a checkpoint in the older format around a given pickle."""
    system = {"protocol_version": LEGACY_VERSION, "little_endian": True, "type_sizes": {}}
    parts = [pickle.dumps(value, protocol=2) for value in (LEGACY_MAGIC, LEGACY_VERSION, system)]
    path.write_bytes(b"".join(parts) + program + pickle.dumps([], protocol=2))
    return path


class Calls:
    """Pickles as a call of any function, as in an attack."""

    def __init__(self, function: object, *arguments: object) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return self.call


HOSTILE: dict[str, Callable[[str], object]] = {
    "os.system": lambda mark: Calls(os.system, f"touch {mark}"),
    "eval": lambda mark: Calls(eval, f"open({mark!r}, 'w')"),
    "exec": lambda mark: Calls(exec, f"open({mark!r}, 'w')"),
    "open": lambda mark: Calls(open, mark, "w"),
    "Path.touch": lambda mark: Calls(Path.touch, Path(mark)),
    "subprocess.Popen": lambda mark: Calls(subprocess.Popen, ["touch", mark]),
    "getattr": lambda _: Calls(getattr, Calls(__import__, "os"), "system"),
    "__import__": lambda _: Calls(__import__, "os"),
    "nested": lambda mark: {"a": [OrderedDict(x=(1, {"y": Calls(os.system, f"touch {mark}")}))]},
    "behind a list": lambda mark: Calls(OrderedDict, [("a", Calls(os.system, f"touch {mark}"))]),
    "apply by map": lambda mark: Calls(list, Calls(map, os.system, [f"touch {mark}"])),
    "torch.load": lambda mark: Calls(torch.load, mark),
    "torch.hub.load": lambda _: Calls(torch.hub.load, "a/b", "c"),
    "compile": lambda _: Calls(builtins.compile, "1", "x", "eval"),
}


@pytest.mark.slow
@ZIPPED
@pytest.mark.parametrize("supervision", ["fully", "weakly"])
@pytest.mark.parametrize(("module", "name"), [("vscgfully_model", "vscg_net"), ("GTM3_model", "GTM3"), ("__main__x", "GTM")])
def test_whole_modules_give_their_tensors(tmp_path: Path, supervision: str, module: str, name: str, zipped: bool) -> None:
    """A whole pickled network gives every tensor under its state_dict name, although its classes do not exist."""
    with authors_network(supervision, module=module, name=name) as network:
        path = save(network, tmp_path / "x.pt", zipped=zipped)
        want = {key: value.numpy() for key, value in network.state_dict().items()}
    got = read_checkpoint(path)
    assert (len(got), sum(array.size for array in got.values())) == TENSORS[supervision]
    assert list(got) == list(want)
    assert all(np.array_equal(got[key], want[key]) for key in want)


@ZIPPED
@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_state_dicts_give_their_tensors(tmp_path: Path, zipped: bool, protocol: int) -> None:
    """Views, transposes, steps, scalars, empty and half tensors are read unchanged, with every pickle protocol."""
    torch.save(small_state(), tmp_path / "x.pt", _use_new_zipfile_serialization=zipped, pickle_protocol=protocol)
    got = read_checkpoint(tmp_path / "x.pt")
    assert got.keys() == small_state().keys()
    for key, tensor in small_state().items():
        assert got[key].dtype == tensor.numpy().dtype
        assert np.array_equal(got[key], tensor.numpy())


@ZIPPED
def test_wrapped_state_dicts_are_found(tmp_path: Path, zipped: bool) -> None:
    """A state_dict beside an optimizer's state, with DataParallel's prefix, gives names without the prefix."""
    state = {f"module.{key}": value for key, value in small_state().items()}
    save({"epoch": 3, "optimizer": {"step": torch.ones(2)}, "state_dict": state}, tmp_path / "x.pt", zipped=zipped)
    assert read_checkpoint(tmp_path / "x.pt").keys() == small_state().keys()


@ZIPPED
def test_only_what_is_wanted_is_read(tmp_path: Path, zipped: bool) -> None:
    """`keep` selects tensors by name."""
    save(small_state(), tmp_path / "x.pt", zipped=zipped)
    assert list(read_checkpoint(tmp_path / "x.pt", keep=lambda name: name == "half")) == ["half"]


@pytest.mark.parametrize("write", [archive, stream])
@pytest.mark.parametrize("protocol", [0, 1, 2, 4, 5])
@pytest.mark.parametrize("attack", HOSTILE)
def test_hostile_pickles_run_nothing(tmp_path: Path, write: Callable[[bytes, Path], Path], attack: str, protocol: int) -> None:
    """Every attack ends in one ModelError and has no effect."""
    mark = tmp_path / "was_run"
    path = write(pickle.dumps(HOSTILE[attack](str(mark)), protocol=protocol), tmp_path / "x.pt")
    with pytest.raises(ModelError, match=r"refused and nothing of it was run"):
        read_checkpoint(path)
    assert not mark.exists()
    assert list(tmp_path.iterdir()) == [path]


def test_calls_of_unknown_classes_are_refused(tmp_path: Path) -> None:
    """A class of another package becomes a node that stores a state; a call of it is refused."""
    path = archive(b"csomewhere.else\nthing\n(X\x04\x00\x00\x00evil\x85R.".replace(b"(X", b"X"), tmp_path / "x.pt")
    with pytest.raises(ModelError, match="calls a class"):
        read_checkpoint(path)


def tensor_program(shape: tuple[int, ...], strides: tuple[int, ...], offset: int, count: int) -> bytes:
    """Pickle a state_dict with one tensor that has the given size, strides and offset."""
    out = io.BytesIO()

    class Claims:
        def __reduce__(self) -> tuple[object, tuple[object, ...]]:
            return (torch._utils._rebuild_tensor_v2, (Stored(), offset, shape, strides, False, OrderedDict()))

    class Stored:
        pass

    class Pickler(pickle.Pickler):
        def persistent_id(self, obj: object) -> object:
            return ("storage", torch.FloatStorage, "0", "cpu", count) if isinstance(obj, Stored) else None

    Pickler(out, protocol=2).dump({"w": Claims()})
    return out.getvalue()


@pytest.mark.parametrize(
    ("shape", "strides", "offset", "count"),
    [
        ((1 << 20, 1 << 20), (1 << 20, 1), 0, 4),
        ((1 << 29,), (0,), 0, 4),
        ((4,), (1,), 1, 4),
        ((2, 2), (3, 1), 0, 4),
        ((4,), (1,), 0, 1 << 29),
        ((4,), (1,), 0, 5),
        ((4,), (-1,), 3, 4),
        ((-4,), (1,), 0, 4),
        ((4,), (1,), -1, 4),
        ((2, 2), (2,), 0, 4),
        ((1,) * 40, (1,) * 40, 0, 4),
        ((4,), (1,), 0, 1 << 62),
    ],
)
def test_tensors_must_lie_in_their_storage(
    tmp_path: Path, shape: tuple[int, ...], strides: tuple[int, ...], offset: int, count: int
) -> None:
    """Sizes, strides and offsets beyond the content of the file are refused before memory is allocated."""
    path = archive(tensor_program(shape, strides, offset, count), tmp_path / "x.pt", storages={"0": bytes(16)})
    with pytest.raises(ModelError):
        read_checkpoint(path)


def test_a_tensor_of_the_same_form_is_read(tmp_path: Path) -> None:
    """A correct tensor of the same form as the refused tensors above is read."""
    path = archive(tensor_program((2, 2), (2, 1), 0, 4), tmp_path / "x.pt", storages={"0": np.arange(4, dtype="<f4").tobytes()})
    assert np.array_equal(read_checkpoint(path)["w"], [[0, 1], [2, 3]])


def test_compressed_archives_are_refused(tmp_path: Path) -> None:
    """A zip bomb is not unpacked, because torch never compresses."""
    path = archive(
        tensor_program((1 << 24,), (1,), 0, 1 << 24), tmp_path / "x.pt", storages={"0": bytes(1 << 26)}, compression=zipfile.ZIP_DEFLATED
    )
    assert path.stat().st_size < 100_000
    with pytest.raises(ModelError, match="compressed"):
        read_checkpoint(path)


@pytest.mark.parametrize("write", [archive, stream])
def test_programs_that_ask_for_memory_are_refused(tmp_path: Path, write: Callable[[bytes, Path], Path]) -> None:
    """Deeply nested tuples (their hash recurses in C) and a memo of four billion entries are refused."""
    nested = b"\x80\x02})" + b"\x85" * 2_000_000 + b"K\x01s."
    memo = b"\x80\x02}r" + struct.pack("<I", 0xFFFFFFFF) + b"."
    for program in (nested, memo):
        with pytest.raises(ModelError, match="memory"):
            read_checkpoint(write(program, tmp_path / "x.pt"))


@pytest.mark.timeout(20)  # interpreted, these would run for years, in C
@pytest.mark.parametrize("use", [b"}hdNs", b"c__builtin__\nset\n(hdtR", b"c__builtin__\nset\n(](hdetR"], ids=["key", "set", "list"])
def test_tuples_that_hold_each_other_many_times_are_refused(use: bytes) -> None:
    """Nested pairs of one shared tuple, used as a key or in a set, are refused before they are hashed 2**40 times."""
    program = b"\x80\x02)qd" + b"hdhd\x86qd" * 40 + use + b"."
    with pytest.raises(RefusedError, match="tuples"):
        run_program(program)


def test_modules_that_hold_themselves_are_refused(tmp_path: Path) -> None:
    """A module that contains itself ends in an error, not in an endless loop."""
    program = b"\x80\x02chere\nnet\n)\x81q\x00}X\x08\x00\x00\x00_modules}X\x01\x00\x00\x00ah\x00ssb."
    with pytest.raises(ModelError, match="nested without end"):
        read_checkpoint(archive(program, tmp_path / "x.pt"))


@pytest.mark.parametrize(
    "content",
    [b"", b"PK\x03\x04", b"\x89HDF\r\n\x1a\n" + bytes(100), b"{}", b"\x80\x02.", b"ID3" * 50, b"\x08\x00\x00\x00\x00\x00\x00\x00{}"],
)
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    """A file that is not a checkpoint gives one clear error."""
    path = tmp_path / "x.pt"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"x\.pt"):
        read_checkpoint(path)


def test_torchscript_missing_and_large_files_are_refused(tmp_path: Path) -> None:
    """A TorchScript archive, a missing file, a folder, and a file above the limit give a ModelError."""
    with zipfile.ZipFile(tmp_path / "script.pt", "w") as file:
        file.writestr("a/data.pkl", b"}.")
        file.writestr("a/constants.pkl", b").")
    save(small_state(), tmp_path / "x.pt")
    for path, limit in ((tmp_path / "script.pt", 10_000), (tmp_path / "none.pt", 10_000), (tmp_path, 10_000), (tmp_path / "x.pt", 100)):
        with pytest.raises(ModelError):
            read_checkpoint(path, limit=limit)


@ZIPPED
@settings(cases(60), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damage_never_gives_anything_but_a_model_error(tmp_path: Path, zipped: bool, data: st.DataObject) -> None:
    """A file truncated or changed at any place is read or refused; no other error occurs."""
    whole = bytearray(save(small_state(), tmp_path / "whole.pt", zipped=zipped).read_bytes())
    if data.draw(st.booleans()):
        whole = whole[: data.draw(st.integers(0, len(whole) - 1))]
    for place in data.draw(st.lists(st.integers(0, max(0, len(whole) - 1)), max_size=4)):
        if whole:
            whole[place] = data.draw(st.integers(0, 255))
    path = tmp_path / "damaged.pt"
    path.write_bytes(whole)
    try:
        read_checkpoint(path)
    except ModelError as exc:
        if "damaged.pt" not in str(exc):
            raise
