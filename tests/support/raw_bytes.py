"""A model server that answers with exactly the bytes it is told, and a gateway before it."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gateway_world import World, gateway_config, world

from epad.configuration.schema import BudgetConfig, UpstreamConfig

SSE, JSON, NDJSON = "text/event-stream", "application/json", "application/x-ndjson"
# What epad asks of itself, to count a prompt: this server has no tokenizer.
NO_TURNS = (b"/tokenize", b"/apply-template")
BUDGET = {"writer": BudgetConfig(tokens_per_minute=100_000), "reader": BudgetConfig()}
CHAT = "/v1/chat/completions"
DEFAULT_CAP = 1_000


@dataclass
class RawServer:
    """What it says, piece by piece, and what it does after the last: `end`, `hang`, or `close` the connection.

    `refuse` says of a request with which status and body it is refused, if it is; `looks` is what a GET of a path gets.
    """

    pieces: list[bytes]
    kind: str = SSE
    status: int = 200
    fields: list[str] = field(default_factory=list)
    pause: float = 0.0
    then: str = "end"
    requests: list[dict[str, Any]] = field(default_factory=list)
    refuse: Callable[[dict[str, Any]], tuple[int, bytes] | None] = lambda _: None
    looks: dict[str, bytes] = field(default_factory=dict)

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            while await self._answer(reader, writer):
                pass
        writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = await reader.readuntil(b"\r\n\r\n")
        lengths = [
            line.split(b":")[1] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")
        ]
        body = await reader.readexactly(int(lengths[0])) if lengths else b""
        if head.startswith(b"GET"):
            shown = self.looks.get(head.split(b" ")[1].decode(), b"{}")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(shown), shown))
            return True
        if head.split(b" ")[1] in NO_TURNS:
            writer.write(b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n")
            return True
        self.requests.append(json.loads(body))
        refused = self.refuse(self.requests[-1])
        if refused is not None:
            status, text = refused
            writer.write(b"HTTP/1.1 %d No\r\nContent-Length: %d\r\n\r\n%b" % (status, len(text), text))
            return True
        kind = [f"Content-Type: {self.kind}"] if self.kind else []
        lines = [f"HTTP/1.1 {self.status} OK", "Transfer-Encoding: chunked", *self.fields, *kind]
        writer.write("\r\n".join(lines).encode() + b"\r\n\r\n")
        for piece in self.pieces:
            writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
            await writer.drain()
            await asyncio.sleep(self.pause)
        if self.then == "end":
            writer.write(b"0\r\n\r\n")
            return True
        if self.then == "hang":
            await asyncio.sleep(60)
        return False


@asynccontextmanager
async def listening(raw: RawServer) -> AsyncIterator[str]:
    """Serve one on a free port; give its address."""
    server = await asyncio.start_server(raw.handle, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


@asynccontextmanager
async def before(
    tmp_path: Path, raw: RawServer, budgets: Mapping[str, BudgetConfig] | None = None, **upstream: Any
) -> AsyncIterator[World]:
    """A gateway before such a server; `upstream` are more keys of its configuration."""
    keys: dict[str, Any] = {"dialects": ("openai", "ollama", "anthropic"), **upstream}
    config = gateway_config(default_output_tokens=DEFAULT_CAP, max_output_tokens=4 * DEFAULT_CAP)
    tmp_path.mkdir(exist_ok=True)
    async with (
        listening(raw) as url,
        world(
            tmp_path,
            budgets=budgets or BUDGET,
            upstreams={"raw": UpstreamConfig(url=url, **keys)},
            config=config,
        ) as w,
    ):
        yield w


def chunks(*objects: Any, done: bool = True) -> bytes:
    """Server-sent chunks."""
    events = b"".join(b"data: " + json.dumps(each).encode() + b"\n\n" for each in objects)
    return events + (b"data: [DONE]\n\n" if done else b"")


def piece(index: int = 0, **said: Any) -> dict[str, Any]:
    """A chunk that says something."""
    return {"id": "c", "choices": [{"index": index, "delta": said, "finish_reason": None}]}


def end(index: int = 0, reason: str = "stop", **more: Any) -> dict[str, Any]:
    """The chunk that ends a choice."""
    return {"id": "c", "choices": [{"index": index, "delta": {}, "finish_reason": reason}], **more}


def event(name: str, **data: Any) -> bytes:
    """One of Anthropic's events."""
    return b"event: %b\ndata: %b\n\n" % (name.encode(), json.dumps({"type": name, **data}).encode())


def message(usage: Any, *texts: str) -> bytes:
    """A whole answer of chat, with a choice for each text."""
    choices = [
        {"index": n, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        for n, text in enumerate(texts or ("hi",))
    ]
    return json.dumps({"choices": choices, "usage": usage}).encode()


async def hang_up_after(w: World, wait_bytes: int, path: str = CHAT, **fields: Any) -> None:
    """Read so much of a stream, and go."""
    body = {"model": "tiny", "messages": [{"role": "user", "content": "hello"}], "stream": True, **fields}
    got = 0
    async with w.http.post(w.url + path, json=body, headers=w.headers()) as response:
        while got < wait_bytes and (data := await response.content.readany()):
            got += len(data)
        response.close()


async def cost_of(w: World, path: str = CHAT, **fields: Any) -> tuple[str, int, int]:
    """Ask, and say how the turn ended, what its input was charged as, and what its output."""
    await w.post(path, **fields)
    closed = (await w.closings(1))[-1]
    return closed.outcome.value, closed.input_tokens, closed.charged_tokens - closed.input_tokens
