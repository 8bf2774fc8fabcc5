"""`[identity]`: SPIFFE ids of subsystems, over the Workload API."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from msgspec import Meta, Struct

from epad.configuration.complaint import Complaint

_MOST_TRUST_DOMAIN = 255


class IdentityConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """Sets who vouches for subsystems: epad itself, or a SPIRE agent at `socket`."""

    enabled: bool
    trust_domain: Annotated[str, Meta(pattern=r"^[a-z0-9._-]+$", max_length=_MOST_TRUST_DOMAIN)]
    socket: str


def check_identity(config: IdentityConfig) -> Iterator[Complaint]:
    """Yield a fault of the agent's socket."""
    path = config.socket.removeprefix("unix://")
    if config.socket and (path == config.socket or not path.startswith("/")):
        text = f'is {config.socket!r}; give it as "unix:///run/spire/agent.sock", or "" for epad\'s own Workload API'
        yield Complaint(("identity", "socket"), text)
