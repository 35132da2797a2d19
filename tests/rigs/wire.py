"""A wire between a client and a server that can be cut or slowed down, as a network can: bytes are kept back, connections stay open."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from rigs.services import free_port

__all__ = ["Wire"]

_BLOCK = 65_536


class Wire:
    """Passes TCP connections of the loopback interface on to another port."""

    def __init__(self, target: int) -> None:
        """Store the port of the server."""
        self.port = free_port()
        self._target = target
        self._whole = asyncio.Event()
        self._whole.set()
        self._delay_s = 0.0
        self._block = _BLOCK
        self._late_s = 0.0
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Begin to listen."""
        self._server = await asyncio.start_server(self._join, "127.0.0.1", self.port)

    async def close(self) -> None:
        """End all connections."""
        if self._server is not None:
            self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def cut(self) -> None:
        """Keep back every byte; nobody is told."""
        self._whole.clear()

    def mend(self) -> None:
        """Pass bytes on again, also those that were kept back."""
        self._whole.set()

    def slow(self, delay_s: float, block: int) -> None:
        """Pass on at most *block* bytes in each *delay_s* seconds, in each direction."""
        self._delay_s, self._block = delay_s, block

    def late(self, delay_s: float) -> None:
        """Let every byte arrive *delay_s* seconds later, in each direction, as over a long line."""
        self._late_s = delay_s

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.close()
            return
        both = [asyncio.create_task(self._pass(reader, far_writer)), asyncio.create_task(self._pass(far_reader, writer))]
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for one in both:
                one.cancel()
            await asyncio.gather(*both, return_exceptions=True)
            for end in (writer, far_writer):
                end.close()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(self._block):
                await self._whole.wait()
                if self._delay_s:
                    await asyncio.sleep(self._delay_s)
                if self._late_s:
                    asyncio.get_running_loop().call_later(self._late_s, writer.write, data)
                    continue
                writer.write(data)
                await writer.drain()
