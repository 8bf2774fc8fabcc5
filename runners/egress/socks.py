"""Speak SOCKS5 to a client (RFC 1928): CONNECT without a password. There is no BIND and no UDP."""

from __future__ import annotations

import ipaddress
from typing import Final

from runners.egress.network import Streams
from runners.egress.refusal import RefusedError, Why
from runners.egress.request_head import Target
from runners.egress.rules import RuleError, host_name

VERSION: Final = 5
SUCCEEDED: Final = 0
_CONNECT: Final = 1
_NO_PASSWORD: Final = 0
_NONE_ACCEPTABLE: Final = 0xFF
_V4, _NAME, _V6 = 1, 3, 4
_NOT_ALLOWED: Final = 2
_REPLIES: Final = {
    Why.UNKNOWN_NAME: 4,
    Why.UNREACHABLE: 4,
    Why.NOT_OFFERED: 7,
    Why.BAD_REQUEST: 1,
}


async def read_request(streams: Streams) -> Target:
    """Read a client's greeting behind its version, and its request. Raises RefusedError."""
    reader, writer = streams
    methods = await reader.readexactly((await reader.readexactly(1))[0])
    if _NO_PASSWORD not in methods:
        writer.write(bytes((VERSION, _NONE_ACCEPTABLE)))
        raise RefusedError(Why.NOT_OFFERED, "SOCKS5 is offered without a password only")
    writer.write(bytes((VERSION, _NO_PASSWORD)))
    version, command, _, kind = await reader.readexactly(4)
    if version != VERSION:
        raise RefusedError(Why.BAD_REQUEST, "the request is none of SOCKS5")
    host = await _read_host(streams, kind)
    port = int.from_bytes(await reader.readexactly(2))
    if command != _CONNECT:
        raise RefusedError(Why.NOT_OFFERED, "SOCKS5 is offered for connections only: no BIND, no UDP")
    try:
        return Target(host_name(host), port)
    except RuleError as error:
        raise RefusedError(Why.BAD_REQUEST, str(error)) from None


def reply(code: int) -> bytes:
    """Return the reply to a request; no address is told."""
    return bytes((VERSION, code, 0, _V4)) + bytes(6)


def refusal(refused: RefusedError) -> bytes:
    """Return the reply to a request that is refused."""
    return reply(_REPLIES.get(refused.why, _NOT_ALLOWED))


async def _read_host(streams: Streams, kind: int) -> str:
    reader, _ = streams
    if kind == _NAME:
        name = await reader.readexactly((await reader.readexactly(1))[0])
        return name.decode("latin-1")
    if kind == _V4:
        return str(ipaddress.IPv4Address(await reader.readexactly(4)))
    if kind == _V6:
        return str(ipaddress.IPv6Address(await reader.readexactly(16)))
    raise RefusedError(Why.BAD_REQUEST, "the request has no address that SOCKS5 knows")
