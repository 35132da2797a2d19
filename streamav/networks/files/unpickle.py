"""Interprets the pickle inside a PyTorch checkpoint without calling any function that it names, and lists the tensors it describes.

A pickle is a program for a small virtual machine. It may name any function and call it. Here the program is first read opcode by
opcode, and refused when it holds an opcode that checkpoints do not need. Then every name is looked up in a short list; each name in
the list stands for a harmless object of this module. A class outside torch and the standard library (the network's own) becomes an
empty node. Any other name is refused. This module opens no file: `torchfile` finds the program and the numbers.
"""

from __future__ import annotations

import io
import pickle
import pickletools
import sys
import warnings
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self, cast

import numpy as np

from streamav.networks.files.tuple_size import MAX_TUPLE_SIZE, TupleSizes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

__all__ = ["MAX_ENTRIES", "MAX_PICKLE_BYTES", "Program", "RefusedError", "Storage", "Tensor", "named_tensors", "run_program"]

MAX_PICKLE_BYTES = 4 << 20
"""Largest program; that of a whole VSCG module has about 50 kB."""
MAX_TUPLES = 10_000
"""Limits how deep tuples can nest: the hash of a nested tuple recurses in C without a check."""
MAX_ENTRIES = 10_000
"""Largest number of archive entries, modules and tensors."""
MAX_DEPTH = 32
MAX_DIMENSIONS = 8
MAX_COUNT = 1 << 30
MAX_NAME = 200
"""Bounds of what a checkpoint may hold: depth of modules, axes of a tensor, elements, letters of a name (our choice; VGG-19 is far
below)."""

_OPCODE_NAMES = """
    PROTO FRAME STOP MARK POP NONE NEWTRUE NEWFALSE BININT BININT1 BININT2 LONG1 BINFLOAT
    BINUNICODE SHORT_BINUNICODE BINSTRING SHORT_BINSTRING EMPTY_LIST APPEND APPENDS EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3
    EMPTY_DICT SETITEM SETITEMS EMPTY_SET ADDITEMS BINGET LONG_BINGET BINPUT LONG_BINPUT MEMOIZE
    GLOBAL STACK_GLOBAL REDUCE NEWOBJ BUILD BINPERSID
"""
"""The opcodes that torch.save writes with pickle protocols 2 to 5, in Python 2 and 3."""
_OPCODES = frozenset(_OPCODE_NAMES.split())
_DTYPES = {"Float": "<f4", "Half": "<f2", "Double": "<f8", "Long": "<i8", "Int": "<i4", "Short": "<i2", "Char": "<i1", "Byte": "<u1"}
_LAYERS = (
    "activation.ReLU",
    "activation.Sigmoid",
    "container.Sequential",
    "conv.Conv1d",
    "dropout.Dropout",
    "linear.Linear",
    "normalization.LayerNorm",
    "pooling.MaxPool1d",
    "rnn.GRU",
    "rnn.LSTM",
)
"""The layers of torch in the authors' modules, read in pickles of both variants."""
_WRAPPERS = ("state_dict", "model_state_dict", "model", "net")
"""Usual keys of a state_dict inside a larger dictionary."""
_OLD_BUILTINS = ("__builtin__", "copy_reg")


class RefusedError(Exception):
    """The file needs something that is not allowed; `torchfile` turns this into a ModelError that names the file."""


class _Node:
    """Stands for a module of any class: stores its state and does nothing else."""

    __slots__ = ("state",)

    def __new__(cls, *_: object) -> Self:
        node = object.__new__(cls)
        node.state = None
        return node

    def __init__(self, *_: object) -> None:
        # NEWOBJ creates modules without a call of __init__; only a call in the pickle (REDUCE) reaches this.
        msg = "it calls a class; no checkpoint needs that"
        raise RefusedError(msg)

    def __setstate__(self, state: object) -> None:
        self.state = state


@dataclass(frozen=True, slots=True)
class _Dtype:
    """Stands for a storage class such as torch.FloatStorage."""

    dtype: np.dtype[np.generic]


@dataclass(frozen=True, slots=True)
class Storage:
    """A block of numbers in the file, not read yet."""

    key: str
    dtype: np.dtype[np.generic]
    count: int


