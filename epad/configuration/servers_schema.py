"""`[tools.servers.NAME]`: an MCP server that somebody else wrote."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from epad.configuration.sizes import Size


class ServerConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """Sets a foreign server: a child by `command`, or one that listens elsewhere by `url`.

    docs/foreign-servers.md explains it. `risks` are what a person has found out about its tools; a tool that is not
    named there is taken for one that runs code.
    """

    command: tuple[str, ...] = ()
    url: str = ""
    environment: dict[str, str] = {}
    headers: dict[str, str] = {}
    workspace: str = ""
    read: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    user: str = ""
    require: Literal["all", "best"] = "all"
    memory_max: Size = "1GiB"
    call_seconds: Annotated[float, Meta(gt=0, le=3_600)] = 60.0
    start_seconds: Annotated[float, Meta(gt=0, le=600)] = 30.0
    risks: dict[str, str] = {}
