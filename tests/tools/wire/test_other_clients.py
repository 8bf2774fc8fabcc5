"""Clients that others wrote, unmodified, in both eras and both ways: FastMCP, the TypeScript SDKs, the Inspector."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import structlog
from conformance_fixture import FixtureTools, parts
from gateway_world import World, world
from mcp_programs import MODULES, NODE, without
from patience import PATIENCE_SECONDS
from wire_world import MODERN, wire

from epad.tools.wire.door import ToolDoor

NAMES = ["bad", "broken", "echo", "hang", "refused"]
RELAY = [sys.executable, "-m", "epad.daemon.entry", "mcp"]


async def said(command: Sequence[object], folder: Path, **environment: str) -> Any:
    """What a program prints, read as JSON."""
    process = await asyncio.create_subprocess_exec(
        *map(str, command),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "HOME": str(folder), "MCP_CATALOG_PATH": str(folder / "mcp.json"), **environment},
    )
    async with asyncio.timeout(PATIENCE_SECONDS):
        out, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()[-2000:]
    return json.loads(out)


@without("sdk", "client")
@pytest.mark.parametrize("transport", ["http", "stdio"])
@pytest.mark.parametrize(("kit", "era"), [("sdk", "legacy"), ("client", "legacy"), ("client", MODERN)])
async def test_the_typescript_sdks(tmp_path: Path, kit: str, era: str, transport: str) -> None:
    """The list, a call, a tool's error, an unknown tool, and calls at once."""
    async with wire(tmp_path) as w:
        url, key = w.world.url, w.world.keys["writer"]
        rest = [f"{url}/mcp", key] if transport == "http" else [sys.executable, url, key]
        script = Path(__file__).parents[2] / "support/ts_client.mjs"
        told = await said([NODE, script, MODULES, kit, era, transport, *rest], tmp_path)
    assert told == {
        "names": NAMES,
        "echo": {"text": "grün"},
        "bad": True,
        "unknown": -32602,
        "many": [str(number) for number in range(20)],
    }


@without("inspector")
@pytest.mark.parametrize("transport", ["http", "stdio"])
@pytest.mark.parametrize("era", ["legacy", "modern"])
async def test_the_inspector(tmp_path: Path, era: str, transport: str) -> None:
    async with wire(tmp_path) as w:
        url, key = w.world.url, w.world.keys["writer"]
        if transport == "http":
            target = [url + "/mcp", "--transport", "http", "--header", f"Authorization: Bearer {key}"]
        else:
            target = ["-e", f"EPAD_GATEWAY_URL={url}", "-e", f"EPAD_GATEWAY_KEY={key}", *RELAY]
        program = [NODE, MODULES / ".bin/inspector", "--cli"]
        options = ["--protocol-era", era, "--format", "json", "-q"]
        listed = await said([*program, *options, "--method", "tools/list", *target], tmp_path)
        call = ["--method", "tools/call", "--tool-name", "echo", "--tool-args-json", '{"text": "grün"}']
        answer = await said([*program, *options, *call, *target], tmp_path)
    assert [each["name"] for each in listed["result"]["tools"]] == NAMES
    assert answer["result"]["structuredContent"] == {"text": "grün"}


@asynccontextmanager
async def fast_client(served: World, mode: str, transport: str, **given: Any) -> AsyncIterator[Any]:
    fastmcp = pytest.importorskip("fastmcp", reason="fastmcp is not installed")
    key = served.keys["writer"]
    if transport == "http":
        way = fastmcp.client.StreamableHttpTransport(
            served.url + "/mcp", headers={"Authorization": f"Bearer {key}"}
        )
    else:
        environment = {"EPAD_GATEWAY_URL": served.url, "EPAD_GATEWAY_KEY": key}
        way = fastmcp.client.StdioTransport(RELAY[0], RELAY[1:], env=environment, keep_alive=False)
    async with asyncio.timeout(PATIENCE_SECONDS), fastmcp.Client(way, mode=mode, **given) as client:
        yield client


@pytest.mark.parametrize("transport", ["http", "stdio"])
@pytest.mark.parametrize("mode", ["legacy", MODERN])
async def test_fastmcp(tmp_path: Path, mode: str, transport: str) -> None:
    async with wire(tmp_path) as w, fast_client(w.world, mode, transport) as client:
        assert [each.name for each in await client.list_tools()] == NAMES
        result = await client.call_tool("echo", {"text": "grün"})
        assert result.structured_content == {"text": "grün"}
        assert (await client.call_tool("bad", {}, raise_on_error=False)).is_error


@pytest.mark.parametrize("transport", ["http", "stdio"])
@pytest.mark.parametrize("mode", ["legacy", MODERN])
async def test_a_person_is_asked(tmp_path: Path, mode: str, transport: str) -> None:
    """The client shows the question, whichever way its era puts it."""
    asked: list[str] = []

    async def answer(message: str, *_: object) -> dict[str, str]:
        asked.append(message)
        return {"name": "Ada"}

    side = ToolDoor(FixtureTools(), structlog.get_logger(), **parts())
    async with (
        world(tmp_path, side=side) as served,
        fast_client(served, mode, transport, elicitation_handler=answer) as client,
    ):
        result = await client.call_tool("test_input_required_result_elicitation", {})
    assert asked == ["What is your name?"]
    assert "Ada" in result.content[0].text
