"""A small internet in one process: names with the answers they give, public addresses whose servers listen on loopback.

And a door to it, with the events that it reports.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from patience import PATIENCE_SECONDS, until
from tls_hello import real_hello

from runners.egress.door import Door
from runners.egress.messages import Authority, Decide, Event, EventKind, Limits, OpenDoor, Secret
from runners.egress.network import Streams, streams_of

PUBLIC = "93.184.216.34"
OTHER = "198.41.0.4"
Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def hang_up(writers: Sequence[asyncio.StreamWriter]) -> None:
    """End connections, and wait until they have ended."""
    for writer in writers:
        writer.transport.abort()
    for writer in writers:
        with contextlib.suppress(OSError):
            await writer.wait_closed()


class FakeInternet:
    """The network of a door under test."""

    def __init__(self) -> None:
        self.names: dict[str, list[Sequence[str]]] = {}
        """The answers that a name gives, one after the other; the last for ever."""
        self.own: set[str] = set()
        self.looked_up: list[str] = []
        self.connected: list[tuple[str, int]] = []
        self.silent_names: set[str] = set()
        self.silent: set[str] = set()
        self.trusted: ssl.SSLContext | None = None
        """Whom the door trusts where it speaks TLS itself."""
        self._places: dict[tuple[str, int], tuple[str, int]] = {}
        self._servers: list[asyncio.Server] = []
        self._writers: list[asyncio.StreamWriter] = []

    def name(self, host: str, *answers: Sequence[str]) -> None:
        """Give a name its answers."""
        self.names[host] = list(answers)

    async def serve(
        self, address: str, port: int, handler: Handler, tls: ssl.SSLContext | None = None
    ) -> None:
        """Have a server at an address."""
        server = await asyncio.start_server(self._kept(handler), "127.0.0.1", 0, ssl=tls)
        self._places[address, port] = server.sockets[0].getsockname()
        self._servers.append(server)

    async def look_up(self, host: str) -> Sequence[str]:
        self.looked_up.append(host)
        if host in self.silent_names:
            await asyncio.get_running_loop().create_future()
        if host not in self.names:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        answers = self.names[host]
        return answers.pop(0) if len(answers) > 1 else answers[0]

    def is_own(self, address: str) -> bool:
        return address in self.own

    async def connect(self, address: str, port: int, tls_name: str = "") -> Streams:
        self.connected.append((address, port))
        if address in self.silent:
            await asyncio.get_running_loop().create_future()
        if (address, port) not in self._places:
            raise ConnectionRefusedError(111, "Connection refused")
        connecting = socket.socket()
        connecting.setblocking(False)
        await asyncio.get_running_loop().sock_connect(connecting, self._places[address, port])
        return await streams_of(connecting, self.trusted if tls_name else None, tls_name)

    async def close(self) -> None:
        for server in self._servers:
            server.close()
        await hang_up(self._writers)

    def _kept(self, handler: Handler) -> Handler:
        """Have a server's connections end with the internet."""

        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self._writers.append(writer)
            await handler(reader, writer)

        return handle


@dataclass
class Received:
    """A server that keeps what it is sent, and sends it back."""

    data: bytearray = field(default_factory=bytearray)
    connections: int = 0
    writers: list[asyncio.StreamWriter] = field(default_factory=list)

    async def echo(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.writers.append(writer)
        try:
            while data := await reader.read(65_536):
                self.data += data
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()


@dataclass
class Answer:
    """What a client was answered: a status, and the reason of a refusal."""

    status: int
    body: bytes

    @property
    def code(self) -> str:
        """The reason of a refusal."""
        return str(json.loads(self.body)["error"]["code"])

    @property
    def message(self) -> str:
        return str(json.loads(self.body)["error"]["message"])


class Client:
    """A program inside a cell, at the door."""

    def __init__(self, streams: Streams) -> None:
        self.reader, self.writer = streams

    async def connect(self, target: str) -> Answer:
        """Ask for a tunnel."""
        return await self.ask(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n".encode())

    async def ask(self, request: bytes) -> Answer:
        """Send a request, and read the head of its answer, and the body if there is any."""
        self.writer.write(request)
        async with asyncio.timeout(PATIENCE_SECONDS):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
            status = int(head.split(" ")[1])
            if "connection: close" not in head:
                return Answer(status, b"")
            return Answer(status, await self.reader.read())

    async def send(self, data: bytes) -> bytes:
        """Send bytes, and read as many back."""
        self.writer.write(data)
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await self.reader.readexactly(len(data))

    async def rest(self) -> bytes:
        """Read until the end, whichever it is."""
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                return await self.reader.read()
        except ConnectionError:
            return b""


class OpenedDoor:
    """A door to a fake internet, open at a listener on loopback."""

    def __init__(self, order: OpenDoor, internet: FakeInternet) -> None:
        self.events: list[Event] = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.door = Door(order, internet, self.events.append)
        self._clients: list[Client] = []

    @property
    def port(self) -> int:
        return int(self.listener.getsockname()[1])

    async def client(self) -> Client:
        """Connect to the door."""
        client = Client(await asyncio.open_connection("127.0.0.1", self.port))
        self._clients.append(client)
        return client

    async def tunnel(self, host: str, port: int = 443) -> Client:
        """Open a tunnel with a proper hello, which the server has sent back."""
        client = await self.client()
        answer = await client.connect(f"{host}:{port}")
        assert answer.status == 200, answer
        hello = real_hello(host)
        assert await client.send(hello) == hello
        return client

    def of(self, kind: EventKind) -> list[Event]:
        """The events of a kind."""
        return [event for event in self.events if event.kind is kind]

    async def event(self, kind: EventKind) -> Event:
        """Wait for an event of a kind, and return the last."""
        await until(lambda: self.of(kind), f"an event {kind}")
        return self.of(kind)[-1]

    async def decide(self, *, allow: bool, **words: Any) -> None:
        """Answer the question that is open, as the daemon does."""
        asked = await self.event(EventKind.ASKED)
        assert self.door.decide(Decide(asked.connection, allow, **words))

    async def close(self) -> None:
        self.door.close()
        await self.door.ended()
        await hang_up([client.writer for client in self._clients])


@asynccontextmanager
async def opened(
    internet: FakeInternet,
    *rules: str,
    ask: bool = False,
    limits: Limits | None = None,
    secrets: tuple[Secret, ...] = (),
    decoys: tuple[str, ...] = (),
    authority: Authority | None = None,
) -> AsyncIterator[OpenedDoor]:
    """Open a door with these rules."""
    order = OpenDoor("agent", rules, ask, limits or Limits(), secrets, decoys, authority)
    door = OpenedDoor(order, internet)
    listening = asyncio.create_task(door.door.listen(door.listener))
    try:
        yield door
    finally:
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)
        await door.close()
        door.listener.close()


@asynccontextmanager
async def internet() -> AsyncIterator[FakeInternet]:
    """A fake internet, until the block ends."""
    one = FakeInternet()
    try:
        yield one
    finally:
        await one.close()
