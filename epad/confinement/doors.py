"""Name the doors of a cell: where they are inside, and who accepts at them."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from enum import StrEnum
from typing import Final, Protocol


class DoorKind(StrEnum):
    """Names the doors that a cell may have."""

    GATEWAY = "gateway"
    WAY_OUT = "way out"


ADDRESSES: Final[Mapping[DoorKind, tuple[str, int]]] = {
    DoorKind.GATEWAY: ("127.0.0.1", 8711),
    DoorKind.WAY_OUT: ("127.0.0.1", 8712),
}
"""Where the doors are inside: the same in every cell, since each has a loopback of its own."""


class Doorkeeper(Protocol):
    """Accepts at the doors of one kind."""

    async def open(self, subsystem: str, listening: socket.socket) -> None:
        """Accept at a subsystem's door; the socket belongs to who accepts."""
        ...

    async def close(self, subsystem: str) -> None:
        """Accept no more, and hang up on who came in."""
        ...


def url_of(kind: DoorKind) -> str:
    """Return the URL of a door as it is inside."""
    host, port = ADDRESSES[kind]
    return f"http://{host}:{port}"
