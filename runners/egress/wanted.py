"""Read the request of a client: a tunnel by CONNECT or SOCKS5, one request by plain HTTP, or a look-up.

`RESOLVE HOST:PORT HTTP/1.1`, a method of our own, asks for the addresses of a host that may be reached at that port.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final

from runners.egress import socks
from runners.egress.network import Streams
from runners.egress.refusal import RefusedError, Why
from runners.egress.request_head import Target, forwarded, read_head, read_plain, read_target

RESOLVE: Final = "resolve"
_TLS_RECORD: Final = b"\x16"
_SOCKS5: Final = b"\x05"
_SOCKS4: Final = b"\x04"


@dataclass(frozen=True, slots=True)
class Wanted:
    """Holds the request of a client. `head` is that of a plain request as it goes on; None for a tunnel.

    `body_length` is None for a body in chunks. `is_head`: it asks for the head of an answer alone.
    `over_tls`: the plain request goes out over TLS that is spoken here.
    """

    how: str
    target: Target
    head: bytes | None = None
    body_length: int | None = 0
    is_head: bool = False
    over_tls: bool = False


async def hear(client: Streams) -> Wanted:
    """Read a request in any of the protocols. Raises RefusedError, and IncompleteReadError if it ends too soon."""
    reader, _ = client
    first = await reader.readexactly(1)
    if first == _SOCKS5:
        try:
            return Wanted("socks5", await socks.read_request(client))
        except RefusedError as refused:
            refused.is_socks = True
            raise
    if first == _SOCKS4:
        raise RefusedError(Why.NOT_OFFERED, "SOCKS4 is not offered: use socks5h://")
    if first == _TLS_RECORD:
        raise RefusedError(Why.BAD_REQUEST, "this proxy speaks HTTP: its address begins with http://")
    try:
        head = read_head(first + await reader.readuntil(b"\r\n\r\n"))
    except asyncio.LimitOverrunError:
        raise RefusedError(Why.TOO_LARGE, "the head of the request is too long") from None
    if head.method == "CONNECT":
        return Wanted("connect", read_target(head.target))
    if head.method == RESOLVE.upper():
        return Wanted(RESOLVE, read_target(head.target))
    request = read_plain(head)
    return Wanted("http", request.target, forwarded(head, request), request.length, head.method == "HEAD")
