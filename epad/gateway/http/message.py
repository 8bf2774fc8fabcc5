"""Define HTTP's messages: fields as the bytes they came in, a request, an answer, and the head before either's body."""

from __future__ import annotations

import http
from collections.abc import Iterable
from functools import cache

from msgspec import Struct

Field = tuple[bytes, bytes]

# Beyond this a head is nobody's honest request or answer; nginx and aiohttp stop at a quarter of it.
MAX_HEAD_BYTES = 32 << 10
READ_BYTES = 64 << 10
"""What comes at once at most; no piece of a body is larger."""

HOP_BY_HOP = frozenset({
    b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-authorization", b"proxy-connection", b"te",
    b"trailer", b"transfer-encoding", b"upgrade",
})  # fmt: skip
_REASONS = {status.value: status.phrase.encode() for status in http.HTTPStatus}
_NO_BODY = frozenset({204, 304})


class Fields:
    """A message's header fields, in the order they came in; looked up whatever their case."""

    __slots__ = ("_first", "raw")

    def __init__(self, raw: list[Field]) -> None:
        self.raw = raw
        # From the last to the first, so that of two of one name the first stays.
        self._first: dict[bytes, bytes] = {name.lower(): value for name, value in reversed(raw)}

    def get(self, name: str, /) -> str | None:
        """Return the first field of that name; bytes that are not UTF-8 come as lone surrogates."""
        value = self._first.get(_lower(name))
        return None if value is None else value.decode("utf-8", "surrogateescape")

    def __contains__(self, name: str, /) -> bool:
        return _lower(name) in self._first

    def has_any(self, names: frozenset[bytes]) -> bool:
        """Say whether there is a field of any of these names, which are in lower case."""
        return not names.isdisjoint(self._first)

    def without(self, dropped: frozenset[bytes]) -> list[Field]:
        """Return the fields that are dropped neither by name nor by `Connection`; see HOP_BY_HOP."""
        connection = self._first.get(b"connection")
        if connection:
            dropped |= {name.strip().lower() for name in connection.split(b",")}
        return [each for each in self.raw if each[0].lower() not in dropped]


@cache
def _lower(name: str) -> bytes:
    """A field's name as it is looked up; those that epad asks for are few, and asked for in every request."""
    return name.lower().encode()


class Response(Struct):
    """A whole answer."""

    status: int
    body: bytes
    fields: list[Field] = []
    reason: bytes = b""
    close: bool = False


def json_response(status: int, body: bytes, fields: Iterable[Field] = ()) -> Response:
    """Return a whole answer of ours."""
    return Response(status, body, [*fields, (b"Content-Type", b"application/json")])


def response_head(status: int, reason: bytes, fields: list[Field], ours: bytes) -> bytes:
    """Return the head of an answer; `ours` are lines about this connection, each with its end."""
    phrase = reason or _REASONS.get(status, b"")
    return b"HTTP/1.1 %d %b\r\n%b%b\r\n" % (status, phrase, _lines(fields), ours)


def request_head(method: bytes, target: bytes, fields: list[Field]) -> bytes:
    """Return the head of a request."""
    return b"%b %b HTTP/1.1\r\n%b\r\n" % (method, target, _lines(fields))


def _lines(fields: list[Field]) -> bytes:
    """Return the fields as lines, each with its end."""
    return b"\r\n".join([*map(b": ".join, fields), b""])


def read_buffer() -> memoryview:
    """Return the buffer that connections read into, in turn: each has parsed it before the next one reads.

    asyncio's own way makes 256 KiB for every read, and gives most of it back.
    """
    return memoryview(bytearray(READ_BYTES))


def has_body(method: bytes, status: int) -> bool:
    """Say whether an answer of this status to this method may have one."""
    return method != b"HEAD" and status >= 200 and status not in _NO_BODY


def chunk(data: bytes) -> bytes:
    """Return a piece of a body whose length is not known; an empty one would be its end."""
    return b"%x\r\n%b\r\n" % (len(data), data) if data else b""


LAST_CHUNK = b"0\r\n\r\n"
