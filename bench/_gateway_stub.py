"""A model server that costs next to nothing: fixed answers, event by event where a stream is asked for.

`python _gateway_stub.py PORT` serves until it is killed. A body that names the model "hold" is answered by
its first events, or by nothing, and then silence: what a client that disconnects leaves behind.
"""

from __future__ import annotations

import asyncio
import re
import sys
from dataclasses import dataclass

EVENTS = 20
_CHUNK = (
    b'data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"bench","choices":'
    b'[{"index":0,"delta":{"content":"word "},"finish_reason":null}]}\n\n'
)
_USAGE = (
    b'data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"bench","choices":[],"usage":'
    b'{"prompt_tokens":12,"completion_tokens":20,"total_tokens":32}}\n\n'
)
_BODY = (
    b'{"id":"c","object":"chat.completion","created":1,"model":"bench","choices":[{"index":0,"message":'
    b'{"role":"assistant","content":"' + b"word " * 20 + b'"},"finish_reason":"stop"}],"usage":'
    b'{"prompt_tokens":12,"completion_tokens":20,"total_tokens":32}}'
)
ANSWER = _BODY
"""A whole answer's body, and a stream's events, for who reads them without asking."""
STREAMED = (*[_CHUNK] * EVENTS, _USAGE, b"data: [DONE]\n\n")
_WHOLE = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(_BODY) + _BODY
)
_STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
_LENGTH = re.compile(rb"(?i)\r\ncontent-length: *(\d+)")


def _framed(event: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(event), event)


@dataclass(frozen=True, slots=True)
class Watch:
    """The loop's times at which an answer that is held was begun, and at which its connection ended."""

    begun: asyncio.Queue[float]
    gone: asyncio.Queue[float]


class Stub(asyncio.Protocol):
    """One connection."""

    def __init__(self, watch: Watch | None = None) -> None:
        self._watch = watch
        self._pending = b""
        self._held = False
        self._transport: asyncio.Transport | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's name
        if self._held and self._watch is not None:
            self._watch.gone.put_nowait(asyncio.get_running_loop().time())
        for task in self._tasks:
            task.cancel()

    def data_received(self, data: bytes) -> None:
        self._pending += data
        head, found, rest = self._pending.partition(b"\r\n\r\n")
        length = _LENGTH.search(head)
        size = int(length[1]) if length else 0
        if found and len(rest) >= size:
            self._pending = rest[size:]
            self._answer(rest[:size])

    def _answer(self, body: bytes) -> None:
        assert self._transport is not None
        self._held = b'"hold"' in body
        if self._held and self._watch is not None:
            self._watch.begun.put_nowait(asyncio.get_running_loop().time())
        streams = b'"stream":true' in body or b'"stream": true' in body
        if streams:
            usage = b'"include_usage":true' in body
            task = asyncio.get_running_loop().create_task(self._stream(self._transport, usage=usage))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        elif not self._held:
            self._transport.write(_WHOLE)

    async def _stream(self, transport: asyncio.Transport, *, usage: bool) -> None:
        """Write every event by itself, as a model makes them, with a turn of the loop in between."""
        transport.write(_STREAM)
        for _ in range(EVENTS):
            transport.write(_framed(_CHUNK))
            await asyncio.sleep(0)
        if self._held:
            return
        if usage:
            transport.write(_framed(_USAGE))
        transport.write(_framed(b"data: [DONE]\n\n") + b"0\r\n\r\n")


async def serve(port: int) -> None:
    """Serve for ever."""
    server = await asyncio.get_running_loop().create_server(Stub, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
