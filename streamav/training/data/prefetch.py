"""Computes the next item of an iterator while the current item is used, at most one item ahead.

Items may be of any kind. Order and values are those of the iterator itself.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["prefetched"]

Item = TypeVar("Item")


def prefetched(items: Iterable[Item]) -> Iterator[Item]:
    """Yield *items*, each computed in a thread while the item before it is used; an error in an item is raised in that item's place."""
    iterator = iter(items)
    end = object()
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="streamav-prefetch") as pool:
        pending = pool.submit(next, iterator, end)
        while True:
            item = pending.result()
            if item is end:
                return
            pending = pool.submit(next, iterator, end)
            yield item  # type: ignore[misc] # `item` is not `end` here
