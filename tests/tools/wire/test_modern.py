"""MCP 2026-07-28: each request stands by itself, and its headers repeat it."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from wire_world import LEGACY, MODERN, Wire, modern_request, wire

from epad import __version__

META = "io.modelcontextprotocol/"


@pytest.fixture
async def w(tmp_path: Path) -> AsyncIterator[Wire]:
    async with wire(tmp_path) as served:
        yield served


async def test_discover(w: Wire) -> None:
    status, answer = await w.modern("server/discover")
    result = answer["result"]
    assert status == 200
    assert result["supportedVersions"] == [MODERN]
    assert result["capabilities"].keys() == {"tools", "resources", "prompts", "completions"}
    assert result["resultType"] == "complete"
    assert result["_meta"][META + "serverInfo"]["version"] == __version__


async def test_the_list(w: Wire) -> None:
    """Sorted, private, with a time to live; the same bytes for each client of an identity."""
    status, answer = await w.modern("tools/list")
    result = answer["result"]
    assert status == 200
    assert [each["name"] for each in result["tools"]] == ["bad", "broken", "echo", "hang", "refused"]
    assert (result["cacheScope"], result["ttlMs"] > 0, result["resultType"]) == ("private", True, "complete")
    assert "nextCursor" not in result
    assert all(each["inputSchema"]["type"] == "object" for each in result["tools"])
    status, answer = await w.modern("tools/list", {"cursor": "x"})
    assert (status, answer["error"]["code"]) == (400, -32602)


async def test_a_call(w: Wire) -> None:
    status, answer = await w.modern("tools/call", {"name": "echo", "arguments": {"text": "x"}})
    result = answer["result"]
    assert (status, result["structuredContent"]) == (200, {"text": "x"})
    assert result["_meta"].keys() == {"epad/turn", META + "serverInfo"}


@pytest.mark.parametrize("method", ["resources/list", "resources/templates/list", "prompts/list"])
async def test_empty_lists(w: Wire, method: str) -> None:
    status, answer = await w.modern(method)
    assert status == 200
    assert [] in answer["result"].values()


@pytest.mark.parametrize(
    "method",
    [
        "initialize",
        "ping",
        "logging/setLevel",
        "subscriptions/listen",
        "resources/subscribe",
        "tasks/get",
        "",
    ],
)
async def test_methods_that_are_not_there(w: Wire, method: str) -> None:
    """Those of the former era neither: 404, so that a proxy knows too."""
    status, answer = await w.modern(method)
    assert (status, answer["error"]["code"], answer["id"]) == (404, -32601, 1)


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"Mcp-Method": "tools/list"}, -32020),
        ({"Mcp-Method": ""}, -32020),
        ({"Mcp-Name": "bad"}, -32020),
        ({"Mcp-Name": ""}, -32020),
        ({"Mcp-Name": "=?base64?!!!?="}, -32020),
        ({"MCP-Protocol-Version": "2027-01-01"}, -32020),
    ],
)
async def test_headers_and_body_agree(w: Wire, changed: dict[str, str], code: int) -> None:
    """A proxy may have let the request through by its headers; nothing is called that they do not name."""
    status, answer = await w.modern("tools/call", {"name": "echo", "arguments": {"text": "x"}}, changed)
    assert (status, answer["error"]["code"], answer["id"]) == (400, code, 1)
    assert w.tools.calls == []


@pytest.mark.parametrize("name", ["Mcp-Method", "Mcp-Name", "MCP-Protocol-Version"])
async def test_a_header_is_there_once(w: Wire, name: str) -> None:
    """Missing, and twice."""
    body, fields = modern_request("tools/call", {"name": "echo"})
    without = {each: value for each, value in fields.items() if each != name}
    status, answer, _ = await w.raw(json.dumps(body).encode(), without)
    assert (status, answer["error"]["code"]) == (400, -32020)
    pairs = [
        *fields.items(),
        (name, fields[name]),
        *w.world.headers().items(),
        ("Content-Type", "application/json"),
    ]
    async with w.world.http.post(w.world.url + "/mcp", json=body, headers=pairs) as response:
        assert (response.status, (await response.json())["error"]["code"]) == (400, -32020)
    assert w.tools.calls == []


async def test_a_name_in_base64(w: Wire) -> None:
    """Names that are not ASCII travel so."""
    coded = "=?base64?" + base64.b64encode(b"echo").decode() + "?="
    status, _ = await w.modern("tools/call", {"name": "echo", "arguments": {}}, {"Mcp-Name": coded})
    assert status == 200


@pytest.mark.parametrize(
    ("meta", "code"),
    [
        (None, -32020),
        ("text", -32602),
        ({}, -32602),
        ({META + "clientCapabilities": {}}, -32602),
        ({META + "protocolVersion": MODERN}, -32602),
        ({META + "protocolVersion": 5, META + "clientCapabilities": {}}, -32020),
        ({META + "protocolVersion": "2027-01-01", META + "clientCapabilities": {}}, -32022),
    ],
)
async def test_the_envelope(w: Wire, meta: Any, code: int) -> None:
    """Each request carries its version and the client's capabilities."""
    body, fields = modern_request("tools/list")
    body["params"]["_meta"] = meta
    if code == -32022:
        fields["MCP-Protocol-Version"] = "2027-01-01"
    if meta is None:  # the version is only inside
        body, _ = modern_request("tools/list")
        fields = {}
    status, answer, _ = await w.raw(json.dumps(body).encode(), fields)
    assert (status, answer["error"]["code"]) == (400, code)
    if code == -32022:
        assert answer["error"]["data"] == {"supported": [MODERN], "requested": "2027-01-01"}


