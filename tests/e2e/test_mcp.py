"""An agent's host speaks MCP to the installed daemon: the official client, unmodified, through `epad mcp`."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from installed import QUICK, installation
from patience import PATIENCE_SECONDS

mcp = pytest.importorskip("mcp", reason="mcp, the official client, is not installed")


@asynccontextmanager
async def speaking(door: Path, mode: str) -> AsyncIterator[Any]:
    """A client that has started its server as hosts do."""
    program = mcp.StdioServerParameters(
        command=sys.executable,
        args=["-m", "epad.daemon.entry", "mcp", "--url", f"unix:{door}"],
        env={"PATH": os.environ["PATH"]},
    )
    async with mcp.Client(mcp.stdio_client(program), mode=mode) as client:
        yield client


async def work(door: Path, mode: str) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS), speaking(door, mode) as client:
        names = [each.name for each in (await client.list_tools()).tools]
        assert "file_read" in names
        assert len(names) <= 40
        result = await client.call_tool("file_read", {"path": "a.txt"})
        assert (result.structured_content["text"], result.is_error) == ("hello\n", False)
        refused = await client.call_tool("file_read", {"path": "../secret.txt"})
        assert refused.is_error
        assert "hint" in refused.content[0].text
        found = await client.call_tool("tool_search", {"query": "delete a file"})
        assert "file_delete" in [each["name"] for each in found.structured_content["tools"]]
        refused = await client.call_tool("tool_call", {"name": "file_delete", "arguments": {"path": "a.txt"}})
        assert refused.is_error
        with pytest.raises(mcp.MCPError):
            await client.call_tool("file_eat", {})


def test_a_host_works_with_tools_in_both_eras(tmp_path: Path) -> None:
    """It lists, reads, is refused what lies outside and what its tier may not, and searches for what is not shown."""
    workspace, door = tmp_path / "work", tmp_path / "door"
    workspace.mkdir()
    (workspace / "a.txt").write_text("hello\n")
    (tmp_path / "secret.txt").write_text("secret")
    table = (
        '[containment]\noperator = "block"\n[tools]\nenabled = true\n[subsystems.agent]\n'
        f'command = ["sleep", "600"]\nworking_directory = "{workspace}"\nlisten = "unix:{door}"\n'
    )
    with installation(QUICK + table) as house:
        house.start()
        for mode in ("legacy", "2026-07-28"):
            asyncio.run(work(door, mode))
        assert (workspace / "a.txt").exists()
        assert house.stop() == 0
