"""The server's half: a client's connection, which brings one request after another and takes their answers."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import Any, Protocol, cast

import httptools

from epad.gateway.http.answer_writer import AnswerWriter
from epad.gateway.http.message import (
    MAX_HEAD_BYTES,
    Field,
    Response,
    read_buffer,
)
from epad.gateway.http.peer import local_address, peer_uid
from epad.gateway.http.request import Answering, Fault, Handler, Request

# A head comes in one piece; a client that takes longer is a slow-loris, or gone.
HEAD_SECONDS = 30.0
# For the first byte of all: whoever connects to ask something says so at once.
SILENT_SECONDS = 15.0
# Longer than any client keeps a connection that it does not use (Go: 90 s), so that it is never we who race it.
KEEP_ALIVE_SECONDS = 300.0
# For the client to read a refusal while it is still sending: closed at once, TCP would reset it away.
LINGER_SECONDS = 5.0
# How long nothing more is heard of one who does nothing but be refused: sixteen such connections made everyone
# else's requests take eight times as long, since each turn of the loop began with sixteen refusals.
REST_SECONDS = 1.0


class Entrance(Protocol):
    """The socket that a connection came in by."""

    owner: str
    """The subsystem whose alone it is; empty where others come in by it too."""

    def rest(self) -> bool:
        """Let nobody in for a while; False, and nothing done, where others come in too."""
        ...

    def left(self, connection: Connection) -> None:
        """A connection that came in by it is gone."""
        ...


@dataclass(slots=True)
class Shared:
    """Holds the parts that a server's connections share."""

    handler: Handler
    max_body_bytes: int
    stall_seconds: float
    connections: set[Connection] = field(default_factory=set)
    stopping: bool = False
    buffer: memoryview = field(default_factory=read_buffer)
    _date: tuple[int, bytes] = (0, b"")

    def date(self, now: float) -> bytes:
        """The time as HTTP writes it, made once a second."""
        second = int(now)
        if self._date[0] != second:
            self._date = (second, formatdate(usegmt=True).encode())
        return self._date[1]