@dataclass(frozen=True, slots=True)
class Tensor:
    """A view of a storage. Its bounds are checked; its numbers are not read yet."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def view(self, numbers: NDArray[np.generic]) -> NDArray[np.generic]:
        """Return the tensor as a read-only view of its storage."""
        size = numbers.dtype.itemsize
        strides = tuple(step * size for step in self.strides)
        return np.lib.stride_tricks.as_strided(numbers[self.offset :], self.shape, strides, writeable=False)


@dataclass(frozen=True, slots=True)
class Program:
    """The result of a pickle program."""

    value: object
    length: int
    """Length of the pickle, bytes."""
    storages: dict[str, Storage]
    """All storages that the pickle names, by key."""


class _RebuildTensor:
    """Stands for torch._utils._rebuild_tensor and _rebuild_tensor_v2."""

    __slots__ = ()

    def __call__(self, storage: object, offset: object, shape: object, strides: object, *_: object) -> Tensor:
        """Check a tensor's place in its storage and return the tensor."""
        if not isinstance(storage, Storage) or not _is_count(offset):
            msg = "it builds a tensor from something that is not a storage"
            raise RefusedError(msg)
        sizes, steps = _counts(shape), _counts(strides)
        start = cast("int", offset)
        elements = int(np.prod(sizes, dtype=object)) if sizes else 1
        last = start + sum((n - 1) * step for n, step in zip(sizes, steps, strict=True)) if elements else start
        if elements > storage.count or (last >= storage.count if elements else start > storage.count):
            msg = f"it builds a tensor of shape {sizes} from a storage of {storage.count} numbers"
            raise RefusedError(msg)
        return Tensor(storage, start, sizes, steps)


class _RebuildParameter:
    """Stands for torch._utils._rebuild_parameter."""

    __slots__ = ()

    def __call__(self, data: object, *_: object) -> object:
        """Return the tensor unchanged."""
        return data


def _allowed() -> dict[tuple[str, str], object]:
    """Return all names that a checkpoint may use, with the object that each stands for."""
    names: dict[tuple[str, str], object] = {
        ("__builtin__", "set"): set,
        ("builtins", "set"): set,
        ("collections", "OrderedDict"): OrderedDict,
        ("torch._utils", "_rebuild_tensor"): _RebuildTensor(),
        ("torch._utils", "_rebuild_tensor_v2"): _RebuildTensor(),
        ("torch._utils", "_rebuild_parameter"): _RebuildParameter(),
    }
    for name, code in _DTYPES.items():
        for module in ("torch", "torch.cuda"):
            names[module, f"{name}Storage"] = _Dtype(np.dtype(code))
    for layer in _LAYERS:
        module, _, name = layer.partition(".")
        names[f"torch.nn.modules.{module}", name] = _Node
    return names


class _Unpickler(pickle.Unpickler):
    """The unpickler of the standard library, restricted to our list of names."""

    def __init__(self, program: bytes) -> None:
        super().__init__(io.BytesIO(program), encoding="utf-8")  # files written by Python 2 hold byte strings
        self._names = _allowed()
        self.storages: dict[str, Storage] = {}

    def find_class(self, module: str, name: str) -> object:
        """Return the object that a name stands for; nothing is imported."""
        if (module, name) in self._names:
            return self._names[module, name]
        root = module.partition(".")[0]
        if root == "torch" or root in sys.stdlib_module_names or root in _OLD_BUILTINS:
            msg = f"it names {module}.{name}, which no supported checkpoint needs"
            raise RefusedError(msg)
        return _Node

    def persistent_load(self, pid: object) -> object:
        """Return a storage, or the class of a module (old files also hold the class's source text, which is ignored)."""
        match pid:
            case ("module", klass, *_) if klass is _Node:
                return klass
            case ("storage", _Dtype(dtype), str(key), str(), count, *view) if _is_count(count) and view in ([], [None]):
                storage = self.storages.setdefault(key, Storage(key, dtype, cast("int", count)))
                if (storage.dtype, storage.count) == (dtype, count):
                    return storage
        msg = "it refers to an outside object that is not a storage, or that differs from an earlier declaration of it"
        raise RefusedError(msg)