async def test_notifications(w: Wire) -> None:
    """Taken and dropped, unless they are of a version that nobody speaks here."""
    body = b'{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}'
    assert (await w.raw(body, {"MCP-Protocol-Version": MODERN}))[0] == 202
    status, answer, _ = await w.raw(body, {"MCP-Protocol-Version": "2027-01-01"})
    assert (status, answer["error"]["code"]) == (400, -32022)
    status, answer, _ = await w.raw(b'{"jsonrpc":"2.0","id":1,"result":{}}', {"MCP-Protocol-Version": MODERN})
    assert (status, answer["error"]["code"]) == (400, -32600)


async def test_the_relay_has_no_headers(w: Wire) -> None:
    """Messages from stdio are checked by themselves; whoever sends a proxy's headers too is held to them."""
    body, _ = modern_request("tools/call", {"name": "echo", "arguments": {"text": "x"}})
    raw = json.dumps(body).encode()
    status, answer, _ = await w.raw(raw, {"Epad-Relay": "stdio"})
    assert (status, answer["result"]["resultType"]) == (200, "complete")
    status, answer, _ = await w.raw(raw, {"Epad-Relay": "stdio", "Mcp-Method": "tools/list"})
    assert (status, answer["error"]["code"]) == (400, -32020)
    body["params"]["_meta"][META + "protocolVersion"] = 5
    status, answer, _ = await w.raw(json.dumps(body).encode(), {"Epad-Relay": "stdio"})
    assert (status, answer["error"]["code"]) == (400, -32602)


async def test_a_former_version_in_the_header_is_of_its_era(w: Wire) -> None:
    status, answer = await w.legacy("ping")
    assert (status, answer["result"]) == (200, {})
    body, fields = modern_request("tools/list")
    status, answer, _ = await w.raw(json.dumps(body).encode(), {**fields, "MCP-Protocol-Version": LEGACY})
    assert (status, "resultType" in answer["result"]) == (200, False)


async def test_there_are_no_resources_and_prompts(w: Wire) -> None:
    """Each is told by its name."""
    uri = "epad://result/none"
    body, fields = modern_request("resources/read", {"uri": uri})
    status, answer, _ = await w.raw(json.dumps(body).encode(), {**fields, "Mcp-Name": uri})
    assert (status, answer["error"]["code"], answer["error"]["data"]) == (400, -32602, {"uri": uri})
    status, answer = await w.modern("prompts/get", {"name": "hello"})
    assert (status, answer["error"]["code"]) == (400, -32602)