class Connection(AnswerWriter):
    """Serves one client. Requests that come before the one in hand is answered wait, and are read no further."""

    def __init__(self, shared: Shared, entrance: Entrance) -> None:
        super().__init__(shared)
        self.entrance = entrance
        self.deadline = math.inf
        self.heard = False
        self._shared = shared
        self.since = self._loop.time()
        self._parser: Any = httptools.HttpRequestParser(self)
        self._target = b""
        self._fields: list[Field] = []
        # What has come of a head; and of trailers, or of whatever else has not a byte of a body in it.
        self._head_bytes = 0
        self._coming: Request | None = None
        self._waiting: deque[Request] = deque()
        self.task: asyncio.Task[None] | None = None
        self._lingering = False
        self._resting = False
        self._local: str | None = None

    # What the other end is.

    @property
    def owner(self) -> str:
        """The subsystem whose own socket it came in by; empty where others come in by it too."""
        return self.entrance.owner

    @property
    def local_address(self) -> str:
        """Return our socket that it came in by: HOST:PORT, or unix:PATH; empty once it is gone."""
        if self._local is None:
            self._local = local_address(self._transport)
        return self._local

    @property
    def peer_uid(self) -> int | None:
        """Return the uid at the other end of a Unix socket, as the kernel vouches for it; None on TCP."""
        return peer_uid(self._transport)

    @property
    def _gone(self) -> bool:
        return self._transport is None or self._transport.is_closing()

    @property
    def busy(self) -> bool:
        """Tell if a request is in hand."""
        return self._current is not None

    def as_protocol(self) -> asyncio.BaseProtocol:
        """The same, as asyncio sees it."""
        return self

    def send_away(self) -> None:
        """Close at once: others want its place."""
        self.abort()

    def rest(self) -> None:
        """Hear nothing more for a while: whoever else comes in by the same socket is not to wait for this one."""
        if self._transport is not None and not self.entrance.rest():
            self._resting = True
            self._transport.pause_reading()
            self._loop.call_later(REST_SECONDS, self._hear_again)

    def _hear_again(self) -> None:
        self._resting = False
        if self._transport is not None and not self._waiting and not self._closing:
            self._transport.resume_reading()

    # Its end.

    def abort(self) -> None:
        """Close at once; unsent bytes are lost."""
        if self._transport is not None:
            self._transport.abort()

    def close_when_idle(self) -> None:
        """Close after the answer in hand, or now."""
        self._closing = True
        if self._current is None:
            self._hang_up()

    def expire(self) -> None:
        """The deadline has passed: a body that is late is told so, everything else is closed."""
        self.deadline = math.inf
        request = self._current
        if request is None and not self._closing:
            self._hang_up()
        elif request is not None and not request.complete and not request.refused:
            self._fail(request, Fault.TOO_SLOW)
        else:
            self.abort()

    # asyncio's half.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._shared.connections.add(self)
        self.deadline = self._loop.time() + SILENT_SECONDS

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._transport = None
        self._shared.connections.discard(self)
        self.entrance.left(self)
        self._stop_draining()
        # The parser and the request refer to this connection: what it held would wait for the garbage collector.
        self._parser = None
        self._coming = None
        self._waiting.clear()
        if self.task is not None:
            self.task.cancel()
        else:
            self._let_go()

    def _let_go(self) -> None:
        request, self._current = self._current, None
        if request is not None:
            request.let_go()

    def _written(self) -> None:
        if self._current is not None and self._ended and self.task is None:
            self._finished()

    def get_buffer(self, sizehint: int) -> memoryview:
        del sizehint
        return self._shared.buffer

    def buffer_updated(self, nbytes: int) -> None:
        if self._lingering:
            return
        if not self.heard:
            self.heard, self.deadline = True, self._loop.time() + HEAD_SECONDS
        idle = self._coming is None and not self._head_bytes
        self._head_bytes += nbytes
        try:
            self._feed(self._shared.buffer[:nbytes])
        except httptools.HttpParserCallbackError:
            self.abort()
            raise
        except httptools.HttpParserError:
            self._malformed()
        if self._head_bytes > MAX_HEAD_BYTES:
            self._malformed()
        elif idle and self._head_bytes and self._current is None:
            self.deadline = self._loop.time() + HEAD_SECONDS

    def _feed(self, data: memoryview) -> None:
        """Have it parsed; whoever offers another protocol is answered in this one. Raises HttpParserError."""
        while True:
            try:
                self._parser.feed_data(data)
            except httptools.HttpParserUpgrade as offer:
                data = data[offer.args[0] :]
            else:
                return
            if self._coming is None:
                return  # it was closed before
            self._parser = httptools.HttpRequestParser(self)
            self._parser.feed_data(self._coming.head_without_offer())

    # The parser's half.

    def on_message_begin(self) -> None:
        self._target, self._fields = b"", []

    def on_url(self, url: bytes) -> None:
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._coming is None:  # else it is a trailer, which nobody waits for
            self._fields.append((name, value))

    def on_headers_complete(self) -> None:
        if self._gone or self._lingering or self._coming is not None:
            return  # it came in one piece with the request after which it was closed, or says the framing again
        parser = self._parser
        request = Request(self, parser.get_method(), self._target, self._fields)
        request.keep_alive = parser.should_keep_alive()
        request.http11 = parser.get_http_version() != "1.0"
        self._coming = request
        self._head_bytes = 0
        if self._current is None and not self._waiting:
            self._begin(request)
            return
        self._waiting.append(request)
        if self._transport is not None:
            self._transport.pause_reading()

    def on_body(self, data: bytes) -> None:
        request = self._coming
        self._head_bytes = 0
        if request is None or self._lingering:
            return
        request.take(data)
        if request is not self._current:
            return
        if request.size > self._shared.max_body_bytes:
            self._fail(request, Fault.TOO_LARGE)
        elif not request.refused and (refusal := request.allowance.take(request, len(data))) is not None:
            self._refuse(request, refusal)

    def on_message_complete(self) -> None:
        if self._parser.should_upgrade():
            return  # only its head, said again in `_feed`
        request, self._coming = self._coming, None
        self._head_bytes = 0
        if request is None or self._lingering:
            return
        request.complete = True
        request.allowance.whole()
        if request is self._current:
            self._whole(request)

    # A request's way.

    def _begin(self, request: Request) -> None:
        self._current, self._ended = request, False
        if not request.keep_alive or self._shared.stopping:
            self._closing = True
        if max(request.size, request.declared) > self._shared.max_body_bytes:
            self._fail(request, Fault.TOO_LARGE)
            return
        expects = (request.fields.get("expect") or "").lower() == "100-continue"
        decided = self._shared.handler.receive(request)
        if not isinstance(decided, Response) and request.size:  # it has waited its turn, and come meanwhile
            decided = request.allowance.take(request, request.size) or decided
        if isinstance(decided, Response):
            request.let_go()
            # Whether a body that was to wait for leave comes all the same, nobody can tell.
            decided.close = decided.close or expects
            request.refused = True
            self.respond(decided)
        else:
            request.answering = decided
        if expects and not request.refused and self._transport is not None:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if request.complete:
            self._whole(request)
        elif expects and request.refused:
            self._hang_up()
        else:
            self.deadline = self._loop.time() + self._shared.stall_seconds

    def _whole(self, request: Request) -> None:
        # Taken out of the request, which it refers to: a ring of two would wait for the garbage collector.
        answering, request.answering = request.answering, None
        if answering is None:
            self._finished()
            return
        self.deadline = math.inf
        self.task = self._loop.create_task(self._answer(answering))

    async def _answer(self, answering: Answering) -> None:
        try:
            response = await answering()
            if response is not None:
                self.respond(response)
        except ConnectionError:
            self.abort()
        finally:
            self.task = None
            if not self._ended:
                self.abort()
            self._finished()

    def _finished(self) -> None:
        """Go on to the next request, unless this was the last one, or its answer is not read yet."""
        if self._gone:
            self._let_go()
            return
        if self._paused:
            self.deadline = self._loop.time() + self._shared.stall_seconds
            return
        self._let_go()
        self.since = self._loop.time()
        if self._closing or self._shared.stopping:
            self._hang_up()
            return
        self.deadline = self._loop.time() + KEEP_ALIVE_SECONDS
        if self._waiting:
            self._loop.call_soon(self._next)

    def _next(self) -> None:
        if self._transport is None or self._current is not None or not self._waiting:
            return
        request = self._waiting.popleft()
        if not self._waiting and not self._resting:
            self._transport.resume_reading()
        self._begin(request)

    def _fail(self, request: Request, fault: Fault) -> None:
        """Answer with the fault, and read no more."""
        if self._gone:
            return
        if not request.refused:
            self._refuse(request, self._shared.handler.fault(request, fault))
        self._hang_up()

    def _refuse(self, request: Request, response: Response) -> None:
        """Refuse a request whose body is still coming, free its bytes, and read no more."""
        request.refused = response.close = True
        request.let_go()
        self.respond(response)
        self._hang_up()

    def _malformed(self) -> None:
        if self._gone or self._lingering:
            return
        request = self._current
        if request is not None and request.complete:
            self._closing = True  # after the answer in hand
            if self._transport is not None:
                self._transport.pause_reading()
            return
        if request is None:
            request = self._current = Request(self, b"GET", b"*", [])
            self._ended = False
            response = self._shared.handler.fault(None, Fault.MALFORMED)
            response.close = request.refused = True
            self.respond(response)
        self._fail(request, Fault.MALFORMED)

    def _hang_up(self) -> None:
        self._closing = True
        transport = self._transport
        if transport is None or self._gone or self._lingering:
            return
        if self._current is not None and not self._current.complete and transport.can_write_eof():
            self._lingering = True
            transport.write_eof()
        else:
            transport.close()
        self.deadline = self._loop.time() + LINGER_SECONDS
