"""Connect to a foreign server: to a child in a cell of its own, or to a URL."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from epad.configuration.servers_schema import ServerConfig
from epad.foreign.cell import ServerCells
from epad.foreign.child import Child
from epad.foreign.dialogue import Asking
from epad.foreign.http import HttpPeer
from epad.foreign.leftovers import Leftovers


@dataclass(slots=True)
class ChildLink:
    """A connection to a child; implements `epad.foreign.server.Link`."""

    asking: Asking
    ended: asyncio.Future[str]
    pid: int | None
    missing: Mapping[str, str]
    child: Child

    async def close(self, why: str) -> None:
        """End the child, and wait until it is gone."""
        if not self.ended.done():
            self.ended.set_result(why)
        await self.child.close(why)


@dataclass(slots=True)
class UrlLink:
    """A conversation at a URL."""

    peer: HttpPeer
    ended: asyncio.Future[str]
    asking: Asking
    pid: int | None = None
    missing: Mapping[str, str] = field(default_factory=dict)

    async def close(self, why: str) -> None:
        """Hang up."""
        if not self.ended.done():
            self.ended.set_result(why)
        await self.peer.close()


@dataclass(frozen=True, slots=True)
class Connector:
    """Connects. `config` returns a server's table as of now, `secret` a text of it with its placeholders filled in."""

    config: Callable[[str], ServerConfig]
    cells: ServerCells
    leftovers: Leftovers
    secret: Callable[[str, str], Awaitable[str]]

    async def __call__(self, name: str, changed: Callable[[], None]) -> ChildLink | UrlLink:
        """Return a connection to a server. Raises EpadError, OSError."""
        config = self.config(name)
        ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()

        def over(why: str) -> None:
            if not ended.done():
                ended.set_result(why)

        if config.url:
            headers = {key: await self.secret(name, value) for key, value in config.headers.items()}
            peer = HttpPeer(config.url, headers, over)
            return UrlLink(peer, ended, peer)
        started = await self.cells.start(name)
        self.leftovers.note(name, started.pid)

        def gone(why: str) -> None:
            self.leftovers.forget(name, started.pid)
            started.ended()
            over(why)

        child = await Child.hold(started.pid, started.pipes, changed, gone)
        return ChildLink(child.peer, ended, started.pid, started.missing, child)
