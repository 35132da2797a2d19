"""Keeps the memory of a long run together: few heaps of the C library instead of one for each thread.

glibc gives threads heaps ("arenas") of their own, up to eight for each processor. In a run one thread fills pictures and sound and another
one frees them, and each reconnect brings a new thread, so holes collect in every heap. Two heaps hold the same data with fewer holes
(figures: docs/reliability.md).
"""

from __future__ import annotations

import ctypes
import os
import sys
from typing import Final

__all__ = ["keep_heaps_few"]

_ARENA_MAX: Final = -8
"""M_ARENA_MAX in glibc's malloc.h."""
_HEAPS: Final = 2
"""The usual value for programs of many threads that pass blocks on to each other (our choice; measured in docs/reliability.md)."""


def keep_heaps_few() -> bool:
    """Limit the heaps of this process; return whether the C library took the limit.

    Only glibc knows this limit. MALLOC_ARENA_MAX in the environment has precedence. Threads that already run keep their heaps, so it
    should be called before there are many.
    """
    if not sys.platform.startswith("linux") or "MALLOC_ARENA_MAX" in os.environ:
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):  # musl has no such function
        return False
    return bool(mallopt(_ARENA_MAX, _HEAPS))
