"""Reads what an engine depends on in this machine: versions of libraries, the processor, NVIDIA's driver. It depends on no engine."""

from __future__ import annotations

import sys
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "gpu_memory_bytes",
    "has_nvidia_driver",
    "instructions",
    "int8_saturates",
    "library_version",
    "library_versions",
    "processor_name",
]

NVIDIA_DRIVERS = (Path("/proc/driver/nvidia/version"), Path("/dev/dxg"), Path("/dev/nvmap"))
"""Files and devices of NVIDIA's drivers: of a card in a PC, of WSL 2 (which uses the GPU through Windows), of a Jetson.

WSL 2 has /dev/dxg for GPUs of other makers too. torch then reports that it sees no GPU.
"""
_CPUINFO = Path("/proc/cpuinfo")


def has_nvidia_driver() -> bool:
    """Return whether this machine may have a GPU of NVIDIA with its driver; this imports no torch."""
    return any(path.exists() for path in NVIDIA_DRIVERS)


def library_version(package: str) -> str:
    """Return the version of an installed package, or "absent"."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "absent"


def library_versions(packages: Iterable[str]) -> str:
    """Return names and versions of packages in one line."""
    return " ".join(f"{name} {library_version(name)}" for name in packages)


def instructions() -> str:
    """Return the processor's vector instruction sets, not its model: the instruction sets decide which engine runs and how fast."""
    flags = (_cpuinfo("flags", "Features") or "unknown").split()
    vectors = ("avx", "amx", "fma", "asimd", "sve", "i8mm", "bf16", "unknown")
    return " ".join(sorted(flag for flag in flags if flag.startswith(vectors)))


def int8_saturates() -> bool:
    """Return whether sums of two products of int8 are cut off at 16 bits: on x86 without VNNI, where weights should use seven bits.

    Source: onnxruntime.ai, "Quantize ONNX models", on accuracy loss of U8S8 on AVX2 and AVX512.
    """
    flags = instructions().split()
    return any(flag.startswith("avx") for flag in flags) and not any("vnni" in flag or flag == "amx_int8" for flag in flags)


def processor_name() -> str:
    """Return the processor's model name, for display."""
    return _cpuinfo("model name") or "processor"


def gpu_memory_bytes() -> int | None:
    """Return the bytes of GPU memory that torch holds in this process, of all GPUs; None where no GPU is used. It loads nothing."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available() or not torch.cuda.is_initialized():
        return None
    return sum(int(torch.cuda.memory_reserved(number)) for number in range(torch.cuda.device_count()))


def _cpuinfo(*names: str) -> str | None:
    """Return the first field of /proc/cpuinfo with one of these names; None when there is none."""
    try:
        with _CPUINFO.open(encoding="ascii", errors="replace") as file:
            return next((line.partition(":")[2].strip() for line in file if line.startswith(names)), None)
    except OSError:
        return None
