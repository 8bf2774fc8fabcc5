"""Copy bytes between a client and a server, both ways at once, counted, until both have ended or somebody cuts."""

from __future__ import annotations

import asyncio
import contextlib

from runners.egress.network import READ_BYTES, Streams


class Tunnel:
    """Two connections as one. `up` and `down` count the bytes sent on; `moved_at` is the time of the last."""

    def __init__(self, client: Streams, server: Streams) -> None:
        self._client = client
        self._server = server
        self._now = asyncio.get_running_loop().time
        self.up = 0
        self.down = 0
        self.opened_at = self.moved_at = self._now()

    async def run(self) -> None:
        """Copy both ways. A side that has ended is told to the other; a broken one ends both."""
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(self._copy_up())
                both.create_task(self._copy_down())
        except* OSError:
            self.cut()

    async def send(self, data: bytes) -> None:
        """Send bytes to the server, and count them. Raises OSError."""
        _, writer = self._server
        self.up += len(data)
        self.moved_at = self._now()
        writer.write(data)
        await writer.drain()

    async def answer(self, data: bytes) -> None:
        """Send bytes to the client, and count them. Raises OSError."""
        _, writer = self._client
        self.down += len(data)
        self.moved_at = self._now()
        writer.write(data)
        await writer.drain()

    async def copy_down(self, most: int | None = None) -> None:
        """Send on the bytes of the server, until it ends or so many bytes have come. Raises OSError."""
        reader, _ = self._server
        left = most
        while left is None or left > 0:
            data = await reader.read(READ_BYTES if left is None else min(left, READ_BYTES))
            if not data:
                return
            left = None if left is None else left - len(data)
            await self.answer(data)

    def cut(self) -> None:
        """End both connections now, whatever is under way."""
        for _, writer in (self._client, self._server):
            writer.transport.abort()

    async def _copy_up(self) -> None:
        reader, _ = self._client
        while data := await reader.read(READ_BYTES):
            await self.send(data)
        _end(self._server)

    async def _copy_down(self) -> None:
        await self.copy_down()
        _end(self._client)


def _end(streams: Streams) -> None:
    """Tell the other end of a connection that no more comes."""
    _, writer = streams
    with contextlib.suppress(OSError):
        writer.write_eof()
