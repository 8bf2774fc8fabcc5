"""MCP 2025-11-25 and before: a handshake, and results without the marks of the newer era."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from wire_world import Wire, wire


@pytest.fixture
async def w(tmp_path: Path) -> AsyncIterator[Wire]:
    async with wire(tmp_path) as served:
        yield served


@pytest.mark.parametrize(
    ("wanted", "spoken"),
    [
        ("2025-11-25", "2025-11-25"),
        ("2025-06-18", "2025-06-18"),
        ("2024-11-05", "2024-11-05"),
        ("2026-07-28", "2025-11-25"),
        ("1.0", "2025-11-25"),
    ],
)
async def test_the_version_is_agreed_on(w: Wire, wanted: str, spoken: str) -> None:
    """The client's if it is spoken here; a handshake leads to no newer one than the era has."""
    body = (
        b'{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"%b"}}' % wanted.encode()
    )
    status, answer, fields = await w.raw(body)
    assert (status, answer["result"]["protocolVersion"]) == (200, spoken)
    assert answer["result"]["serverInfo"]["name"] == "epad"
    assert answer["result"]["capabilities"].keys() == {"tools", "resources", "prompts", "completions"}
    assert len(fields["Mcp-Session-Id"]) == 32


async def test_each_client_has_a_session_of_its_own(w: Wire) -> None:
    body = b'{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25"}}'
    assert len({(await w.raw(body))[2]["Mcp-Session-Id"] for _ in range(3)}) == 3


async def test_a_handshake_without_a_version(w: Wire) -> None:
    status, answer, _ = await w.raw(b'{"jsonrpc":"2.0","id":1,"method":"initialize"}')
    assert (status, answer["error"]["code"]) == (200, -32602)


@pytest.mark.parametrize("session", [{}, {"Mcp-Session-Id": "nobody-gave-this-out"}])
async def test_any_session_will_do(w: Wire, session: dict[str, str]) -> None:
    """It opens nothing and holds nothing, so a restart of the daemon ends none."""
    status, answer = await w.legacy("tools/list", headers=session)
    assert status == 200
    assert answer["result"].keys() == {"tools"}


@pytest.mark.parametrize("method", ["resources/list", "resources/templates/list", "prompts/list"])
async def test_empty_lists(w: Wire, method: str) -> None:
    status, answer = await w.legacy(method)
    assert (status, list(answer["result"].values())) == (200, [[]])


@pytest.mark.parametrize("method", ["server/discover", "logging/setLevel", "nothing", ""])
async def test_methods_that_are_not_there(w: Wire, method: str) -> None:
    """The error is in the message; HTTP went well."""
    status, answer = await w.legacy(method)
    assert (status, answer["error"]["code"], answer["id"]) == (200, -32601, 1)


async def test_a_call(w: Wire) -> None:
    status, answer = await w.legacy("tools/call", {"name": "echo", "arguments": {"text": "x"}})
    assert (status, answer["result"]["structuredContent"]) == (200, {"text": "x"})
    assert "resultType" not in answer["result"]
    status, answer = await w.legacy("tools/call", {"name": "echo", "arguments": None})
    assert (status, answer["result"]["structuredContent"]) == (200, {})


@pytest.mark.parametrize(
    "headers",
    [
        {"Mcp-Name": "bad"},
        {"Mcp-Name": ""},
        {"Mcp-Method": "tools/list"},
    ],
)
async def test_headers_that_differ_from_the_body(w: Wire, headers: dict[str, str]) -> None:
    """No client of this era has to send them, but a proxy may have decided by them; those that agree are taken."""
    params = {"name": "echo", "arguments": {"text": "x"}}
    status, answer = await w.legacy("tools/call", params, headers)
    assert (status, answer["error"]["code"], w.tools.calls) == (400, -32020, [])
    agreeing = {"Mcp-Name": "echo", "Mcp-Method": "tools/call"}
    status, answer = await w.legacy("tools/call", params, agreeing)
    assert (status, answer["result"]["structuredContent"]) == (200, {"text": "x"})


async def test_there_are_no_resources_and_prompts(w: Wire) -> None:
    """Each is told by its name."""
    uri = "epad://result/none"
    status, answer = await w.legacy("resources/read", {"uri": uri})
    assert (status, answer["error"]["code"], answer["error"]["data"]) == (200, -32002, {"uri": uri})
    status, answer = await w.legacy("prompts/get", {"name": "hello"})
    assert (status, answer["error"]["code"]) == (200, -32602)
