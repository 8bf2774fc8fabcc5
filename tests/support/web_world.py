"""A door of the real way out to a small internet, in a thread: the surroundings of tools that use the network.

Names lead to public addresses whose servers listen on loopback; `routes` has the answers by host and path, and may be
added to by a test. All that the sites were asked is in `asked`.
"""

from __future__ import annotations

import asyncio
import base64
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha1
from pathlib import Path

from certificates import certificate
from fake_internet import OTHER, PUBLIC, FakeInternet, OpenedDoor, internet, opened
from patience import PATIENCE_SECONDS

from runners.egress.messages import EventKind

DUCKDUCKGO = "html.duckduckgo.com"
HOSTS = (
    *("www.example", "other.example", "search.example", DUCKDUCKGO),
    *("private.example", "rebind.example", "mixed.example"),
)
RULES = (*HOSTS, *(f"{host}:80" for host in HOSTS), "away.example:80", "127.0.0.1:8888", "www.example:9000")
CLOSED_PORT = 9000
PAGE = (
    '<html><head><title>A page</title><style>p{}</style></head><body><h1>Hello</h1><p>One <a href="/two">two</a>'
    "<script>alert(1)</script></p></body></html>"
)

SEARXNG_PAGE = (
    '{"query": "epad", "results": [{"title": "One", "url": "https://one.example/", "content": "The  first"},'
    ' {"title": "Two", "url": "https://two.example/", "content": null}], "unresponsive_engines": [["x", "timeout"]]}'
)
DUCKDUCKGO_PAGE = (
    '<div class="results"><div class="result results_links results_links_deep result--ad"><h2><a rel="nofollow"'
    ' class="result__a" href="https://duckduckgo.com/y.js?ad_domain=ad.example">An advertisement</a></h2></div>'
    '<div class="result results_links results_links_deep web-result "><h2 class="result__title"><a rel="nofollow"'
    ' class="result__a" href="//duckduckgo.com/l/?uddg=https%3A%2F%2Fone.example%2Fa%3Fb%3D1&amp;rut=0f">One &amp;'
    ' <b>first</b></a></h2><a class="result__snippet" href="//duckduckgo.com/l/?uddg=x">The <b>words</b>\n of it</a>'
    "</div></div>"
)


@dataclass(frozen=True)
class Asked:
    """A request as a site was sent it."""

    host: str
    method: str
    target: str
    head: str
    body: bytes
    over_tls: bool

    def field(self, name: str) -> str:
        """Return a field; empty without one."""
        for line in self.head.split("\r\n")[1:]:
            known, _, value = line.partition(":")
            if known.lower() == name:
                return value.strip()
        return ""


