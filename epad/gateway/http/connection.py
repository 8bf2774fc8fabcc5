"""One client's connection: requests come in one after another, and each is answered before the next begins.

Its states, and what a loss or a failure does in each of them, are told in `connection_state.py`.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import Protocol, cast

import httptools

from epad.gateway.errors import StateError
from epad.gateway.http.answer_writer import AnswerWriter
from epad.gateway.http.connection_state import (
    ANSWERED,
    BEGIN,
    CLOSE,
    HAS_ALL,
    IDLE,
    IS_TOLD,
    LINGER,
    LINGERING,
    READ,
    READING,
    REFUSED,
    RETURN,
    TABLE,
    WHOLE,
)
from epad.gateway.http.message import MAX_HEAD_BYTES, Response, read_buffer
from epad.gateway.http.peer import local_address, peer_uid
from epad.gateway.http.request import Answering, Fault, Handler, Request
from epad.gateway.http.request_reader import RequestReader

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
        """Return the time as HTTP writes it, made once a second."""
        second = int(now)
        if self._date[0] != second:
            self._date = (second, formatdate(usegmt=True).encode())
        return self._date[1]


class Connection(AnswerWriter, RequestReader):
    """Serves one client. Requests that come before the one in hand is answered wait, and are read no further."""

    def __init__(self, shared: Shared, entrance: Entrance) -> None:
        AnswerWriter.__init__(self, shared)
        RequestReader.__init__(self)
        self.entrance = entrance
        self.deadline = math.inf
        self.heard = False
        self._shared = shared
        self.since = self._loop.time()
        self._waiting: deque[Request] = deque()
        self.task: asyncio.Task[None] | None = None
        self._resting = False
        self._local: str | None = None

    # What the other end is.

    @property
    def owner(self) -> str:
        """Return the subsystem whose own socket it came in by; empty where others come in by it too."""
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
        """Return the same, as asyncio sees it."""
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
        self.state = TABLE[self.state][CLOSE]

    def close_when_idle(self) -> None:
        """Close after the answer in hand, or now."""
        self._closing = True
        if self.state is IDLE:
            self._hang_up()

    def expire(self) -> None:
        """Act on a deadline that has passed: a body that is late is told so, everything else is closed."""
        self.deadline = math.inf
        if self.state is IDLE:
            self._hang_up()
        elif self.state is READING and self._current is not None:
            self._fail(self._current, Fault.TOO_SLOW)
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
        self.state = TABLE[self.state][CLOSE]
        self._shared.connections.discard(self)
        self.entrance.left(self)
        self._stop_draining()
        self._stop_reading()
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
        if self.state in IS_TOLD and self._current is not None:
            self._finished()

    def get_buffer(self, sizehint: int) -> memoryview:
        del sizehint
        return self._shared.buffer

    def buffer_updated(self, nbytes: int) -> None:
        if self.state is LINGERING:
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
        elif idle and self._head_bytes and self.state is IDLE:
            self.deadline = self._loop.time() + HEAD_SECONDS

    # A request's way.

    @property
    def _is_deaf(self) -> bool:
        transport = self._transport
        return transport is None or self.state is LINGERING or transport.is_closing()

    def _head_came(self, request: Request) -> None:
        if self.state is IDLE and not self._waiting:
            self._begin(request)
            return
        self._waiting.append(request)
        if self._transport is not None:
            self._transport.pause_reading()

    def _piece_came(self, request: Request, size: int) -> None:
        if request is not self._current or self.state is LINGERING:
            return
        if request.size > self._shared.max_body_bytes:
            self._fail(request, Fault.TOO_LARGE)
        elif self.state is READING and (refusal := request.allowance.take(request, size)) is not None:
            self._refuse(request, refusal)

    def _body_ended(self, request: Request) -> None:
        if self.state is LINGERING:
            return
        request.complete = True
        request.allowance.whole()
        if request is self._current:
            self._whole(request)

    def _begin(self, request: Request) -> None:
        self._current = request
        self.state = TABLE[self.state][BEGIN]
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
        if expects and self.state is READING and self._transport is not None:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if request.complete:
            self._whole(request)
        elif expects and self.state is REFUSED:
            self._hang_up()
        else:
            self.deadline = self._loop.time() + self._shared.stall_seconds

    def _whole(self, request: Request) -> None:
        # Taken out of the request, which it refers to: a ring of two would wait for the garbage collector.
        answering, request.answering = request.answering, None
        self.state = TABLE[self.state][WHOLE]
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
        except StateError:
            pass  # it has an answer, or a part of one, and must not get another: below it ends, or breaks off
        finally:
            self.task = None
            if self.state is ANSWERED:
                self.state = TABLE[self.state][RETURN]
            else:
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
        self.state = TABLE[self.state][READ]
        self._let_go()
        self.since = self._loop.time()
        if self._closing or self._shared.stopping:
            self._hang_up()
            return
        self.deadline = self._loop.time() + KEEP_ALIVE_SECONDS
        if self._waiting:
            self._loop.call_soon(self._next)

    def _next(self) -> None:
        if self.state is not IDLE or self._gone or not self._waiting:
            return
        request = self._waiting.popleft()
        if self._transport is not None and not self._waiting and not self._resting:
            self._transport.resume_reading()
        self._begin(request)

    def _fail(self, request: Request, fault: Fault) -> None:
        """Answer with the fault, and read no more."""
        if self._gone:
            return
        if self.state is READING:
            self._refuse(request, self._shared.handler.fault(request, fault))
        self._hang_up()

    def _refuse(self, request: Request, response: Response) -> None:
        """Refuse a request whose body is still coming, free its bytes, and read no more."""
        request.refused = response.close = True
        request.let_go()
        self.respond(response)
        self._hang_up()

    def _malformed(self) -> None:
        if self._is_deaf:
            return
        if self.state in HAS_ALL:
            self._closing = True  # after the answer in hand
            if self._transport is not None:
                self._transport.pause_reading()
            return
        if self._current is None:
            request = self._current = Request(self, b"GET", b"*", [])
            self.state = TABLE[self.state][BEGIN]
            response = self._shared.handler.fault(None, Fault.MALFORMED)
            response.close = request.refused = True
            self.respond(response)
        self._fail(self._current, Fault.MALFORMED)

    def _hang_up(self) -> None:
        self._closing = True
        transport = self._transport
        if transport is None or self._is_deaf:
            return
        if self._current is not None and not self._current.complete and transport.can_write_eof():
            self.state = TABLE[self.state][LINGER]
            transport.write_eof()
        else:
            self.state = TABLE[self.state][CLOSE]
            transport.close()
        self.deadline = self._loop.time() + LINGER_SECONDS
