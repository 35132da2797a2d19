"""Unwraps the items of a source for tests that look at data and states alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from streamav.types import AudioBlock, SourceContent, SourceState, StateChange, VideoFrame

__all__ = ["plain"]


def plain(items: Iterable[AudioBlock | VideoFrame | StateChange | SourceContent]) -> Iterator[AudioBlock | VideoFrame | SourceState]:
    """Yield sound, pictures and states; a state that is told again with another reason is left out."""
    last: SourceState | None = None
    for item in items:
        if isinstance(item, StateChange):
            if item.state is not last:
                yield item.state
            last = item.state
        elif not isinstance(item, SourceContent):
            yield item
