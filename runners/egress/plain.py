"""Carry one request and its answer: a body is read strictly and written anew.

By plain HTTP it is one request a connection, and the answer is marked as the last: bytes that a client sends behind
its request go nowhere, so no second one can be smuggled. Inside a tunnel that is read (`exchanges.py`) another may
follow an answer whose end is beyond doubt.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable
from typing import Final

from runners.egress.network import READ_BYTES, Streams
from runners.egress.refusal import RefusedError, Why
from runners.egress.tunnel import Tunnel

_LEAST_BYTES: Final = 1_024
_MOST_TRAILERS: Final = 32
_CHUNK_LINE = re.compile(rb"([0-9a-fA-F]{1,15})[ \t]*(?:;[\t\x20-\x7e\x80-\xff]*)?\r\n")
_STATUS = re.compile(rb"HTTP/1\.[01] ([1-5][0-9][0-9])[ \r]")
_LENGTH = re.compile(rb"\r\ncontent-length[ \t]*:[ \t]*([0-9]{1,18})[ \t]*(?=\r\n)", re.IGNORECASE)
_CODED = re.compile(rb"\r\ntransfer-encoding[ \t]*:", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding[ \t]*:[ \t]*chunked[ \t]*(?=\r\n)", re.IGNORECASE)
_ENDS = re.compile(rb"\r\nconnection[ \t]*:[^\r\n]*\bclose\b", re.IGNORECASE)
_SAYS_LENGTH = re.compile(rb"\r\ncontent-length[ \t]*:", re.IGNORECASE)
_WITHOUT_BODY: Final = frozenset({b"204", b"304"})
_OF_THE_HOP = re.compile(rb"\r\n(?:connection|keep-alive|proxy-connection)[ \t]*:[^\r\n]*", re.IGNORECASE)


class BodyReader:
    """Reads a body in pieces. Raises RefusedError for one that is not well formed, or comes too slowly.

    Without `seconds` it may take its time, as an answer may that tells of events.
    """

    def __init__(self, reader: asyncio.StreamReader, seconds: float | None) -> None:
        self._reader = reader
        self._seconds = seconds
        self._now = asyncio.get_running_loop().time
        self._due = None if seconds is None else self._now() + seconds
        self._since = 0

    async def pieces(self, length: int | None) -> AsyncIterator[bytes]:
        """Yield a body of so many bytes, or one in chunks; as it is to be sent on."""
        if length is not None:
            async for data in self._exactly(length):
                yield data
            return
        while size := await self._chunk_size():
            yield b"%x\r\n" % size
            async for data in self._exactly(size):
                yield data
            if await self._line() != b"\r\n":
                raise RefusedError(Why.BAD_REQUEST, "a chunk of the body is longer than it says")
            yield b"\r\n"
        for _ in range(_MOST_TRAILERS):
            if await self._line() == b"\r\n":
                yield b"0\r\n\r\n"
                return
        raise RefusedError(Why.TOO_LARGE, "the body has too many trailers")

    async def _exactly(self, length: int) -> AsyncIterator[bytes]:
        left = length
        while left:
            data = await self._in_time(self._reader.read(min(left, READ_BYTES)))
            if not data:
                raise RefusedError(Why.BAD_REQUEST, "the body ended before its length")
            left -= len(data)
            yield data

    async def _chunk_size(self) -> int:
        line = _CHUNK_LINE.fullmatch(await self._line())
        if line is None:
            raise RefusedError(Why.BAD_REQUEST, "the body's chunks are not well formed")
        return int(line[1], 16)

    async def _line(self) -> bytes:
        try:
            return await self._in_time(self._reader.readuntil(b"\r\n"))
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            raise RefusedError(Why.BAD_REQUEST, "the body's chunks are not well formed") from None

    async def _in_time(self, reading: Awaitable[bytes]) -> bytes:
        """Wait for bytes until 1 KiB is due."""
        try:
            async with asyncio.timeout_at(self._due):
                data = await reading
        except TimeoutError:
            words = f"the body brought less than {_LEAST_BYTES} bytes in {self._seconds:g} s"
            raise RefusedError(Why.TOO_SLOW, words) from None
        self._since += len(data)
        if self._seconds is not None and self._since >= _LEAST_BYTES:
            self._since = 0
            self._due = self._now() + self._seconds
        return data


async def carry(
    tunnel: Tunnel, body: AsyncIterator[bytes], server: Streams, *, is_head: bool, keeps: bool = False
) -> bool:
    """Send a body and its answer, at the same time: a server may answer before it has read. Raises RefusedError.

    `is_head`: the request is one of HEAD, whose answer has no body, whatever length it names. `keeps`: the client wants
    to ask again. Returns whether both connections can carry another request.
    """
    sending = asyncio.create_task(_send(tunnel, body))
    answering = asyncio.create_task(_answer(tunnel, server, is_head=is_head, keeps=keeps))
    try:
        await asyncio.wait({sending, answering}, return_when=asyncio.FIRST_COMPLETED)
        if sending.done() and isinstance(error := sending.exception(), RefusedError):
            raise error
        kept = await answering  # also of a server that takes no more of the body: it says why
        if sending.done() and isinstance(error := sending.exception(), RefusedError):
            raise error
        return kept and sending.done() and sending.exception() is None
    finally:
        for task in (sending, answering):
            task.cancel()
        await asyncio.gather(sending, answering, return_exceptions=True)


async def _send(tunnel: Tunnel, body: AsyncIterator[bytes]) -> None:
    async for piece in body:
        await tunnel.send(piece)


async def _answer(tunnel: Tunnel, server: Streams, *, is_head: bool, keeps: bool) -> bool:
    """Send the server's answer on; return whether the connection is kept. If not, it is marked as the last."""
    reader, _ = server
    while True:
        head = await _answer_head(reader)
        status = _STATUS.match(head)
        if status is None or status[1] == b"101":  # no client's wish for another protocol was sent on
            raise RefusedError(Why.UNREACHABLE, "the server's answer is none of HTTP/1.1")
        if not status[1].startswith(b"1"):
            break
        await tunnel.answer(head)
    length = 0 if is_head or status[1] in _WITHOUT_BODY else _answer_length(head)
    in_chunks = length is None and _is_chunked(head)
    keeps = (
        keeps
        and (length is not None or in_chunks)
        and head.startswith(b"HTTP/1.1")
        and not _ENDS.search(head)
    )
    told = b"" if keeps else b"connection: close\r\n"
    await tunnel.answer(_OF_THE_HOP.sub(b"", head).removesuffix(b"\r\n") + told + b"\r\n")
    if keeps and in_chunks:
        async for piece in BodyReader(reader, None).pieces(None):
            await tunnel.answer(piece)
        return True
    before = tunnel.down
    await tunnel.copy_down(length)
    return keeps and tunnel.down - before == length


def _is_chunked(head: bytes) -> bool:
    """Tell if an answer comes in chunks beyond doubt, so that its end is known."""
    codings = len(_CODED.findall(head))
    return codings == 1 and bool(_CHUNKED.search(head)) and not _SAYS_LENGTH.search(head)


def _answer_length(head: bytes) -> int | None:
    """Return the length of an answer that says one; None for one that lasts until the server ends it.

    A server that does not end a connection as it was asked to has mostly said how long its answer is.
    """
    lengths = _LENGTH.findall(head)
    return int(lengths[0]) if len(lengths) == 1 and not _CODED.search(head) else None


async def _answer_head(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        raise RefusedError(Why.UNREACHABLE, "the server ended without an answer") from None
    except asyncio.LimitOverrunError:
        raise RefusedError(Why.UNREACHABLE, "the head of the server's answer is too long") from None
