"""`[tools]`: the door to tools, for the subsystems that have a key at the gateway."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from epad.configuration.servers_schema import ServerConfig


class WebToolsConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """Sets the reach of the tools that use the network: of every subsystem's, and beside its table `confine`."""

    hosts: tuple[str, ...]
    searxng: str


class DockerToolsConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """Sets the container engine that the tools of docker use; empty: they refuse."""

    socket: str


class ToolsConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """Sets the tool door."""

    enabled: bool
    calls_per_minute: Annotated[int, Meta(ge=0)]
    output_tokens_per_hour: Annotated[int, Meta(ge=0)]
    sse: bool
    synced: tuple[str, ...]
    web: WebToolsConfig
    docker: DockerToolsConfig
    servers: dict[str, ServerConfig] = {}
