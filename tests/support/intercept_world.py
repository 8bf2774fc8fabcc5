"""A door that reads the TLS of two hosts, a server behind each, and programs that trust the cell's authority."""

from __future__ import annotations

import asyncio
import contextlib
import re
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from certificates import certificate
from fake_internet import OTHER, PUBLIC, Client, FakeInternet, OpenedDoor, internet, opened
from patience import PATIENCE_SECONDS

from runners.egress.authority import make_authority
from runners.egress.messages import Authority, Limits, Secret

HOST = "secret.example"
"""Read, and the secret's."""
READ = "read.example"
"""Read, and nobody's secret is for it."""
UNREAD = "unread.example"
"""A tunnel like any other."""
VALUE = "s3cr3t-value"
SECRETS = (Secret("token", (HOST, UNREAD), VALUE),)
BEARER = "authorization: Bearer {{secret:token}}"
DECOY = "a-key-that-opens-nothing-at-all"
HOSTS = (HOST, READ, UNREAD)


@dataclass
class Requests:
    """A server of HTTP/1.1 that keeps each request, head and body, and answers as its path says."""

    received: list[bytes] = field(default_factory=list)
    connections: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while await self._one(reader, writer):
                pass
        writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = await reader.readuntil(b"\r\n\r\n")
        if b"/early" in head:
            writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
            await writer.drain()
        if b"expect: 100-continue" in head:
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = b""
        if b"transfer-encoding" in head:
            while size := int(await reader.readuntil(b"\r\n"), 16):
                body += await reader.readexactly(size)
                await reader.readexactly(2)
            await reader.readexactly(2)
        elif length := re.search(rb"content-length: (\d+)", head):
            body = await reader.readexactly(int(length[1]))
        self.received.append(head + body)
        answers = {
            b"/chunked": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n1\r\n!\r\n0\r\n\r\n",
            b"/until-end": b"HTTP/1.1 200 OK\r\n\r\nok",
            b"/both": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n2\r\nok\r\n0\r\n\r\n",
            b"/short": b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok",
            b"/upgraded": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
            b"/large": b"HTTP/1.1 200 OK\r\nContent-Length: 5000000\r\n\r\n" + b"x" * 5_000_000,
        }
        path = head.split(b" ")[1]
        answer = answers.get(path, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n")
        writer.write(answer if path in answers else answer + (b"" if head.startswith(b"HEAD") else b"ok"))
        await writer.drain()
        return path not in {b"/until-end", b"/both", b"/short", b"/goes", b"/early"}


class InnerClient:
    """A program that has begun TLS inside a tunnel."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self.reader, self.writer = client.reader, client.writer

    async def send(self, *lines: str, body: bytes = b"") -> None:
        """Send a request, by its lines."""
        self.writer.write("\r\n".join([*lines, "", ""]).encode("latin-1") + body)
        await self.writer.drain()

    async def answer(self) -> tuple[int, bytes]:
        """Read one answer: its status and its body."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            head = (await self.reader.readuntil(b"\r\n\r\n")).lower()
            status = int(head.split(b" ")[1])
            if status == 100:
                return status, b""
            if length := re.search(rb"content-length: (\d+)", head):
                return status, await self.reader.readexactly(int(length[1]))
            if b"chunked" in head:
                return status, await self.reader.readuntil(b"0\r\n\r\n")
            return status, await self.reader.read()

    async def ask(self, *lines: str, body: bytes = b"") -> tuple[int, bytes]:
        await self.send(*lines, body=body)
        return await self.answer()

    async def get(self, path: str = "/", host: str = HOST, *fields: str) -> tuple[int, bytes]:
        return await self.ask(f"GET {path} HTTP/1.1", f"Host: {host}", *fields)

    async def rest(self) -> bytes:
        """Read until the end."""
        return await self._client.rest()


@dataclass(frozen=True)
class InterceptWorld:
    """The door, its internet, its servers, and whom a program in the cell trusts."""

    net: FakeInternet
    door: OpenedDoor
    servers: dict[str, Requests]
    authority: Authority
    bundle: Path

    @property
    def server(self) -> Requests:
        return self.servers[HOST]

    def trust(self) -> ssl.SSLContext:
        """Return a client's context with the cell's bundle."""
        return ssl.create_default_context(cafile=str(self.bundle))

    async def inside(
        self, host: str = HOST, *, name: str = "", trust: ssl.SSLContext | None = None
    ) -> InnerClient:
        """Open a tunnel and begin TLS in it; with another name in its hello, if so. Raises OSError."""
        client = await self.door.client()
        answer = await client.connect(f"{host}:443")
        assert answer.status == 200, answer
        await client.writer.start_tls(trust or self.trust(), server_hostname=name or host)
        return InnerClient(client)


@asynccontextmanager
async def intercept_world(
    directory: Path, hosts: Sequence[str] = (HOST, READ), limits: Limits | None = None
) -> AsyncIterator[InterceptWorld]:
    """A world in which these hosts are read."""
    authority = make_authority("agent", tuple(hosts))
    servers = {host: Requests() for host in HOSTS}
    places = dict(zip(HOSTS, (PUBLIC, OTHER, "199.7.91.13"), strict=True))
    roots, bundle = "", directory / "bundle.pem"
    async with internet() as net:
        for host, address in places.items():
            tls = certificate(directory / host, host)
            roots += (directory / host).read_text()
            net.name(host, [address])
            await net.serve(address, 443, servers[host].serve, tls)
        bundle.write_text(roots.replace((directory / HOST).read_text(), "") + authority.certificate)
        net.trusted = ssl.create_default_context(cadata=roots)
        async with opened(
            net, *HOSTS, limits=limits, secrets=SECRETS, decoys=(DECOY,), authority=authority
        ) as door:
            yield InterceptWorld(net, door, servers, authority, bundle)
