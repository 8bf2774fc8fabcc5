"""Connections to servers, kept for the next request."""

from __future__ import annotations

import asyncio
import socket
import ssl
from typing import NamedTuple

from aiohappyeyeballs import start_connection

from epad.gateway.http.client import ClientConnection, Incoming
from epad.gateway.http.message import read_buffer
from epad.runtime.timers import sleep_to_beat

# uvicorn, and so vLLM, closes an idle connection after 5 s; reusing one in that instant loses the request.
KEEP_ALIVE_SECONDS = 4.0
# RFC 8305, for hosts of several addresses. For this one there is nothing to race.
_HAPPY_EYEBALLS_SECONDS = 0.25
_LOCAL = frozenset({"127.0.0.1", "::1", "localhost"})
_LONGEST_SWEEP_SECONDS = 1.0


class NotConnectedError(ConnectionError):
    """No connection could be made: nothing was sent."""


class Origin(NamedTuple):
    """Names a server: a host and a port, with TLS or without; or the path of a Unix socket."""

    host: str = ""
    port: int = 0
    tls: bool = False
    path: str = ""


async def _reach(host: str, port: int) -> socket.socket:
    """A socket that is connected to whichever of a host's addresses answers first. Raises OSError, UnicodeError.

    uvloop's own `create_connection` tries one address after the other, so a host whose IPv6 is dead costs a time-out.
    """
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return await start_connection(found, happy_eyeballs_delay=_HAPPY_EYEBALLS_SECONDS)


class Pool:
    """Connections by origin."""

    def __init__(self, connect_seconds: float, silent_seconds: float) -> None:
        """`silent_seconds` is how long a server may send nothing while it is to answer."""
        self._connect_seconds = connect_seconds
        self._silent_seconds = silent_seconds
        self._sweep_seconds = min(_LONGEST_SWEEP_SECONDS, silent_seconds / 4)
        self._idle: dict[Origin, list[ClientConnection]] = {}
        self._all: dict[ClientConnection, Origin] = {}
        self._buffer = read_buffer()
        self._tls: ssl.SSLContext | None = None
        self._sweeping: asyncio.Task[None] | None = None

    async def send(
        self, origin: Origin, message: bytes, *, repeatable: bool = False, body: bytes = b""
    ) -> Incoming:
        """Send a request, and return its answer when the head has come.

        One that is `repeatable` is sent once more where a kept connection had closed without a word.
        Raises NotConnectedError, ConnectionError, TimeoutError.
        """
        kept = self._take(origin)
        if kept is not None:
            try:
                return await kept.send(message, body).head()
            except ConnectionError:
                if not repeatable:
                    raise
        return await (await self._connect(origin)).send(message, body).head()

    async def close(self) -> None:
        """Close every connection."""
        sweeping, self._sweeping = self._sweeping, None
        if sweeping is not None:
            sweeping.cancel()
            await asyncio.wait({sweeping})
        for connection in list(self._all):
            connection.abort()
        self._idle.clear()
        # For the transports to close: what they tell, nobody waits for any more.
        await asyncio.sleep(0)

    def _take(self, origin: Origin) -> ClientConnection | None:
        """Return a kept connection, the last one used first: those that are not needed grow old."""
        idle = self._idle.get(origin)
        now = asyncio.get_running_loop().time()
        while idle:
            connection = idle.pop()
            if connection.is_open and now - connection.heard_at < KEEP_ALIVE_SECONDS:
                return connection
            connection.abort()
        return None

    async def _connect(self, origin: Origin) -> ClientConnection:
        loop = asyncio.get_running_loop()

        def make() -> ClientConnection:
            return ClientConnection(self._buffer, self._keep, self._forget)

        try:
            async with asyncio.timeout(self._connect_seconds):
                if origin.path:
                    _, connection = await loop.create_unix_connection(make, origin.path)
                elif origin.host in _LOCAL and not origin.tls:
                    _, connection = await loop.create_connection(make, origin.host, origin.port)
                else:
                    _, connection = await loop.create_connection(
                        make, sock=await _reach(origin.host, origin.port),
                        ssl=self._context() if origin.tls else None,
                        server_hostname=origin.host if origin.tls else None,
                    )  # fmt: skip
        except TimeoutError as error:
            raise NotConnectedError(f"no connection within {self._connect_seconds:g} s") from error
        except (OSError, UnicodeError) as error:  # a host's name that cannot be one is a UnicodeError
            raise NotConnectedError(str(error)) from error
        self._all[connection] = origin
        if self._sweeping is None:
            self._sweeping = asyncio.create_task(self._sweep(), name="upstream connections")
        return connection

    def _context(self) -> ssl.SSLContext:
        if self._tls is None:
            self._tls = ssl.create_default_context()
        return self._tls

    def _keep(self, connection: ClientConnection) -> None:
        origin = self._all.get(connection)
        if origin is not None:
            self._idle.setdefault(origin, []).append(connection)

    def _forget(self, connection: ClientConnection) -> None:
        origin = self._all.pop(connection, None)
        idle = self._idle.get(origin, []) if origin is not None else []
        if connection in idle:
            idle.remove(connection)

    async def _sweep(self) -> None:
        """Give up servers that are silent, and close idle connections: one timer for all of them."""
        loop = asyncio.get_running_loop()
        while True:
            await sleep_to_beat(self._sweep_seconds)
            now = loop.time()
            for connection in list(self._all):
                silent = now - connection.heard_at
                if connection.is_busy and silent >= self._silent_seconds:
                    connection.fail(TimeoutError(f"not a byte for {self._silent_seconds:g} s"))
            for idle in self._idle.values():
                for connection in [each for each in idle if now - each.heard_at >= KEEP_ALIVE_SECONDS]:
                    connection.abort()
