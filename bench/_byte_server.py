"""A model server that says exactly the bytes it is told, piece by piece, and counts the tokens that it has made."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

_LENGTH = re.compile(rb"(?i)\r\ncontent-length: *(\d+)")
SSE = "text/event-stream"
NDJSON = "application/x-ndjson"
JSON = "application/json"
# Long enough that whoever hangs up is heard before the next piece is made.
PAUSE_SECONDS = 0.005
_HANG_SECONDS = 60.0


def _plain(status: str, body: bytes) -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


_LISTS = {
    "/v1/models": _plain("200 OK", b'{"object":"list","data":[{"id":"tiny","object":"model"}]}'),
    "/api/tags": _plain("200 OK", b'{"models":[{"name":"tiny","model":"tiny"}]}'),
}
# What a gateway asks for itself, to count a prompt; without `looks` this server has no tokenizer.
_NO_TURNS = frozenset({"/tokenize", "/apply-template"})
_NOT_FOUND = _plain("404 Not Found", b"{}")


@dataclass(frozen=True, slots=True)
class Piece:
    """Bytes that are sent at once, and the tokens that the server made for them; without bytes it works unseen."""

    data: bytes
    tokens: int = 0


@dataclass(frozen=True, slots=True)
class Script:
    """An answer: its head, its pieces, and what the server does after them.

    `then`: "end" ends the body, "hang" leaves it open, "close" breaks the connection off.
    """

    pieces: tuple[Piece, ...]
    content_type: str = SSE
    status: int = 200
    headers: tuple[str, ...] = ()
    framing: Literal["chunked", "length", "eof"] = "chunked"
    then: Literal["end", "hang", "close"] = "end"
    pause: float = 0.0
    length: int | None = None


@dataclass(slots=True)
class Made:
    """The server's own count for one request."""

    body: dict[str, Any]
    prompt_tokens: int = 0
    output_tokens: int = 0

    @property
    def tokens(self) -> int:
        return self.prompt_tokens + self.output_tokens


@dataclass(slots=True)
class ByteServer:
    """Answers what `answer` gives for a path and a body, lists its one model, and has no other route (404) but `looks`.

    `prompt_tokens` is what the server reads of a prompt, by its own count, where the answer has a status of 200.
    """

    answer: Callable[[str, dict[str, Any]], tuple[Script, int] | None]
    looks: Callable[[str, dict[str, Any]], dict[str, Any] | None] | None = None
    made: list[Made] = field(default_factory=list)
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def tokens(self) -> int:
        """Everything that was made so far."""
        return sum(made.tokens for made in self.made)

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[ByteServer]:
        """Listen on a free port of the loopback."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0, backlog=4_096)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await self._one(reader, writer):
                """Only what is none of its routes leaves the connection open."""
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer one request; say whether the connection goes on."""
        head = await reader.readuntil(b"\r\n\r\n")
        found = _LENGTH.search(head)
        body = await reader.readexactly(int(found[1])) if found else b""
        path = head.split(b" ", 2)[1].decode().partition("?")[0]
        asked = json.loads(body) if head.startswith(b"POST") and body else {}
        turn = head.startswith(b"POST") and path not in _NO_TURNS
        answer = self.answer(path, asked) if turn else None
        if answer is None:
            looked = self.looks(path, asked) if self.looks is not None else None
            known = _plain("200 OK", json.dumps(looked).encode()) if looked is not None else _LISTS.get(path)
            writer.write(known or _NOT_FOUND)
            await writer.drain()
            return True
        script, prompt_tokens = answer
        made = Made(asked, prompt_tokens)
        self.made.append(made)
        gone = asyncio.ensure_future(reader.read(1))
        try:
            return await self._say(writer, script, made, gone)
        finally:
            gone.cancel()
            with contextlib.suppress(asyncio.CancelledError, ConnectionError):
                await gone

    async def _say(
        self, writer: asyncio.StreamWriter, script: Script, made: Made, gone: asyncio.Future[bytes]
    ) -> bool:
        """Make the pieces one after the other, until the client has gone."""
        writer.write(_head(script))
        for piece in script.pieces:
            if gone.done() or writer.is_closing():
                return False
            made.output_tokens += piece.tokens
            if piece.data:
                framed = b"%x\r\n%b\r\n" % (len(piece.data), piece.data)
                writer.write(framed if script.framing == "chunked" else piece.data)
                await writer.drain()
            if script.pause:
                await asyncio.wait([gone], timeout=script.pause)
        if script.then == "hang":
            await asyncio.wait([gone], timeout=_HANG_SECONDS)
        if script.then != "end" or script.framing == "eof":
            return False
        if script.framing == "chunked":
            writer.write(b"0\r\n\r\n")
        await writer.drain()
        return False


def _head(script: Script) -> bytes:
    lines = [f"HTTP/1.1 {script.status} Answer", "Connection: close", *script.headers]
    if script.framing == "chunked":
        lines.append("Transfer-Encoding: chunked")
    if script.framing == "length":
        length = sum(len(piece.data) for piece in script.pieces) if script.length is None else script.length
        lines.append(f"Content-Length: {length}")
    if script.content_type:
        lines.append(f"Content-Type: {script.content_type}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n"
