"""`[tools]`: the door to tools, for the subsystems that have a key at the gateway."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct


class ToolsConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """Sets the tool door."""

    enabled: bool
    calls_per_minute: Annotated[int, Meta(ge=0)]
    sse: bool
