"""The gateway's doors inside cells: each a socket of a confined subsystem's own network, opened and cut by its name.

Two cells may use the same address, so a door's owner is its listener.
"""

from __future__ import annotations

import socket

from epad.gateway.http.server import HttpServer, Listener


class CellDoors:
    """Lets confined subsystems in, and cuts one off."""

    def __init__(self, server: HttpServer) -> None:
        self._server = server
        self._listeners: dict[str, Listener] = {}

    async def open(self, subsystem: str, listening: socket.socket) -> None:
        """Accept at a subsystem's door; the socket is the door's from now on, and one that it had is cut."""
        await self.close(subsystem)
        self._listeners[subsystem] = self._server.listen_on(listening, subsystem, handed_over=False)

    async def close(self, subsystem: str) -> None:
        """Accept no more, and hang up on clients that came in: `Access` severs turns in flight, which end first."""
        listener = self._listeners.pop(subsystem, None)
        if listener is not None:
            await self._server.cut(listener)