def run_program(program: bytes) -> Program:
    """Check a pickle's opcodes, then interpret it; bytes after the end of the pickle are ignored.

    Raises:
        RefusedError: when it needs anything that a checkpoint does not need.
        Exception: any exception that the unpickler raises for damaged input.
    """
    tuples = used = 0
    sizes = TupleSizes()
    for name, argument, place in _opcodes(program):
        if name not in _OPCODES:
            msg = f"it holds the pickle opcode {name}, which no checkpoint needs"
            raise RefusedError(msg)
        tuples += name.startswith("TUPLE")
        # The unpickler's memo is an array as long as the largest index.
        if tuples > MAX_TUPLES or (name == "LONG_BINPUT" and cast("int", argument) > len(program)):
            msg = "its pickle needs more memory than any checkpoint"
            raise RefusedError(msg)
        if not sizes.step(name, argument):
            msg = (
                f"its pickle is damaged, or nests tuples to more than {MAX_TUPLE_SIZE} values and so needs more memory than any checkpoint"
            )
            raise RefusedError(msg)
        used = place + 1
    machine = _Unpickler(program[:used])
    return Program(machine.load(), used, machine.storages)


def _opcodes(program: bytes) -> Iterator[tuple[str, object, int]]:
    """Yield name, argument and position of each opcode."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # pickletools decodes invalid escapes in text that is refused afterwards
        for opcode, argument, place in pickletools.genops(program):
            yield opcode.name, argument, cast("int", place)


def named_tensors(root: object) -> dict[str, Tensor]:
    """Return the tensors of a module, of a state_dict, or of a dictionary that holds one of them, by the names of state_dict().

    A leading "module." (DataParallel) is removed from the names.

    Raises:
        RefusedError: when there are no tensors, or a state_dict holds anything else.
    """
    if isinstance(root, dict):
        inner = next((root[name] for name in _WRAPPERS if isinstance(root.get(name), (dict, _Node))), None)
        root = root if inner is None else inner
    pairs = list(_of_module(root, "", [0], 0) if isinstance(root, _Node) else _of_dict(root))
    if not pairs:
        msg = "it holds no tensors"
        raise RefusedError(msg)
    return {name.removeprefix("module."): tensor for name, tensor in pairs}


def _of_dict(root: object) -> Iterator[tuple[str, Tensor]]:
    if not isinstance(root, dict) or len(root) > MAX_ENTRIES:
        msg = f"it must hold a module or a state_dict, got {type(root).__name__}"
        raise RefusedError(msg)
    for name, value in root.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            msg = f"a state_dict must hold tensors by name, got {type(value).__name__} at {str(name)[:80]!r}"
            raise RefusedError(msg)
        yield name, value


def _of_module(node: _Node, prefix: str, seen: list[int], depth: int) -> Iterator[tuple[str, Tensor]]:
    """Yield a module's parameters and buffers, then those of its parts, in the order of torch's state_dict()."""
    seen[0] += 1
    state = node.state
    if not isinstance(state, dict) or depth > MAX_DEPTH or seen[0] > MAX_ENTRIES:
        msg = "it must hold a module or a state_dict, got another object, or one that is nested without end"
        raise RefusedError(msg)
    for group in ("_parameters", "_buffers"):
        for name, value in _items(state, group):
            if isinstance(value, Tensor):
                yield prefix + name, value
    for name, part in _items(state, "_modules"):
        if isinstance(part, _Node):
            yield from _of_module(part, f"{prefix}{name}.", seen, depth + 1)


def _items(state: dict[object, object], group: str) -> Iterator[tuple[str, object]]:
    members = state.get(group, {})
    if not isinstance(members, dict) or len(members) > MAX_ENTRIES:
        msg = f"a module's {group} must be a dictionary, got {type(members).__name__}"
        raise RefusedError(msg)
    for name, value in members.items():
        if not isinstance(name, str) or len(name) > MAX_NAME:
            msg = f"a module's {group} must have names, got {type(name).__name__}"
            raise RefusedError(msg)
        yield name, value


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_COUNT


def _counts(values: object) -> tuple[int, ...]:
    if not isinstance(values, tuple) or len(values) > MAX_DIMENSIONS or not all(_is_count(value) for value in values):
        msg = "it builds a tensor whose shape or strides are not a short tuple of counts"
        raise RefusedError(msg)
    return values
