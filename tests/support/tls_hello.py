"""TLS hellos as clients send them: Python's own, and ones made by hand to be wrong in one way."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Sequence

ENCRYPTED_HELLO = 0xFE0D


def real_hello(host: str | None) -> bytes:
    """Return the hello of Python's client."""
    context = ssl.create_default_context()
    context.check_hostname = host is not None
    outgoing = ssl.MemoryBIO()
    talk = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=host)
    with contextlib.suppress(ssl.SSLWantReadError):
        talk.do_handshake()
    return outgoing.read()


def server_name(*names: str) -> tuple[int, bytes]:
    """Return the extension that names a server."""
    entries = b"".join(b"\0" + len(name).to_bytes(2) + name.encode() for name in names)
    return 0, len(entries).to_bytes(2) + entries


def body(extensions: Sequence[tuple[int, bytes]]) -> bytes:
    """Return the body of a hello with these extensions."""
    said = b"".join(kind.to_bytes(2) + len(value).to_bytes(2) + value for kind, value in extensions)
    return b"\x03\x03" + bytes(32) + b"\0" + b"\0\x02\x13\x01" + b"\x01\0" + len(said).to_bytes(2) + said


def records(hello: bytes, piece: int = 16_000) -> bytes:
    """Return a hello's body as a message, in records of so many bytes."""
    message = b"\x01" + len(hello).to_bytes(3) + hello
    pieces = [message[at : at + piece] for at in range(0, len(message), piece)]
    return b"".join(b"\x16\x03\x01" + len(one).to_bytes(2) + one for one in pieces)
