"""The client's half: a connection to a server, which takes one request at a time; and the answer as it comes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

import httptools

from epad.gateway.http.message import MAX_HEAD_BYTES, READ_BYTES, Field, Fields

# What an answer may be ahead of its reader; then the server is made to wait.
_NOTHING = memoryview(b"")
_NO_FIELDS = Fields([])
_FRAMING = frozenset({b"content-length", b"transfer-encoding"})
# What is written at once of a larger body.
_PIECE_BYTES = 256 << 10
_AHEAD_BYTES = 256 << 10


class Incoming:
    """An answer: its head, and its body as far as it has come."""

    def __init__(self, connection: ClientConnection) -> None:
        self.status = 0
        self.reason = b""
        self.fields = _NO_FIELDS
        # Whether its head has come, and whether all of it has.
        self.begun = False
        self.ended = False
        self.failure: Exception | None = None
        self._connection = connection
        self._parts: list[bytes] = []
        # Takes in a piece of the body; whoever reads is woken by `wake`, once for all that came together.
        self.take = self._parts.append
        self._waiter: asyncio.Future[None] | None = None

    @property
    def ready(self) -> bool:
        """Tell if `read` would not wait."""
        return bool(self._parts) or self.ended or self.failure is not None

    async def head(self) -> Incoming:
        """Wait for the head; whoever does not wait any longer hangs up. Raises ConnectionError, TimeoutError."""
        try:
            while not (self.begun or self.failure):
                self._waiter = self._connection.loop.create_future()
                await self._waiter
        except BaseException:
            self.close()
            raise
        if self.failure is not None and not self.begun:
            self.close()
            raise self.failure
        return self

    async def read(self) -> bytes:
        """Return the bytes since the last time; empty at the end. Raises ConnectionError, TimeoutError."""
        while not self._parts:
            if self.failure is not None:
                raise self.failure
            if self.ended:
                return b""
            self._waiter = self._connection.loop.create_future()
            await self._waiter
        return self.arrived()

    def arrived(self) -> bytes:
        """Return the bytes since the last time, without a wait; empty if there are none."""
        parts = self._parts
        if not parts:
            return b""
        data = parts[0] if len(parts) == 1 else b"".join(parts)
        parts.clear()
        if not self.ended:
            self._connection.resume()
        return data

    def close(self) -> None:
        """Hang up, unless it has ended."""
        if not self.ended:
            self._connection.abort()

    def began(self, status: int, reason: bytes, fields: Fields) -> None:
        """Take in the head; as with the body's pieces, `wake` tells whoever waits."""
        self.status, self.reason, self.fields, self.begun = status, reason, fields, True

    @property
    def enough(self) -> bool:
        """Tell if as much has come as is kept for the reader."""
        few = len(self._parts) <= _AHEAD_BYTES // READ_BYTES
        return not few and sum(map(len, self._parts)) > _AHEAD_BYTES

    def end(self, failure: Exception | None = None) -> None:
        """Take the end of the bytes."""
        self.ended, self.failure = failure is None, failure
        self.wake()

    def wake(self) -> None:
        """Let the waiting reader look at the bytes that have come."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class ClientConnection(asyncio.BufferedProtocol):
    """Holds one connection to a server. `freed` is called whenever it could take another request."""

    def __init__(
        self,
        buffer: memoryview,
        freed: Callable[[ClientConnection], None],
        lost: Callable[[ClientConnection], None],
    ) -> None:
        self._buffer = buffer
        self.heard_at = 0.0
        self._freed = freed
        self._lost = lost
        self.loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._incoming: Incoming | None = None
        self._reason = b""
        self._fields: list[Field] = []
        # What has come of a head; and of trailers, or of whatever else has not a byte of a body in it.
        self._head_bytes = 0
        self._until_closed = False
        self._held = False
        # What the server has still to take of a body, and whether it is slow to.
        self._unsent = _NOTHING
        self._full = False

    @property
    def is_open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    @property
    def is_busy(self) -> bool:
        """Tell if it waits for its server."""
        return self._incoming is not None and not self._held

    def send(self, head: bytes, body: bytes = b"") -> Incoming:
        """Send a request. Raises ConnectionResetError if the connection has closed meanwhile.

        A large body goes piece by piece as the server takes it: asyncio would copy all of it twice at once.
        """
        if self._transport is None or self._transport.is_closing():
            raise ConnectionResetError("it closed the connection")
        incoming = self._incoming = Incoming(self)
        self._head_bytes = 0
        self.heard_at = self.loop.time()
        if len(body) <= _PIECE_BYTES:
            self._transport.write(head + body if body else head)
        else:
            self._unsent = memoryview(body)
            self._transport.write(head)
            self._send_more()
        return incoming

    def _send_more(self) -> None:
        transport, unsent = self._transport, self._unsent
        while unsent and not self._full and transport is not None and not transport.is_closing():
            transport.write(bytes(unsent[:_PIECE_BYTES]))
            unsent = unsent[_PIECE_BYTES:]
        self._unsent = unsent or _NOTHING  # an empty piece of a body would keep all of it

    def pause_writing(self) -> None:
        self._full = True

    def resume_writing(self) -> None:
        self._full = False
        self.heard_at = self.loop.time()  # it takes what it is sent
        self._send_more()

    def resume(self) -> None:
        """Read on."""
        if self._held and self._transport is not None:
            self._held = False
            self.heard_at = self.loop.time()
            self._transport.resume_reading()

    def abort(self) -> None:
        """Hang up, which tells a model server to stop."""
        if self._transport is not None:
            self._transport.abort()

    def fail(self, failure: Exception) -> None:
        """Give the answer up."""
        self._end(failure)
        self.abort()

    # asyncio's half.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._unsent = _NOTHING
        self._end(exc if isinstance(exc, OSError) else ConnectionResetError("it closed the connection"))
        self._lost(self)

    def eof_received(self) -> None:
        if self._until_closed:
            self._end(None)

    def get_buffer(self, sizehint: int) -> memoryview:
        del sizehint
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.heard_at = self.loop.time()
        incoming = self._incoming
        if incoming is None:
            self.abort()  # nothing was asked
            return
        self._head_bytes += nbytes
        try:
            self._parser.feed_data(self._buffer[:nbytes])
        except httptools.HttpParserUpgrade:
            self.fail(ConnectionResetError("it wants to speak another protocol"))
        except httptools.HttpParserCallbackError:
            self.abort()
            raise
        except httptools.HttpParserError as error:
            self.fail(ConnectionResetError(f"its answer is not HTTP: {error}"))
        if not incoming.ended:
            incoming.wake()
        if incoming.enough and incoming is self._incoming and self._transport is not None and not self._held:
            self._held = True
            self._transport.pause_reading()
        if self._head_bytes > MAX_HEAD_BYTES and incoming is self._incoming:
            what = "trailer section" if incoming.begun else "head"
            self.fail(ConnectionResetError(f"its answer's {what} is larger than {MAX_HEAD_BYTES} bytes"))

    # The parser's half.

    def on_message_begin(self) -> None:
        self._reason, self._fields = b"", []
        if self._incoming is None:
            self.abort()  # two answers to one question: nobody could tell which is whose from here on

    def on_status(self, reason: bytes) -> None:
        self._reason += reason

    def on_header(self, name: bytes, value: bytes) -> None:
        incoming = self._incoming
        if incoming is not None and not incoming.begun:  # else it is a trailer, which nobody waits for
            self._fields.append((name, value.rstrip(b" \t")))

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if self._incoming is None or status < 200:
            return
        fields = Fields(self._fields)
        framed = fields.has_any(_FRAMING) or status in {204, 304}
        self._until_closed = not framed
        self._head_bytes = 0
        self._incoming.began(status, self._reason, fields)

    def on_body(self, data: bytes) -> None:
        self._head_bytes = 0
        if self._incoming is not None:
            self._incoming.take(data)

    def on_message_complete(self) -> None:
        incoming = self._incoming
        if incoming is None or not incoming.begun:
            return  # 100 Continue, 103 Early Hints
        # One that answers before it has heard all may take the rest for the next request.
        keep = self._parser.should_keep_alive() and not self._until_closed and not self._unsent
        self._end(None)
        if not keep or self._transport is None:
            self.abort()
            return
        self.resume()
        self._freed(self)

    def _end(self, failure: Exception | None) -> None:
        incoming, self._incoming = self._incoming, None
        self._until_closed = False
        if incoming is not None:
            incoming.end(failure)
