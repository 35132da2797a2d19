"""Reads how much memory this process has resident."""

from __future__ import annotations

import resource
import sys
from pathlib import Path
from typing import Literal

__all__ = ["peak_memory_mb", "resident_mb"]


def resident_mb(line: Literal["VmHWM", "VmRSS"]) -> float | None:
    """Return this process's resident memory from Linux, largest (VmHWM) or current (VmRSS), 10^6 bytes; None on other systems.

    Source: man 5 proc, /proc/pid/status.
    """
    try:
        text = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    return next((int(found.split()[1]) * 1024 / 1e6 for found in text.splitlines() if found.startswith(f"{line}:")), None)


def peak_memory_mb() -> float:
    """Return the largest resident memory of this process so far, 10^6 bytes.

    getrusage, used on systems other than Linux, may report the peak of the parent process (in KiB, on macOS in bytes).
    """
    known = resident_mb("VmHWM")
    if known is not None:
        return known
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6
