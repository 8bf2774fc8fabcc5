"""Build a child's environment: the gateway's address and a key of its own, in every dialect's words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Protocol

from epad.configuration.schema import SubsystemConfig
from epad.confinement.decoys import Decoys
from epad.gateway.identity import Identities

IDENTITY_VARIABLE: Final = "SPIFFE_ENDPOINT_SOCKET"
"""Where every SPIFFE client looks for the Workload API (SPIFFE_Workload_Endpoint.md, 4)."""


class CellAddresses(Protocol):
    """Knows the addresses of doors as they are inside a subsystem's cell."""

    async def gateway_url(self, subsystem: str) -> str:
        """Return the URL of the gateway's door; empty where there is none."""
        ...

    async def proxies(self, subsystem: str) -> Mapping[str, str]:
        """Return the variables that lead to the way out; none where there is none."""
        ...


class NoCellAddresses:
    """For a daemon that confines nothing."""

    async def gateway_url(self, subsystem: str) -> str:
        del subsystem
        return ""

    async def proxies(self, subsystem: str) -> Mapping[str, str]:
        del subsystem
        return {}


class Environments:
    """Makes the environment of each start. Every start gets a fresh key; the former ones are revoked."""

    def __init__(
        self,
        subsystems: Mapping[str, SubsystemConfig],
        identities: Identities,
        cells: CellAddresses | None = None,
        decoys: Decoys | None = None,
        identity: str = "",
    ) -> None:
        """`identity` is the address of the SPIFFE Workload API; empty where there is none."""
        self._subsystems = subsystems
        self._identities = identities
        self._cells = cells or NoCellAddresses()
        self._decoys = decoys
        self._identity = {IDENTITY_VARIABLE: identity} if identity else {}
        self.gateway_url = ""

    def configure(self, subsystems: Mapping[str, SubsystemConfig]) -> None:
        """Make the environments of these from now on."""
        self._subsystems = subsystems

    async def of(self, name: str) -> dict[str, str]:
        """Return the variables for one start of a subsystem. Raises DatabaseError."""
        inside = {**await self._cells.proxies(name), **self._planted(name), **self._identity}
        if not self._subsystems[name].gateway:
            return inside
        url = await self._cells.gateway_url(name) or self.gateway_url
        key = await self._identities.issue(name, alone=True)
        return {
            **inside,
            "EPAD_GATEWAY_URL": url,
            "EPAD_GATEWAY_KEY": key,
            "OPENAI_BASE_URL": f"{url}/v1",
            "OPENAI_API_KEY": key,
            "ANTHROPIC_BASE_URL": url,
            "ANTHROPIC_API_KEY": key,
            "OLLAMA_HOST": url,
            "OLLAMA_API_KEY": key,
        }

    def _planted(self, name: str) -> dict[str, str]:
        """Return the variables with a subsystem's decoy, if it is to have one."""
        confine = self._subsystems[name].confine
        if self._decoys is None or confine is None or not confine.decoys:
            return {}
        return self._decoys.variables(name)
