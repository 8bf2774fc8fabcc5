"""Read the server name out of a TLS ClientHello (RFC 8446, 4.1.2; RFC 6066, 3), which may come in any pieces.

A tunnel to an allowed name must not carry a talk with another host of the same network, so its first message must name
the host. A hello that hides the name, or that two readers may read differently, is refused: a name that stands twice,
an encrypted hello, a length that does not fit. Nothing behind the hello is read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from runners.egress.refusal import RefusedError, Why

RECORD_HEADER: Final = 5
_HANDSHAKE_RECORD: Final = 22
_CLIENT_HELLO: Final = 1
_SERVER_NAME: Final = 0
_ENCRYPTED_HELLOS: Final = frozenset({0xFE0D, 0xFFCE})  # RFC 9849, and the ESNI of the drafts before it
_MOST_BYTES: Final = 16_384  # with keys for post-quantum exchanges a hello has 2,000
_MOST_RECORDS: Final = 32


@dataclass(frozen=True, slots=True)
class Hello:
    """Holds the host that a hello names; `server_name` is empty if it names none."""

    server_name: str
    is_encrypted: bool


class HelloRecords:
    """Takes the records of a hello one by one, and says how many bytes it waits for."""

    def __init__(self) -> None:
        self.raw = bytearray()
        self._message = bytearray()
        self._record_left = 0
        self._records = 0

    @property
    def wanted(self) -> int:
        """Return how many bytes `take` needs next; 0 once the hello is whole."""
        if self._record_left:
            return self._record_left
        if len(self._message) < 4 or len(self._message) < 4 + int.from_bytes(self._message[1:4]):
            return RECORD_HEADER
        return 0

    def take(self, data: bytes) -> None:
        """Take exactly the bytes that were wanted. Raises RefusedError for bytes that are no hello."""
        self.raw += data
        if self._record_left:
            self._message += data
            self._record_left = 0
            self._check_message()
            return
        self._check_header(data)
        self._records += 1
        self._record_left = int.from_bytes(data[3:5])
        if self._records > _MOST_RECORDS or len(self.raw) + self._record_left > _MOST_BYTES:
            raise RefusedError(Why.TOO_LARGE, "the TLS hello is longer than any client's")

    def read(self) -> Hello:
        """Read the whole hello. Raises RefusedError."""
        return read_hello(bytes(self._message[4 : 4 + int.from_bytes(self._message[1:4])]))

    def _check_header(self, data: bytes) -> None:
        if data.startswith(b"SSH-"):
            raise RefusedError(Why.SSH, "SSH is allowed only where a rule names port 22")
        if data[0] != _HANDSHAKE_RECORD or data[1] != 3 or data[3:5] == b"\0\0":
            raise RefusedError(Why.NO_TLS, "a tunnel must begin with a TLS hello that names its host")

    def _check_message(self) -> None:
        if self._message[0] != _CLIENT_HELLO:
            raise RefusedError(Why.NO_TLS, "a tunnel must begin with a TLS hello that names its host")


class _Fields:
    """Reads the fields of a message in order. Raises RefusedError where one is not all there."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def __bool__(self) -> bool:
        return self._at < len(self._data)

    def take(self, count: int) -> bytes:
        """Read so many bytes."""
        end = self._at + count
        if end > len(self._data):
            raise RefusedError(Why.NO_TLS, "the TLS hello is damaged: a length in it does not fit")
        value, self._at = self._data[self._at : end], end
        return value

    def rest(self) -> bytes:
        """Read all that is left."""
        return self.take(len(self._data) - self._at)

    def number(self, size: int) -> int:
        """Read a number of so many bytes."""
        return int.from_bytes(self.take(size))

    def vector(self, size: int) -> _Fields:
        """Read a field that begins with its length, a number of so many bytes."""
        return _Fields(self.take(self.number(size)))


def read_hello(body: bytes) -> Hello:
    """Read the body of a ClientHello. Raises RefusedError."""
    fields = _Fields(body)
    fields.take(2 + 32)  # version and random
    fields.vector(1)  # session id
    fields.vector(2)  # cipher suites
    fields.vector(1)  # compression methods
    seen: dict[int, _Fields] = {}
    extensions = fields.vector(2) if fields else _Fields(b"")
    while extensions:
        kind, value = extensions.number(2), extensions.vector(2)
        if kind in seen:
            raise RefusedError(Why.NO_TLS, "the TLS hello says something twice, so two readers may differ")
        seen[kind] = value
    if fields:
        raise RefusedError(Why.NO_TLS, "the TLS hello is damaged: it goes on behind its end")
    name = _server_name(seen[_SERVER_NAME]) if _SERVER_NAME in seen else ""
    return Hello(name, not _ENCRYPTED_HELLOS.isdisjoint(seen))


def _server_name(value: _Fields) -> str:
    """Read the one name of a list that must hold one. Raises RefusedError."""
    names = value.vector(2)
    kind, name = names.number(1), names.vector(2)
    text = name.rest()
    if kind != 0 or names or value or not text.isascii() or not text.strip():
        raise RefusedError(Why.OTHER_SERVER_NAME, "the TLS hello must name one host, in ASCII")
    return text.decode("ascii").lower().removesuffix(".")
