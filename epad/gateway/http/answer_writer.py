"""Writing an answer to a client: whole, or piece by piece, and no faster than the client reads."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from operator import itemgetter
from typing import Protocol

from epad.gateway.http.connection_state import END, IDLE, RESPOND, START, TABLE, ConnectionState
from epad.gateway.http.message import LAST_CHUNK, Field, Response, chunk, has_body, response_head
from epad.gateway.http.request import Request

_DATE = b"date"
_name_of: Callable[[Field], bytes] = itemgetter(0)


class ServerFields(Protocol):
    """Holds the server's fields of an answer."""

    stopping: bool

    def date(self, now: float) -> bytes:
        """Return the time as HTTP writes it."""
        ...


class AnswerWriter(asyncio.BufferedProtocol):
    """The half of a connection that writes the answer of the request in hand.

    All of the writing raises ConnectionResetError if the client is gone.
    """

    def __init__(self, server: ServerFields) -> None:
        self._server = server
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._current: Request | None = None
        self.state: ConnectionState = IDLE
        self._head = b""
        self._closing = False
        self._paused = False
        self._drained: asyncio.Future[None] | None = None

    def respond(self, response: Response) -> None:
        """Write a whole answer, in one piece. Raises StateError if another one has begun."""
        request, transport = self._writing()
        self.state = TABLE[self.state][RESPOND]
        if response.close:
            self._closing = True
        body = response.body if has_body(request.method.encode(), response.status) else b""
        length = b"Content-Length: %d\r\n" % len(response.body) if response.status not in {204, 304} else b""
        ours = length + self._own_lines(request, response.fields)
        transport.write(response_head(response.status, response.reason, response.fields, ours) + body)

    def start(self, status: int, reason: bytes, fields: list[Field]) -> None:
        """Begin an answer that comes in pieces; its head goes out with the first of them, or by `flush`."""
        request, _ = self._writing()
        self.state = TABLE[self.state][START]
        framing = b"Transfer-Encoding: chunked\r\n" if request.http11 else b""
        if not request.http11:
            self._closing = True
        self._head = response_head(status, reason, fields, framing + self._own_lines(request, fields))

    def flush(self) -> None:
        """Write the head alone: nothing is there yet to go with it."""
        _, transport = self._writing()
        head, self._head = self._head, b""
        if head:
            transport.write(head)

    def write(self, data: bytes) -> None:
        """Write a piece."""
        request, transport = self._writing()
        head, self._head = self._head, b""
        transport.write(head + (chunk(data) if request.http11 else data))

    def end(self, data: bytes = b"") -> None:
        """Write the last piece."""
        request, transport = self._writing()
        self.state = TABLE[self.state][END]
        head, self._head = self._head, b""
        transport.write(head + (chunk(data) + LAST_CHUNK if request.http11 else data))

    @property
    def stalled(self) -> bool:
        """Tell if the client reads more slowly than it is written to."""
        return self._paused

    async def drain(self) -> None:
        """Wait until the client has read most of the written bytes."""
        if self._paused:
            self._drained = self._loop.create_future()
            await self._drained

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)
        self._written()

    def _written(self) -> None:
        """Resume the writers: the client has read most of the written bytes."""

    def _stop_draining(self) -> None:
        """Release those who wait for the client to read: it is gone."""
        if self._drained is not None and not self._drained.done():
            self._drained.set_exception(ConnectionResetError("the client disconnected"))

    def _writing(self) -> tuple[Request, asyncio.Transport]:
        if self._current is None or self._transport is None or self._transport.is_closing():
            raise ConnectionResetError("the client disconnected")
        return self._current, self._transport

    def _own_lines(self, request: Request, fields: list[Field]) -> bytes:
        """Return the fields for this connection alone, and the date if none was given."""
        lines = b""
        if self._closing or self._server.stopping:
            lines = b"Connection: close\r\n"
        elif not request.http11:
            lines = b"Connection: keep-alive\r\n"
        if _DATE in map(bytes.lower, map(_name_of, fields)):
            return lines
        return lines + b"Date: %b\r\n" % self._server.date(self._loop.time())
