"""Computes event ids that sort by time and are the same in every replay.

It uses no clock and no random numbers: the caller gives time and seed.
"""

from __future__ import annotations

import hashlib
from typing import Final

__all__ = ["TIME_LETTERS", "ulid"]

TIME_LETTERS: Final = 10
"""Letters of an id that hold its time; the other sixteen hold the hash."""

_CROCKFORD: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


def ulid(time_ms: int, seed: str) -> str:
    """Return an id of 26 characters that sorts by time: 48 bits of *time_ms*, then 80 bits of the SHA-256 of *seed*.

    Source: github.com/ulid/spec, with the random part replaced by a hash (MQTT contract, section 5.4).
    """
    number = ((time_ms & (1 << 48) - 1) << 80) | int.from_bytes(hashlib.sha256(seed.encode()).digest()[:10], "big")
    return "".join(_CROCKFORD[(number >> shift) & 31] for shift in range(125, -1, -5))
