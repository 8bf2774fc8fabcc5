"""A door to a small internet, and what a program inside a cell may try at it.

An attempt does one thing over real sockets and says how it ended: `passed`, or the reason of the refusal or the cut.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from fake_internet import OTHER, PUBLIC, Client, FakeInternet, OpenedDoor, Received, internet, opened
from patience import until
from tls_hello import real_hello
from virtual_time import VirtualTime

from runners.egress.messages import Event, EventKind

PASSED = "passed"
HOST = "a.example"
"""The host that the rules name; `b.example` is one that they do not."""
RULES = (HOST, f"{HOST}:80", f"{HOST}:22", "*.wild.example")
SSH = b"SSH-2.0-OpenSSH_9.9\r\n"

Attempt = Callable[["Scene"], Awaitable[str]]


@dataclass
class WebServer:
    """A server of plain HTTP that keeps what it is sent, and answers or leads elsewhere."""

    received: bytearray = field(default_factory=bytearray)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            self.received += head
            if b"transfer-encoding" in head:
                self.received += await reader.readuntil(b"0\r\n\r\n")
            elif length := re.search(rb"content-length: (\d+)", head):
                self.received += await reader.readexactly(int(length[1]))
            if b"/not-http" in head:
                writer.write(b"220 ready\r\n\r\n")
            elif b"/upgraded" in head:
                writer.write(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n")
            elif place := re.match(rb"GET /to/(\S+)", head):
                writer.write(
                    b"HTTP/1.1 302 Found\r\nLocation: http://" + place[1] + b"\r\nContent-Length: 0\r\n\r\n"
                )
            else:
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


class Scene:
    """The internet, the door to it, and what its servers were sent."""

    def __init__(self, net: FakeInternet, door: OpenedDoor, virtual_time: VirtualTime) -> None:
        self.net, self.door = net, door
        self._virtual_time = virtual_time
        self.listed, self.other, self.web = Received(), Received(), WebServer()

    async def serve(self) -> None:
        """Have the servers of the listed host, and one of another that must never be reached."""
        for host in (HOST, "deep.wild.example"):
            self.net.name(host, [PUBLIC])
        self.net.name("b.example", [OTHER])
        for port in (22, 443):
            await self.net.serve(PUBLIC, port, self.listed.echo)
        await self.net.serve(PUBLIC, 80, self.web.serve)
        for port in (80, 443):
            await self.net.serve(OTHER, port, self.other.echo)

    async def pause(self, seconds: float) -> None:
        """Let virtual time pass."""
        await _pause(self._virtual_time, seconds)

    async def why(self) -> str:
        """Wait until the connection was refused or has ended, and return the reason."""

        def ends() -> list[Event]:
            return [one for one in self.door.events if one.kind in {EventKind.REFUSED, EventKind.CLOSED}]

        await until(ends, "an end")
        return ends()[-1].why

    async def exchange(self, client: Client, data: bytes, pieces: Sequence[bytes] = ()) -> str:
        """Send bytes through a tunnel, and see if they come back."""
        for piece in pieces or [data]:
            client.writer.write(piece)
            await asyncio.sleep(0)
        back = asyncio.create_task(client.reader.readexactly(len(data)))
        why = asyncio.create_task(self.why())
        await asyncio.wait({back, why}, return_when=asyncio.FIRST_COMPLETED)
        why.cancel()
        if back.done() and back.exception() is None:
            return PASSED if await back == data else "changed"
        back.cancel()
        await asyncio.gather(back, return_exceptions=True)
        return await self.why()


async def _pause(virtual_time: VirtualTime, seconds: float) -> None:
    del virtual_time  # by it the loop goes
    await asyncio.sleep(seconds)


@asynccontextmanager
async def scene(virtual_time: VirtualTime, *rules: str) -> AsyncIterator[Scene]:
    """A scene with these rules, or the usual ones."""
    async with internet() as net, opened(net, *(rules or RULES)) as door:
        one = Scene(net, door, virtual_time)
        await one.serve()
        yield one


def tunnel(target: str = f"{HOST}:443", first: bytes | None = None, pieces: Sequence[bytes] = ()) -> Attempt:
    """Ask for a tunnel, and send these bytes through it; by default a proper hello."""

    async def attempt(scene: Scene) -> str:
        client = await scene.door.client()
        answer = await client.connect(target)
        if answer.status != 200:
            return answer.code
        data = b"".join(pieces) or (real_hello(target.rpartition(":")[0]) if first is None else first)
        return await scene.exchange(client, data, pieces)

    return attempt


def leads_to(*answers: Sequence[str]) -> Attempt:
    """Reach the listed host, whose name leads to these addresses."""

    async def attempt(scene: Scene) -> str:
        scene.net.name(HOST, *answers)
        for address in answers[0]:
            await scene.net.serve(address, 443, scene.listed.echo)
        return await tunnel()(scene)

    return attempt


def lines(text: str) -> bytes:
    """Return the bytes of a text whose lines end by `|`."""
    return text.replace("|", "\r\n").encode("latin-1")


def plain(request: str, body: bytes = b"") -> Attempt:
    """Send a request by plain HTTP. Lines end by `|`."""

    async def attempt(scene: Scene) -> str:
        client = await scene.door.client()
        answer = await client.ask(lines(request) + body)
        return PASSED if answer.status < 400 else answer.code

    return attempt


def socks5(request: bytes, first: bytes = b"") -> Attempt:
    """Send a request of SOCKS5, then a hello."""

    async def attempt(scene: Scene) -> str:
        client = await scene.door.client()
        client.writer.write(b"\x05\x01\x00" + request)
        await client.reader.readexactly(2)
        reply = await client.reader.readexactly(10)
        if reply[1]:
            return await scene.why()
        return await scene.exchange(client, first or real_hello(HOST))

    return attempt


def raw(data: bytes) -> Attempt:
    """Send bytes to the door itself, and say why it ended."""

    async def attempt(scene: Scene) -> str:
        client = await scene.door.client()
        client.writer.write(data)
        await client.rest()
        return await scene.why()

    return attempt
