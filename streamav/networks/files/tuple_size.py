"""Bounds the work that the tuples of a pickle can cause, before the pickle is interpreted.

A tuple may hold another one many times: 40 nested pairs are 80 opcodes, but a dictionary that uses the outermost as a key visits 2**40
places, in C, where Ctrl-C does not reach. Here the program is followed with sizes in place of values.
"""

from __future__ import annotations

from typing import Final, cast

__all__ = ["MAX_TUPLE_SIZE", "TupleSizes"]

MAX_TUPLE_SIZE: Final = 1000
"""Most values in a tuple, those in inner tuples included, each as often as it occurs. In the authors' files it is below 30."""
_SHORT: Final = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_POPS: Final = {"POP": 1, "APPEND": 1, "SETITEM": 2, "BUILD": 1}
_TO_MARK: Final = frozenset({"APPENDS", "SETITEMS", "ADDITEMS"})
_MARK: Final = 0


class TupleSizes:
    """The stack and the memo of a pickle, where each value is replaced by its size: that of a tuple, else 1."""

    def __init__(self) -> None:
        self._stack: list[int] = []
        self._memo: dict[int, int] = {}

    def step(self, name: str, argument: object) -> bool:
        """Follow one opcode; return False when it makes a tuple above the bound, or the program is damaged."""
        try:
            return self._step(name, argument)
        except (IndexError, KeyError, ValueError):  # values or a mark are missing
            return False

    def _step(self, name: str, argument: object) -> bool:
        stack = self._stack
        if name in _POPS:
            del stack[len(stack) - self._there(_POPS[name]) :]
        elif name in _TO_MARK:
            self._to_mark()
        elif name == "TUPLE" or name in _SHORT:
            items = self._to_mark() if name == "TUPLE" else [stack.pop() for _ in range(_SHORT[name])]
            stack.append(1 + sum(items))
        elif name in {"REDUCE", "NEWOBJ"}:  # a call may return its argument
            size = stack.pop()
            stack[-1] = size
        elif name in {"BINGET", "LONG_BINGET"}:
            stack.append(self._memo[cast("int", argument)])
        elif name in {"BINPUT", "LONG_BINPUT", "MEMOIZE"}:
            self._memo[len(self._memo) if argument is None else cast("int", argument)] = stack[-1]
        elif name not in {"PROTO", "FRAME", "STOP"}:
            self._push(name)
        return not stack or stack[-1] <= MAX_TUPLE_SIZE

    def _push(self, name: str) -> None:
        if name == "STACK_GLOBAL":
            del self._stack[len(self._stack) - self._there(2) :]
        elif name == "BINPERSID":
            self._stack.pop()
        self._stack.append(_MARK if name == "MARK" else 1)

    def _there(self, count: int) -> int:
        if len(self._stack) < count:
            raise IndexError
        return count

    def _to_mark(self) -> list[int]:
        """Remove and return the values above the newest mark, and remove the mark."""
        items: list[int] = []
        while (size := self._stack.pop()) != _MARK:
            items.append(size)
        return items