Answerer = Callable[[Asked], bytes | AsyncIterator[bytes]]
Socket = Callable[[Asked, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def accepted(asked: Asked) -> bytes:
    """Return the answer that begins WebSocket."""
    key = asked.field("sec-websocket-key").encode() + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
    proof = base64.b64encode(sha1(key, usedforsecurity=False).digest()).decode()
    return (
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Accept: {proof}\r\n\r\n"
    ).encode()


def text_frame(text: str) -> bytes:
    """Return a server's frame of one short text."""
    return bytes([0x81, len(text.encode())]) + text.encode()


async def client_frame(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """Read one short frame of a client; it is masked."""
    first, second = await reader.readexactly(2)
    assert second & 0x80
    mask = await reader.readexactly(4)
    data = await reader.readexactly(second & 0x7F)
    return first & 0x0F, bytes(each ^ mask[number % 4] for number, each in enumerate(data))


async def echo_socket(asked: Asked, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send each text back, and end after "hello"."""
    writer.write(accepted(asked))
    data = b""
    while data != b"hello":
        _, data = await client_frame(reader)
        writer.write(text_frame(data.decode()))
    writer.write(b"\x88\x00")
    await writer.drain()


def answer(
    body: bytes | str = b"", kind: str = "text/plain", status: str = "200 OK", **fields: str
) -> Answerer:
    """Return the answerer of one fixed answer; a field's name has `_` for `-`."""
    data = body.encode() if isinstance(body, str) else body
    more = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in fields.items())
    head = f"HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {len(data)}\r\n{more}\r\n"
    return lambda _: head.encode() + data


def redirect(to: str, status: str = "302 Found") -> Answerer:
    """Return the answerer that leads elsewhere."""
    return answer(status=status, location=to)


class WebWorld:
    """The door, the internet behind it, and what its sites were asked."""

    def __init__(self, loop: asyncio.AbstractEventLoop, bundle: Path) -> None:
        self._loop = loop
        self.bundle = bundle
        self.asked: list[Asked] = []
        self.routes: dict[tuple[str, str], Answerer] = {}
        self.sockets: dict[tuple[str, str], Socket] = {}
        self.net: FakeInternet
        self.door: OpenedDoor

    @property
    def options(self) -> tuple[str, str]:
        """Return the options of a worker that has this way out."""
        return "--way-out", f"127.0.0.1:{self.door.port}"

    @property
    def environment(self) -> dict[str, str]:
        """Return the variables of a worker that trusts these sites."""
        return {"SSL_CERT_FILE": str(self.bundle), "EPAD_SEARXNG": "https://search.example"}

    def fresh(self) -> None:
        """Have the routes and the names of the beginning."""
        self.asked.clear()
        self.door.events.clear()
        self.net.connected.clear()
        self.net.looked_up.clear()
        self.routes.clear()
        self.routes |= {
            ("www.example", "/page"): answer(PAGE, "text/html; charset=utf-8"),
            ("www.example", "/data.json"): answer('{"a": 1}', "application/json"),
            ("www.example", "/echo"): lambda asked: answer(asked.body, "text/plain")(asked),
            ("www.example", "/graphql"): answer('{"data": {"name": "x"}}', "application/json"),
            ("www.example", "/openapi.json"): answer('{"openapi": "3.1.0", "paths": {}}', "application/json"),
            ("search.example", "/search"): answer(SEARXNG_PAGE, "application/json"),
            (DUCKDUCKGO, "/html/"): answer(DUCKDUCKGO_PAGE, "text/html"),
        }
        self.sockets.clear()
        self.sockets["www.example", "/socket"] = echo_socket
        self.net.name(DUCKDUCKGO, [OTHER])
        self.net.name("www.example", [PUBLIC])
        self.net.name("other.example", [OTHER])
        self.net.name("search.example", [OTHER])
        self.net.name("private.example", ["10.0.0.7"])
        self.net.name("rebind.example", [PUBLIC], ["127.0.0.1"])
        self.net.name("mixed.example", [PUBLIC, "169.254.169.254"])

    def count(self, kind: EventKind) -> int:
        """Return how many events of a kind the way out has reported."""
        return len(self.door.of(kind))

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request, and hang up."""
        try:
            asked = await self._read(reader, writer)
            self.asked.append(asked)
            path = asked.target.partition("?")[0]
            socket = self.sockets.get((asked.host, path))
            if socket is not None:
                await socket(asked, reader, writer)
                return
            missing = answer("not here", status="404 Not Found")
            said = self.routes.get((asked.host, path), missing)(asked)
            if isinstance(said, bytes):
                writer.write(said)
            else:
                async for piece in said:
                    writer.write(piece)
                    await writer.drain()
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _read(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Asked:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        method, target, _ = head.split(" ", 2)
        over_tls = writer.get_extra_info("ssl_object") is not None
        bare = Asked("", method, target, head, b"", over_tls)
        body = await reader.readexactly(int(bare.field("content-length") or 0))
        return Asked(bare.field("host").partition(":")[0], method, target, head, body, over_tls)


@contextmanager
def web_world(folder: Path) -> Iterator[WebWorld]:
    """Run a web world until the block ends."""
    loop = asyncio.new_event_loop()
    world = WebWorld(loop, folder / "roots.pem")
    ready, over = threading.Event(), asyncio.Event()
    thread = threading.Thread(target=loop.run_until_complete, args=(_run(world, ready, over),), daemon=True)
    thread.start()
    try:
        assert ready.wait(PATIENCE_SECONDS)
        world.fresh()
        yield world
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join(PATIENCE_SECONDS)
        loop.close()


async def _run(world: WebWorld, ready: threading.Event, over: asyncio.Event) -> None:
    tls = certificate(world.bundle, *HOSTS)
    async with internet() as net, opened(net, *RULES) as door:
        world.net, world.door = net, door
        for address in (PUBLIC, OTHER, "127.0.0.1", "10.0.0.7"):
            await net.serve(address, 443, world.serve, tls)
            await net.serve(address, 80, world.serve)
        await net.serve("127.0.0.1", 8888, world.serve)
        ready.set()
        await over.wait()
