"""Damages files as disks and people do: in each block, cut short, emptied, replaced."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

__all__ = ["damaged_copies"]

BLOCK = 4096


def damaged_copies(content: bytes, seed: int = 1) -> Iterator[tuple[str, bytes]]:
    """Yield the name and the content of damaged copies: each block of 4096 bytes zeroed, or with bytes flipped; cut; replaced by text."""
    random = Random(seed)
    for start in range(0, len(content), BLOCK):
        size = min(BLOCK, len(content) - start)
        yield f"zeros at {start}", content[:start] + bytes(size) + content[start + size :]
        flipped = bytearray(content)
        for _ in range(20):
            flipped[start + random.randrange(size)] ^= 1 << random.randrange(8)
        yield f"flipped bits at {start}", bytes(flipped)
        yield f"noise at {start}", content[:start] + random.randbytes(size) + content[start + size :]
        yield f"cut at {start}", content[:start]
    yield "cut in a block", content[: len(content) * 2 // 3 + 7]
    yield "text", b"this is no database, it is a letter to the editor\n" * 40
    yield "header only", content[:100]
