"""The official MCP client, unmodified, in both eras: over HTTP, and through `epad mcp` on stdio."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from patience import PATIENCE_SECONDS
from tool_world import definition
from wire_world import LEGACY, MODERN, Wire, wire

mcp = pytest.importorskip("mcp", reason="mcp, the official client, is not installed")

ERAS = [("legacy", LEGACY), (MODERN, MODERN), ("auto", MODERN)]


@asynccontextmanager
async def client(w: Wire, mode: str, transport: str) -> AsyncIterator[Any]:
    """A client of the SDK that has said hello."""
    if transport == "stdio":
        program = mcp.StdioServerParameters(
            command=sys.executable,
            args=["-m", "epad.daemon.entry", "mcp"],
            env={"EPAD_GATEWAY_URL": w.world.url, "EPAD_GATEWAY_KEY": w.world.keys["writer"]},
        )
        async with mcp.Client(mcp.stdio_client(program), mode=mode) as speaking:
            yield speaking
        return
    import httpx2  # noqa: PLC0415  # the SDK's own
    from mcp.client.streamable_http import streamable_http_client  # noqa: PLC0415

    async with httpx2.AsyncClient(headers=w.world.headers(), timeout=PATIENCE_SECONDS) as http:
        way = streamable_http_client(w.world.url + "/mcp", http_client=http)
        async with mcp.Client(way, mode=mode) as speaking:
            yield speaking


@pytest.mark.parametrize("transport", ["http", "stdio"])
@pytest.mark.parametrize(("mode", "version"), ERAS)
async def test_a_whole_conversation(tmp_path: Path, mode: str, version: str, transport: str) -> None:
    """Hello, the list, a call, a tool's error, an unknown tool, and calls at once."""
    async with asyncio.timeout(PATIENCE_SECONDS), wire(tmp_path) as w, client(w, mode, transport) as speaking:
        assert speaking.protocol_version == version
        listed = (await speaking.list_tools()).tools
        assert [each.name for each in listed] == ["bad", "broken", "echo", "hang", "refused"]
        result = await speaking.call_tool("echo", {"text": "grün"})
        assert (result.structured_content, result.is_error) == ({"text": "grün"}, False)
        result = await speaking.call_tool("bad", {})
        assert result.is_error
        assert "a hint" in result.content[0].text
        with pytest.raises(mcp.MCPError):
            await speaking.call_tool("nowhere", {})
        many = await asyncio.gather(*(speaking.call_tool("echo", {"text": str(n)}) for n in range(20)))
        assert [each.structured_content["text"] for each in many] == [str(n) for n in range(20)]


@pytest.mark.parametrize("transport", ["http", "stdio"])
@pytest.mark.parametrize("mode", ["legacy", MODERN])
async def test_a_call_that_is_given_up(tmp_path: Path, mode: str, transport: str) -> None:
    """The call is cancelled in epad too, and the client goes on."""
    async with asyncio.timeout(PATIENCE_SECONDS), wire(tmp_path) as w, client(w, mode, transport) as speaking:
        with pytest.raises(mcp.MCPError):
            await speaking.call_tool("hang", {}, read_timeout_seconds=0.3)
        await w.tools.cancelled.wait()
        result = await speaking.call_tool("echo", {"text": "x"})
        assert result.structured_content == {"text": "x"}


@pytest.mark.parametrize("mode", ["legacy", MODERN])
async def test_search_mode(tmp_path: Path, mode: str) -> None:
    """Above forty tools the list is short; what is found is called through it."""
    many = [definition(f"tool_{n}", f"Do the thing number {n}.") for n in range(41)]
    many.append(definition("parrot", "Repeat words like a bird."))
    async with (
        asyncio.timeout(PATIENCE_SECONDS),
        wire(tmp_path, many) as w,
        client(w, mode, "http") as speaking,
    ):
        assert [each.name for each in (await speaking.list_tools()).tools] == ["tool_call", "tool_search"]
        found = await speaking.call_tool("tool_search", {"query": "repeating a word"})
        assert found.structured_content["tools"][0]["name"] == "parrot"
        result = await speaking.call_tool("tool_call", {"name": "parrot", "arguments": {"text": "x"}})
        assert result.structured_content == {"text": "x"}
        assert [each[1] for each in w.tools.calls] == ["parrot"]
