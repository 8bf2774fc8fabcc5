"""Identify the two ends of a connection."""

from __future__ import annotations

import asyncio
import socket
import struct

_CREDENTIALS = struct.Struct("3i")


def local_address(transport: asyncio.Transport | None) -> str:
    """Return our socket that it came in by: HOST:PORT, or unix:PATH; empty once it is gone."""
    if transport is None:
        return ""
    name = transport.get_extra_info("sockname")
    if isinstance(name, str):
        return f"unix:{name}"
    host, port = name[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def peer_uid(transport: asyncio.Transport | None) -> int | None:
    """Return the uid at the other end of a Unix socket, as the kernel vouches for it; None on TCP."""
    peer = transport and transport.get_extra_info("socket")
    if not peer or peer.family != socket.AF_UNIX:
        return None
    raw = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return int(_CREDENTIALS.unpack(raw)[1])
