"""A tool that answers its text, by servers that others wrote: `_tools_servers.py lowlevel|fastmcp PORT`."""

from __future__ import annotations

import logging
import sys
from typing import Any

TEXT = {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}


def low_level(port: int) -> None:
    """Serve by the official SDK's own lowest layer."""
    import mcp_types  # noqa: PLC0415
    import uvicorn  # noqa: PLC0415
    from mcp.server.lowlevel import Server  # noqa: PLC0415

    async def listed(*_: Any) -> Any:
        return mcp_types.ListToolsResult(
            tools=[mcp_types.Tool(name="echo", description="Echo.", input_schema=TEXT)]
        )

    async def called(_: Any, params: Any) -> Any:
        block = mcp_types.TextContent(type="text", text=str((params.arguments or {}).get("text")))
        return mcp_types.CallToolResult(content=[block])

    server = Server("peer", on_list_tools=listed, on_call_tool=called)
    app = server.streamable_http_app(json_response=True, stateless_http=True)
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="error")


def fast(port: int) -> None:
    """Serve by FastMCP."""
    from fastmcp import FastMCP  # noqa: PLC0415

    server = FastMCP("peer")

    @server.tool
    def echo(text: str) -> str:
        """Echo."""
        return text

    server.run(
        transport="http",
        host="127.0.0.1",
        port=port,
        json_response=True,
        stateless_http=True,
        show_banner=False,
    )


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    {"lowlevel": low_level, "fastmcp": fast}[sys.argv[1]](int(sys.argv[2]))
