"""Reads the tensors of a file that torch.save wrote (.pt, .pth), in either of its two formats, without torch.

No code in the file is run (see `unpickle`), and every size that the file declares is checked: storages must have the declared size
in the file, and archives must be uncompressed. It works for any network and returns arrays by name.
"""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
from typing import TYPE_CHECKING, Protocol

import numpy as np

from streamav.errors import ModelError, reason_of
from streamav.networks.files.unpickle import MAX_ENTRIES, MAX_PICKLE_BYTES, Program, RefusedError, Storage, named_tensors, run_program

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["MAX_BYTES", "read_checkpoint"]

MAX_BYTES = 1 << 30
"""Largest checkpoint: VGG-19 with its classifier is 575 MB."""
READ_BYTES = 16 << 20
"""Most bytes of one read, so that a false size in a header cannot use up the memory."""

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
LEGACY_VERSION = 1001
"""Source: pytorch torch/serialization.py, MAGIC_NUMBER and PROTOCOL_VERSION."""

_FAILURES = (
    pickle.UnpicklingError,
    zipfile.BadZipFile,
    struct.error,
    ArithmeticError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    NotImplementedError,
    RecursionError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""Exceptions that pickle, zipfile and numpy raise for damaged input."""


class _SmallReads(io.FileIO):
    """A file that refuses reads of more than READ_BYTES, so that a false size in a header cannot use up the memory."""

    def read(self, size: int | None = -1, /) -> bytes:
        """Read at most *size* bytes; raise RefusedError when that is more than READ_BYTES."""
        rest = max(0, self._length() - self.tell())
        wanted = rest if size is None or size < 0 else min(size, rest)
        if wanted > READ_BYTES:
            msg = "its directory is larger than that of any checkpoint"
            raise RefusedError(msg)
        return super().read(wanted) or b""

    def _length(self) -> int:
        here = self.tell()
        end = self.seek(0, io.SEEK_END)
        self.seek(here)
        return end


class _Container(Protocol):
    """A file format that holds one pickle program and the storages it names."""

    root: object

    def storage(self, storage: Storage) -> NDArray[np.generic]:
        """Read the numbers of a storage."""


class _Archive:
    """The zip format of torch >= 1.6: <name>/data.pkl and one entry <name>/data/<key> for each storage."""

    def __init__(self, file: _SmallReads, length: int) -> None:
        self._zip = zipfile.ZipFile(file)
        entries = self._zip.infolist()
        if len(entries) > MAX_ENTRIES or len({entry.filename for entry in entries}) != len(entries):
            msg = "its directory has too many entries, or one entry twice"
            raise RefusedError(msg)
        if any(entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1 for entry in entries):
            msg = "its entries are compressed or encrypted; the entries of a checkpoint never are"
            raise RefusedError(msg)
        if sum(entry.file_size for entry in entries) > length:
            msg = "the declared sizes of its entries exceed the size of the file"
            raise RefusedError(msg)
        programs = [entry.filename for entry in entries if entry.filename.endswith("/data.pkl")]
        scripts = [entry.filename for entry in entries if entry.filename.endswith("/constants.pkl")]
        if len(programs) != 1 or scripts:
            msg = "it is a zip archive, but torch.save did not write it (TorchScript is not supported)"
            raise RefusedError(msg)
        self._folder = programs[0].removesuffix("data.pkl")
        order = self._folder + "byteorder"
        if order in self._zip.namelist() and self._bytes(order, 16) != b"little":
            msg = "it was written on a big-endian machine"
            raise RefusedError(msg)
        self.root = run_program(self._bytes(programs[0], MAX_PICKLE_BYTES)).value

    def storage(self, storage: Storage) -> NDArray[np.generic]:
        """Read the numbers of a storage; there must be exactly as many as the program declares."""
        size = storage.count * storage.dtype.itemsize
        data = self._bytes(f"{self._folder}data/{storage.key}", size)
        if len(data) != size:
            msg = f"storage {storage.key} must have {size} bytes, got {len(data)}"
            raise RefusedError(msg)
        return np.frombuffer(data, storage.dtype)

    def _bytes(self, name: str, limit: int) -> bytes:
        size = self._zip.getinfo(name).file_size
        if size > limit:
            msg = f"its entry {name} must have at most {limit} bytes, got {size}"
            raise RefusedError(msg)
        data = bytearray()
        with self._zip.open(name) as entry:  # zipfile checks the CRC at the end
            while block := entry.read(1 << 20):
                data += block
        return bytes(data)


class _Stream:
    """The older format: five pickles in a row (magic number, version, system, object, storage keys), then the storages."""

    def __init__(self, file: _SmallReads, length: int) -> None:
        self._file, self._length = file, length
        if self._next() != LEGACY_MAGIC or self._next() != LEGACY_VERSION:
            msg = "torch.save did not write it"
            raise RefusedError(msg)
        system = self._next()
        if not isinstance(system, dict) or system.get("little_endian") is not True:
            msg = "it was written on a big-endian machine"
            raise RefusedError(msg)
        program = self._run()
        self.root = program.value
        keys = self._next()
        if not isinstance(keys, list) or len(keys) > MAX_ENTRIES:
            msg = "its list of storages is damaged"
            raise RefusedError(msg)
        self._places = self._locate([program.storages[key] for key in keys], file.tell())

    def storage(self, storage: Storage) -> NDArray[np.generic]:
        """Read the numbers of a storage."""
        self._file.seek(self._places[storage.key])
        data = bytearray()
        size = storage.count * storage.dtype.itemsize
        while len(data) < size:
            block = self._file.read(min(READ_BYTES, size - len(data)))
            if not block:
                raise EOFError
            data += block
        return np.frombuffer(bytes(data), storage.dtype)

    def _locate(self, storages: list[Storage], place: int) -> dict[str, int]:
        """Return the position of each storage; the file holds them one after the other, each after its length."""
        places: dict[str, int] = {}
        for storage in storages:
            self._file.seek(place)
            (count,) = struct.unpack("<q", self._file.read(8))
            places[storage.key] = place + 8
            place += 8 + storage.count * storage.dtype.itemsize
            if count != storage.count or place > self._length:
                msg = f"storage {storage.key} must have {storage.count} numbers, but the file declares {count} or ends before"
                raise RefusedError(msg)
        return places

    def _run(self) -> Program:
        here = self._file.tell()
        program = run_program(self._file.read(MAX_PICKLE_BYTES))
        self._file.seek(here + program.length)
        return program

    def _next(self) -> object:
        return self._run().value


def read_checkpoint(path: Path, *, keep: Callable[[str], bool] | None = None, limit: int = MAX_BYTES) -> dict[str, NDArray[np.generic]]:
    """Read the tensors of a whole-module pickle or of a state_dict, in the zip format of torch >= 1.6 or the older one.

    Args:
        path: the file.
        keep: returns True for the name of each wanted tensor; None for all. Other tensors are not read.
        limit: largest size of the file, bytes.

    Returns:
        Arrays by the names of the state_dict, without DataParallel's leading "module."; read-only, in their stored type.

    Raises:
        ModelError: when the file is missing, too large, damaged or not a checkpoint, or needs anything that a checkpoint does not need.
    """
    try:
        length = path.stat().st_size
        if not path.is_file() or length > limit:
            msg = f"a checkpoint must be a file of at most {limit} bytes, got {path} with {length}"
            raise ModelError(msg)
        with _SmallReads(path) as file:
            return _read(file, length, keep or (lambda _: True))
    except RefusedError as exc:
        msg = f"{path} is refused and nothing of it was run: {exc}"
        raise ModelError(msg) from None
    except OSError as exc:
        msg = f"the checkpoint {path} cannot be read: {reason_of(exc)}"
        raise ModelError(msg) from exc
    except _FAILURES as exc:
        msg = f"{path} must be a whole checkpoint written by torch.save; it is damaged or of another kind ({type(exc).__name__}: {exc})"
        raise ModelError(msg) from exc


def _read(file: _SmallReads, length: int, keep: Callable[[str], bool]) -> dict[str, NDArray[np.generic]]:
    is_archive = file.read(4) == b"PK\x03\x04"
    file.seek(0)
    container: _Container = _Archive(file, length) if is_archive else _Stream(file, length)
    numbers: dict[str, NDArray[np.generic]] = {}
    found: dict[str, NDArray[np.generic]] = {}
    for name, tensor in named_tensors(container.root).items():
        if keep(name):
            if tensor.storage.key not in numbers:
                numbers[tensor.storage.key] = container.storage(tensor.storage)
            found[name] = tensor.view(numbers[tensor.storage.key])
    return found
