"""What this machine has on which an engine depends: versions of libraries, the processor, NVIDIA's driver. It knows no engine."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["NVIDIA_DRIVER", "instructions", "library_version", "library_versions", "processor_name"]

NVIDIA_DRIVER = Path("/proc/driver/nvidia/version")
"""Present where the kernel has loaded NVIDIA's driver."""
_CPUINFO = Path("/proc/cpuinfo")


def library_version(package: str) -> str:
    """Give the version of an installed package, or the word absent."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "absent"


def library_versions(packages: Iterable[str]) -> str:
    """Give names and versions of packages in one line."""
    return " ".join(f"{name} {library_version(name)}" for name in packages)


def instructions() -> str:
    """Name the processor by what it can do: its model may differ, its instructions are what counts."""
    flags = (_cpuinfo("flags", "Features") or "unknown").split()
    vectors = ("avx", "amx", "fma", "asimd", "sve", "i8mm", "bf16", "unknown")
    return " ".join(sorted(flag for flag in flags if flag.startswith(vectors)))


def processor_name() -> str:
    """Give the processor's name for people."""
    return _cpuinfo("model name") or "processor"


def _cpuinfo(*names: str) -> str | None:
    """Give what Linux says of the first core under one of these names; None where it says nothing."""
    try:
        with _CPUINFO.open(encoding="ascii", errors="replace") as file:
            return next((line.partition(":")[2].strip() for line in file if line.startswith(names)), None)
    except OSError:
        return None
