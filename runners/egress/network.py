"""Reach the network for the way out: look a name up, tell this machine's own addresses, and connect."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, Protocol

READ_BYTES: Final = 65_536
BUFFER_BYTES: Final = 32_768
"""Kept of what a connection has sent and nobody has read; a head must fit in."""
_LOOK_UPS_AT_ONCE: Final = 64
_NOBODYS: Final = "192.0.2.1"
"""An address for documentation, which no machine has."""

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Network(Protocol):
    """Defines the calls of the network that a door needs; tests hand in one of their own."""

    async def look_up(self, host: str) -> Sequence[str]:
        """Return a host's addresses, those to be tried first before the others. Raises OSError."""
        ...

    def is_own(self, address: str) -> bool:
        """Tell if an address is one of this machine."""
        ...

    async def connect(self, address: str, port: int, tls_name: str = "") -> Streams:
        """Connect to an address; over TLS, if the server is to prove that it has a name. Raises OSError."""
        ...


class SystemNetwork:
    """The network of this machine."""

    def __init__(self) -> None:
        self._tls: ssl.SSLContext | None = None
        self._threads = ThreadPoolExecutor(_LOOK_UPS_AT_ONCE, thread_name_prefix="look-up")

    async def look_up(self, host: str) -> Sequence[str]:
        """Ask the system's resolver, in a thread: it may take as long as it likes."""
        loop = asyncio.get_running_loop()
        found = await loop.run_in_executor(self._threads, _addresses, host)
        return list(dict.fromkeys(found))

    def is_own(self, address: str) -> bool:
        """Try to be that address: the kernel lets nobody be another's, unless net.ipv4.ip_nonlocal_bind is set."""
        return _can_bind(address) and (not _can_bind(_NOBODYS) or _begins_at(address))

    async def connect(self, address: str, port: int, tls_name: str = "") -> Streams:
        """Connect over TCP, and over TLS on top of it."""
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        connecting = socket.socket(family, socket.SOCK_STREAM)
        try:
            connecting.setblocking(False)
            await asyncio.get_running_loop().sock_connect(connecting, (address, port))
            if tls_name and self._tls is None:
                self._tls = ssl.create_default_context()
            return await streams_of(connecting, self._tls if tls_name else None, tls_name)
        except BaseException:
            connecting.close()
            raise


async def streams_of(
    connected: socket.socket, tls: ssl.SSLContext | None = None, tls_name: str = ""
) -> Streams:
    """Return the streams of a connected socket. Raises OSError where TLS fails."""
    connected.setblocking(False)
    with contextlib.suppress(OSError):  # a Unix socket has no such option
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return await asyncio.open_connection(
        sock=connected, limit=BUFFER_BYTES, ssl=tls, server_hostname=tls_name if tls is not None else None
    )


def _addresses(host: str) -> list[str]:
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return [str(address[0]) for *_, address in found]


def _can_bind(address: str) -> bool:
    with contextlib.suppress(OSError), _datagrams(address) as datagrams:
        datagrams.bind((address, 0))
        return True
    return False


def _begins_at(address: str) -> bool:
    """Tell if the route to an address begins there, as that to an interface's first one does. Nothing is sent."""
    with contextlib.suppress(OSError), _datagrams(address) as datagrams:
        datagrams.connect((address, 9))
        return bool(datagrams.getsockname()[0] == address)
    return False


def _datagrams(address: str) -> socket.socket:
    return socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
