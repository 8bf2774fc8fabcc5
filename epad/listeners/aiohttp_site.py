"""An aiohttp application behind a listener that counts its connections and has a deadline for the idle ones.

aiohttp waits for a first request for ever, and asyncio logs every connection that finds no descriptor.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Any, cast

from aiohttp import web

from epad.listeners.accepting import Accepting
from epad.listeners.connection_limits import Crowd
from epad.runtime.timers import sleep_to_beat

# For the first byte; a browser opens a connection or two in advance, and opens others when those are closed.
SILENT_SECONDS = 15.0
# For the rest of a head, and between two requests; a scraper asks every 15 to 60 s.
IDLE_SECONDS = 75.0
_SWEEP_SECONDS = 2.0


class _Visitor(asyncio.Protocol):
    """A connection on its way to aiohttp's own protocol: all is passed on, and when something came is noted."""

    def __init__(self, inner: asyncio.Protocol, crowd: Crowd) -> None:
        self._inner = inner
        self._crowd = crowd
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._answered = 0
        self.heard = False
        self.since = self._loop.time()

    @property
    def busy(self) -> bool:
        """Tell if aiohttp has a request in hand; each answer keeps this young."""
        return getattr(self._inner, "_current_request", None) is not None

    def as_protocol(self) -> asyncio.Protocol:
        return self

    def send_away(self) -> None:
        """Close it at once."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._inner.connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._crowd.leave(self)
        self._inner.connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        answered = getattr(self._inner, "_request_count", 0)
        if (
            not self.heard or answered != self._answered
        ):  # else it goes on with a head, which is as old as it began
            self.since = self._loop.time()
        self.heard, self._answered = True, answered
        self._inner.data_received(data)

    def eof_received(self) -> bool | None:
        return self._inner.eof_received()

    def pause_writing(self) -> None:
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        self._inner.resume_writing()


class Site:
    """Serves an application at an address, from `start` to `stop`."""

    def __init__(self, app: web.Application, name: str, most: int, shutdown_seconds: float = 60.0) -> None:
        """Keep the parts. `most` is the number of connections at once; `name` is its name in the log."""
        self._runner = web.AppRunner(
            app,
            access_log=None,
            handle_signals=False,
            shutdown_timeout=shutdown_seconds,
            keepalive_timeout=IDLE_SECONDS,
        )
        self._name = name
        self._crowd = Crowd(most, max(1, most // 2))
        self._accepting: list[Accepting] = []
        self._sweeping: asyncio.Task[None] | None = None

    async def listen(self, listen: str) -> tuple[str, int]:
        """Listen on HOST:PORT, on every address of the host; return the first. Raises OSError."""
        host, _, port = listen.rpartition(":")
        found = await asyncio.get_running_loop().getaddrinfo(
            host.strip("[]") or None, int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        sockets: list[socket.socket] = []
        try:
            for family, _, _, _, place in dict.fromkeys(found):
                chosen = sockets[0].getsockname()[1] if sockets else place[1]
                sockets.append(socket.create_server((place[0], chosen), family=family))
        except OSError:
            for each in sockets:
                each.close()
            raise
        for each in sockets:
            await self.listen_on(each)
        bound = sockets[0].getsockname()
        return str(bound[0]), int(bound[1])

    async def listen_on(self, server: socket.socket) -> None:
        """Listen on a socket that is bound."""
        if self._sweeping is None:
            await self._runner.setup()
            self._sweeping = asyncio.create_task(self._sweep(), name=f"connections:{self._name}")
        make = cast("Any", self._runner.server)
        self._accepting.append(
            Accepting(server, self._crowd, lambda: _Visitor(make(), self._crowd), self._name)
        )

    async def stop(self) -> None:
        """Stop listening, end the requests in progress, and close."""
        accepting, self._accepting = self._accepting, []
        for each in accepting:
            await each.close()
        sweeping, self._sweeping = self._sweeping, None
        if sweeping is not None:
            sweeping.cancel()
            await asyncio.wait({sweeping})
            await self._runner.cleanup()

    async def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await sleep_to_beat(_SWEEP_SECONDS)
            now = loop.time()
            self._crowd.age_from(now)
            for guest in self._crowd.expired(now - SILENT_SECONDS, now - IDLE_SECONDS):
                guest.send_away()


def url(address: tuple[str, int], path: str = "/") -> str:
    """Return the URL of an address."""
    host, port = address
    return f"http://[{host}]:{port}{path}" if ":" in host else f"http://{host}:{port}{path}"
