"""Show foreign MCP servers, what has changed of their tools, and accept that: a person's looks and orders."""

from __future__ import annotations

from dataclasses import dataclass

from epad.answers.foreign import ServerDiff, ServerList
from epad.foreign.errors import ServerError
from epad.foreign.servers import ForeignServers, NoServerError
from epad.ledger.errors import LedgerError
from epad.operations.protocol import ConflictError, UnknownServerError
from statemachine.tool_targets import CATEGORY_PREFIX


@dataclass(frozen=True, slots=True)
class ServerOrders:
    """Looks at servers and accepts what they list. `servers` is None in a daemon without tools."""

    servers: ForeignServers | None

    def show(self) -> ServerList:
        """Return all servers."""
        return {"servers": []} if self.servers is None else self.servers.show()

    def diff(self, name: str) -> ServerDiff:
        """Return what differs between a server's accepted tools and its list. Raises UnknownServerError."""
        try:
            return self._some().diff(name)
        except NoServerError as error:
            raise UnknownServerError(name, error.known) from error

    async def accept(self, name: str, sha256: str, reason: str, by: str) -> str:
        """Accept what a server lists; return a sentence. Raises UnknownServerError, ConflictError."""
        try:
            return await self._some().accept(name, sha256, reason, by)
        except NoServerError as error:
            raise UnknownServerError(name, error.known) from error
        except ServerError as error:
            raise ConflictError(str(error), f"epactl tools diff {name}") from error
        except (LedgerError, OSError) as error:
            raise ConflictError(
                f"it could not be put on the record, so nothing is accepted: {error}"
            ) from error

    def has_log(self, name: str) -> bool:
        """Tell if a name is that of a server whose output is kept."""
        servers = {} if self.servers is None else self.servers.configured()
        server = servers.get(name.removeprefix(CATEGORY_PREFIX)) if name.startswith(CATEGORY_PREFIX) else None
        return server is not None and bool(server.command)

    def _some(self) -> ForeignServers:
        if self.servers is None:
            raise ConflictError(
                "there are no tools, and so no servers", "`[tools] enabled = true` gives them"
            )
        return self.servers
