"""The transport of 2024-11-05, for old clients: `GET /sse` is a stream of answers, to what is posted at `/messages`.

MCP gave it up in 2025, so it is off unless `[tools] sse = true`. A message is answered as one at `/mcp` is; the answer
goes to the stream whose id the client posts to, and to that of the same subsystem alone.

| ends | then |
|---|---|
| the client's stream, or the door | its calls in flight are cancelled, and its id is nobody's |
"""

from __future__ import annotations

import asyncio
import secrets
from urllib.parse import parse_qs

from msgspec import Struct

from epad.gateway.http.message import Field, Fields, Response
from epad.gateway.http.request import Channel, Request
from epad.gateway.refusal import RefusalError, invalid_request
from epad.tools.wire import legacy
from epad.tools.wire.mcp import Mcp
from epad.tools.wire.slow_answer import EVENT_FIELDS, PING, Pauses, event

STREAM, POSTED = "/sse", "/messages"
ID = "session_id"
MOST_STREAMS = 64
"""Of one subsystem, so that no agent takes another's."""
MOST_IN_FLIGHT = 32
"""Of one stream, answers that wait to be read with them: a client that reads nothing fills no memory."""
_ACCEPTED = Response(202, b"Accepted", [(b"Content-Type", b"text/plain")])
_ID_BYTES = 16


class Letter(Struct, frozen=True):
    """Holds a posted message as `Mcp.answer` takes it: its answer is one piece of JSON."""

    body: bytes
    fields: Fields
    connection: Channel


class _Stream:
    """One client's stream: the answers that wait to be written, and the tasks that make more."""

    def __init__(self, subsystem: str) -> None:
        self.subsystem = subsystem
        self.answers: asyncio.Queue[bytes] = asyncio.Queue()
        self.tasks: set[asyncio.Task[None]] = set()


class OldClients:
    """Keeps the streams of old clients."""

    def __init__(self, mcp: Mcp, pauses: Pauses) -> None:
        self._mcp = mcp
        self._pauses = pauses
        self._streams: dict[str, _Stream] = {}

    async def stream(self, request: Request, subsystem: str) -> None:
        """Write a stream until its client hangs up. Raises RefusalError, and ConnectionResetError at the end."""
        if sum(one.subsystem == subsystem for one in self._streams.values()) >= MOST_STREAMS:
            raise RefusalError(
                invalid_request(
                    f"{MOST_STREAMS} streams of {subsystem} are open already: POST /mcp needs none"
                )
            )
        name, stream = secrets.token_hex(_ID_BYTES), _Stream(subsystem)
        self._streams[name] = stream
        channel = request.connection
        try:
            channel.start(200, b"", list(EVENT_FIELDS))
            channel.write(f"event: endpoint\ndata: {POSTED}?{ID}={name}\n\n".encode())
            while True:
                await channel.drain()
                channel.write(await self._next(stream))
        finally:
            del self._streams[name]
            for task in stream.tasks:
                task.cancel()

    async def post(self, request: Request, subsystem: str) -> Response:
        """Take a message; its answer comes on its stream. Raises RefusalError."""
        name = parse_qs(request.query.decode("ascii", "replace")).get(ID, [""])[0]
        stream = self._streams.get(name)
        if stream is None or stream.subsystem != subsystem:
            raise RefusalError(
                invalid_request(f"{POSTED}?{ID}: no stream of this id; GET {STREAM} opens one")
            )
        if len(stream.tasks) + stream.answers.qsize() >= MOST_IN_FLIGHT:
            raise RefusalError(
                invalid_request(f"{MOST_IN_FLIGHT} messages of this stream wait for their answers")
            )
        session: Field = (legacy.SESSION_HEADER.encode(), name.encode())
        letter = Letter(request.body, Fields([session]), request.connection)
        task = asyncio.create_task(self._answer(letter, stream), name="message of an old client")
        stream.tasks.add(task)
        task.add_done_callback(stream.tasks.discard)
        return _ACCEPTED

    async def _answer(self, letter: Letter, stream: _Stream) -> None:
        answer = await self._mcp.answer(letter, stream.subsystem)
        if answer is not None and answer.body:
            stream.answers.put_nowait(event(answer.body))

    async def _next(self, stream: _Stream) -> bytes:
        """Return what is written next: an answer, or a sign of life."""
        try:
            return await asyncio.wait_for(stream.answers.get(), self._pauses.ping_seconds)
        except TimeoutError:
            return PING
