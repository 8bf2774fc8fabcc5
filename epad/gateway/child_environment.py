"""Build a child's environment: the gateway's address and a key of its own, in every dialect's words."""

from __future__ import annotations

from collections.abc import Mapping

from epad.configuration.schema import SubsystemConfig
from epad.gateway.identity import Identities


class Environments:
    """Makes the environment of each start. Every start gets a fresh key; the former ones are revoked."""

    def __init__(self, subsystems: Mapping[str, SubsystemConfig], identities: Identities) -> None:
        self._subsystems = subsystems
        self._identities = identities
        self.gateway_url = ""

    def configure(self, subsystems: Mapping[str, SubsystemConfig]) -> None:
        """Make the environments of these from now on."""
        self._subsystems = subsystems

    async def of(self, name: str) -> dict[str, str]:
        """Return the variables for one start of a subsystem. Raises DatabaseError."""
        if not self._subsystems[name].gateway:
            return {}
        key = await self._identities.issue(name, alone=True)
        return {
            "EPAD_GATEWAY_URL": self.gateway_url,
            "EPAD_GATEWAY_KEY": key,
            "OPENAI_BASE_URL": f"{self.gateway_url}/v1",
            "OPENAI_API_KEY": key,
            "ANTHROPIC_BASE_URL": self.gateway_url,
            "ANTHROPIC_API_KEY": key,
            "OLLAMA_HOST": self.gateway_url,
            "OLLAMA_API_KEY": key,
        }
