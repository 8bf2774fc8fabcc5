"""A gateway with the tool door over tools in memory, and what a client of either era sends."""

from __future__ import annotations

import io
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog
from gateway_world import World, world
from tool_world import MemoryTools

from epad.tools.protocol import Definition
from epad.tools.wire.door import ToolDoor
from epad.tools.wire.slow_answer import Pauses

MODERN, LEGACY = "2026-07-28", "2025-11-25"
BOTH = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
_META = "io.modelcontextprotocol/"


@dataclass
class Wire:
    """The world, its tools, and the ways to ask."""

    world: World
    tools: MemoryTools

    async def raw(
        self,
        body: bytes,
        headers: Mapping[str, str] | None = None,
        *,
        method: str = "POST",
        path: str = "/mcp",
    ) -> tuple[int, Any, Mapping[str, str]]:
        """Send bytes; return the status, the answer read as JSON (None for no body), and the headers."""
        fields = {**self.world.headers(), **BOTH, **(headers or {})}
        url = self.world.url + path
        async with self.world.http.request(method, url, data=io.BytesIO(body), headers=fields) as response:
            text = await response.read()
            return response.status, json.loads(text) if text else None, response.headers

    async def modern(
        self, method: str, params: Mapping[str, Any] | None = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, Any]:
        """Send a request as 2026-07-28 has it; return the status and the message."""
        body, fields = modern_request(method, params)
        status, answer, _ = await self.raw(json.dumps(body).encode(), {**fields, **(headers or {})})
        return status, answer

    async def legacy(
        self, method: str, params: Mapping[str, Any] | None = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, Any]:
        """Send a request as 2025-11-25 has it."""
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": dict(params or {})}
        fields = {"MCP-Protocol-Version": LEGACY, **(headers or {})}
        status, answer, _ = await self.raw(json.dumps(body).encode(), fields)
        return status, answer


def modern_request(
    method: str, params: Mapping[str, Any] | None = None
) -> tuple[dict[str, Any], dict[str, str]]:
    """Return a request's body and the headers that repeat it."""
    given = dict(params or {})
    meta = {
        _META + "protocolVersion": MODERN,
        _META + "clientInfo": {"name": "test", "version": "1"},
        _META + "clientCapabilities": {},
        **given.pop("_meta", {}),
    }
    headers = {"MCP-Protocol-Version": MODERN, "Mcp-Method": method}
    if "name" in given:
        headers["Mcp-Name"] = given["name"]
    return {"jsonrpc": "2.0", "id": 1, "method": method, "params": {**given, "_meta": meta}}, headers


@asynccontextmanager
async def wire(
    directory: Path, extra: Sequence[Definition] = (), pause: float | None = None, **given: Any
) -> AsyncIterator[Wire]:
    """Serve the tool door; `pause` is how long a client goes without a sign of its call."""
    pauses = None if pause is None else Pauses(pause, pause)
    tools = MemoryTools(extra)
    async with world(
        directory, side=ToolDoor(tools, structlog.get_logger(), pauses=pauses), **given
    ) as served:
        yield Wire(served, tools)
