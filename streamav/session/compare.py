"""Compares the messages of a replay with those of the recorded run. Pure: it takes bytes and returns the first difference."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Difference", "compare_events"]


@dataclass(frozen=True, slots=True)
class Difference:
    """The first message that differs."""

    number: int
    """From 1."""
    keys: tuple[str, ...]
    """Keys of the message whose values differ; empty when one side has no such message."""
    recorded: str
    """The recorded values, as JSON; empty when there is none."""
    replayed: str

    def __str__(self) -> str:
        """Return the difference in words."""
        if not self.replayed:
            return f"message {self.number} of the recorded run is missing in the replay: {self.recorded}"
        if not self.recorded:
            return f"message {self.number} of the replay is not in the recorded run: {self.replayed}"
        return f"message {self.number} differs in {', '.join(self.keys)}: recorded {self.recorded}, replayed {self.replayed}"


def compare_events(recorded: bytes, replayed: bytes, *, cut: bool) -> tuple[int, Difference | None]:
    """Return how many messages are the same from the start, and the first difference; None when there is none.

    Args:
        recorded: lines of the recorded run.
        replayed: lines of the replay.
        cut: True when the recording was cut off; then either side may have more messages than the other.
    """
    ours, theirs = _lines(recorded), _lines(replayed)
    same = next((place for place, (one, other) in enumerate(zip(ours, theirs, strict=False)) if one != other), min(len(ours), len(theirs)))
    if same == len(ours) == len(theirs) or (cut and same == min(len(ours), len(theirs))):
        return same, None
    one, other = (lines[same] if same < len(lines) else b"" for lines in (ours, theirs))
    keys = _different_keys(one, other) if one and other else ()
    return same, Difference(same + 1, keys, _shown(one, keys), _shown(other, keys))


def _lines(content: bytes) -> Sequence[bytes]:
    return content.split(b"\n")[:-1]


def _different_keys(one: bytes, other: bytes) -> tuple[str, ...]:
    try:
        first, second = json.loads(one), json.loads(other)
    except ValueError:
        return ()
    return tuple(key for key in {**first, **second} if first.get(key) != second.get(key))


def _shown(line: bytes, keys: Sequence[str]) -> str:
    try:
        tree = json.loads(line)
    except ValueError:
        return line.decode("utf-8", "replace")
    wanted = keys or ("type", "label", "media_start_s", "media_end_s")
    return json.dumps({key: tree.get(key) for key in wanted}, ensure_ascii=False)
