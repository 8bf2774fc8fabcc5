"""A server's sockets, the connections that come in by them, and the one timer that watches over these."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Collection

from epad.gateway.http.connection import REST_SECONDS, Connection, Shared
from epad.gateway.http.request import Handler
from epad.listeners.accepting import BACKLOG, Accepting
from epad.listeners.connection_limits import Crowd
from epad.runtime.listener_handover import NoHandover
from epad.runtime.timers import sleep_to_beat

_LONGEST_SWEEP_SECONDS = 1.0
# One subsystem's own listener has an eighth of the connections that the one for everyone has.
_OWN_PART = 8
# What a severed answer has to tell its client why, before its connection is broken off.
_CUT_SECONDS = 0.5


class Listener:
    """Holds one socket, which may rest, and be one subsystem's alone.

    A subsystem with a socket of its own that hammers although it is refused is let in at a bounded rate: its
    connections are closed, and the socket accepts nothing for a while. It is not closed: another program could
    take the port, and a client that asks now and then would get no reason any more, in whatever dialect.
    """

    def __init__(self, server: socket.socket, shared: Shared, owner: str, most: int) -> None:
        """`owner` is the subsystem whose alone it is; a socket that others use too has none, and never rests."""
        self.owner = owner
        self.listening = server
        self._shared = shared
        self._rests_until = 0.0
        self._loop = asyncio.get_running_loop()
        self._accepting = Accepting(
            server,
            Crowd(most, max(1, most // 2)),
            lambda: Connection(self._shared, self),
            f"gateway:{owner}" if owner else "gateway",
            self._rested,
        )

    @property
    def address(self) -> tuple[str, int]:
        """Return its address on TCP."""
        host, port = self.listening.getsockname()[:2]
        return str(host), int(port)

    def rest(self) -> bool:
        """Accept no one for a while, and close the accepted connections; False if it is not one subsystem's alone."""
        if not self.owner:
            return False
        self._rests_until = self._loop.time() + REST_SECONDS
        for connection in list(self._shared.connections):
            if connection.entrance is self:
                connection.close_when_idle()
        return True

    def left(self, connection: Connection) -> None:
        """Count the end of one of its connections."""
        self._accepting.crowd.leave(connection)

    async def close(self) -> None:
        """Listen no more."""
        await self._accepting.close()

    async def _rested(self) -> None:
        """Wait for the end of the rest, which may be put off meanwhile."""
        rest = self._rests_until - self._loop.time()
        while rest > 0:
            await asyncio.sleep(rest)
            rest = self._rests_until - self._loop.time()


class HttpServer:
    """Listens in any number of places, with one handler behind them all."""

    def __init__(
        self,
        handler: Handler,
        max_body_bytes: int,
        stall_seconds: float,
        max_connections: int = 4_096,
        handover: NoHandover | None = None,
    ) -> None:
        """Keep the limits. `stall_seconds` is how long a client may take to send a body, or to read an answer.

        `max_connections` is for each listener at once. `handover` knows the sockets of the daemon before.
        """
        self.shared = Shared(handler, max_body_bytes, stall_seconds)
        self._max_connections = max_connections
        self.handover = handover or NoHandover()
        self._listeners: list[Listener] = []
        self._sweep_seconds = min(_LONGEST_SWEEP_SECONDS, stall_seconds / 4)
        self._sweeping: asyncio.Task[None] | None = None

    async def listen(self, host: str, port: int, owner: str = "") -> tuple[str, int]:
        """Listen on every address of a host, on one port; return the first. Raises OSError."""
        found = await asyncio.get_running_loop().getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        sockets: list[socket.socket] = []
        try:
            for family, _, _, _, place in dict.fromkeys(found):
                chosen = sockets[0].getsockname()[1] if sockets else place[1]
                left = self.handover.take((str(place[0]), int(chosen)))
                sockets.append(
                    left or socket.create_server((place[0], chosen), family=family, backlog=BACKLOG)
                )
        except OSError:
            for each in sockets:
                self.handover.drop(each)
                each.close()
            raise
        listeners = [self.listen_on(each, owner) for each in sockets]
        return listeners[0].address

    def listen_on(self, server: socket.socket, owner: str = "", *, handed_over: bool = True) -> Listener:
        """Listen on a socket that is bound; `owner` is the subsystem whose alone it is.

        One that is not `handed_over` ends with this daemon.
        """
        most = max(8, self._max_connections // _OWN_PART) if owner else self._max_connections
        listener = Listener(server, self.shared, owner, most)
        if handed_over:
            self.handover.keep(server)
        self._listeners.append(listener)
        if self._sweeping is None:
            self._sweeping = asyncio.create_task(self._sweep(), name="connections")
        return listener

    async def close_door(self, owner: str, kept: Collection[Listener] = ()) -> None:
        """Listen no more at one subsystem's own sockets but those `kept`; who came in by them is served to the end."""
        for listener in self.listeners_of(owner):
            if listener not in kept:
                self._listeners.remove(listener)
                self.handover.drop(listener.listening)
                await listener.close()
                for connection in self._came_in_by(listener):
                    connection.close_when_idle()

    async def cut(self, listener: Listener) -> None:
        """Listen no more at a socket, and hang up on all who came in by it: idle ones now, the others very soon."""
        if listener in self._listeners:
            self._listeners.remove(listener)
        guests = self._came_in_by(listener)
        for guest in guests:
            guest.close_when_idle()
        asyncio.get_running_loop().call_later(_CUT_SECONDS, _break_off, guests)
        await listener.close()

    def listeners_of(self, owner: str) -> list[Listener]:
        """Return the sockets that are one subsystem's alone."""
        return [listener for listener in self._listeners if listener.owner == owner]

    def _came_in_by(self, listener: Listener) -> list[Connection]:
        return [one for one in self.shared.connections if one.entrance is listener]

    async def stop(self, seconds: float) -> None:
        """Stop listening, give the requests in hand so long, interrupt the rest, and close every connection."""
        self.shared.stopping = True
        listeners, self._listeners = self._listeners, []
        for listener in listeners:
            await listener.close()
        for connection in list(self.shared.connections):
            connection.close_when_idle()
        tasks = {task for each in self.shared.connections if (task := each.task) is not None}
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=seconds)
            for task in late:
                task.cancel()
            await asyncio.wait(tasks, timeout=seconds)
        for connection in list(self.shared.connections):
            connection.abort()
        sweeping, self._sweeping = self._sweeping, None
        if sweeping is not None:
            sweeping.cancel()
            await asyncio.wait({sweeping})

    async def _sweep(self) -> None:
        """Close the connections past their deadline: one timer for all, where one for each took 4 us a request."""
        loop = asyncio.get_running_loop()
        while True:
            await sleep_to_beat(self._sweep_seconds)
            now = loop.time()
            for connection in list(self.shared.connections):
                if connection.deadline <= now:
                    connection.expire()


def _break_off(connections: Collection[Connection]) -> None:
    for connection in connections:
        connection.abort()
