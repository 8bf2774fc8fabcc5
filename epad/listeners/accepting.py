"""Letting connections in by a socket: one at a time, counted, and quiet about it when there is no descriptor left."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import Protocol

import structlog

from epad.listeners.connection_limits import Crowd, Guest, origin_of

# Of connections that come at once; whose does not fit tries again a second later.
BACKLOG = 1_024
_NO_DESCRIPTORS_SECONDS = 0.1
_TOLD_SECONDS = 60.0


class GuestProtocol(Guest, Protocol):
    """A connection that asyncio can be given."""

    def as_protocol(self) -> asyncio.BaseProtocol:
        """Return the same, as asyncio sees it."""
        ...


class Accepting:
    """Accepts the connections of one socket, from `start` to `close`."""

    def __init__(
        self,
        server: socket.socket,
        crowd: Crowd,
        make: Callable[[], GuestProtocol],
        name: str,
        before: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """Keep the parts. `name` is the listener's name in the log; `before` is awaited before each connection."""
        self.crowd = crowd
        self._server = server
        self._make = make
        self._name = name
        self._before = before
        self._loop = asyncio.get_running_loop()
        self._told_at = float("-inf")
        self._untold = 0
        server.setblocking(False)
        server.listen(BACKLOG)
        self._task = asyncio.create_task(self._accept_all(), name=f"accept:{name}")

    async def close(self) -> None:
        """Listen no more."""
        self._task.cancel()
        await asyncio.wait({self._task})
        self._server.close()

    async def _accept_all(self) -> None:
        while True:
            try:
                client = await self._accept()
            except OSError as error:
                # No descriptors left, most likely: the idle give theirs, and who waits is served then.
                self.crowd.thin()
                self._tell("listener.not_accepted", str(error))
                await asyncio.sleep(_NO_DESCRIPTORS_SECONDS)
                continue
            try:
                await self._let_in(client)
            except OSError:
                client.close()  # it is gone again
            except asyncio.CancelledError:
                client.close()
                raise

    async def _accept(self) -> socket.socket:
        """Return the next one. Raises OSError."""
        try:
            return self._server.accept()[0]  # one that waits already costs no registration with the loop
        except BlockingIOError:
            client, _ = await self._loop.sock_accept(self._server)
            return client

    async def _let_in(self, client: socket.socket) -> None:
        if client.family != socket.AF_UNIX:
            # asyncio does so only for sockets that say they are TCP; events of a stream waited 40 ms.
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._before is not None:
            await self._before()
        origin = origin_of(client)
        if not self.crowd.admits(origin):
            client.close()
            self._tell("listener.full", f"{len(self.crowd)} connections, none of them idle")
            return
        guest = self._make()
        self.crowd.enter(guest, origin)
        try:
            await self._loop.connect_accepted_socket(guest.as_protocol, client)
        except BaseException:
            self.crowd.leave(guest)
            raise

    def _tell(self, event: str, reason: str) -> None:
        """Say it once a minute: whoever causes it causes it a thousand times a second."""
        now = self._loop.time()
        if now - self._told_at < _TOLD_SECONDS:
            self._untold += 1
            return
        structlog.get_logger("epad.listener").error(
            event, listener=self._name, error=reason, times_untold=self._untold
        )
        self._told_at, self._untold = now, 0
