"""The plain routes: the list, a call, the health."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from gateway_world import world
from tool_world import definition
from wire_world import Wire, wire


@pytest.fixture
async def w(tmp_path: Path) -> AsyncIterator[Wire]:
    async with wire(tmp_path) as served:
        yield served


async def test_the_list_is_whole(tmp_path: Path) -> None:
    """However many tools there are: a program has no context to fill."""
    many = [definition(f"tool_{number}") for number in range(60)]
    async with wire(tmp_path, many) as w:
        status, answer, _ = await w.raw(b"", method="GET", path="/tools")
        assert (status, len(answer["tools"])) == (200, 65)
        assert answer["tools"][0].keys() >= {"name", "risk", "input_schema", "output_schema", "sha256"}
        names = [each["name"] for each in answer["tools"]]
        assert names == sorted(names)


async def test_a_call(w: Wire) -> None:
    body = b'{"name":"echo","arguments":{"text":"x"},"parent":"t-1"}'
    status, answer, fields = await w.raw(body, {"Idempotency-Key": "k"}, path="/tools/call")
    assert (status, answer) == (
        200,
        {"turn": "turn-1", "is_error": False, "content": {"text": "x"}, "reason_code": ""},
    )
    assert fields["x-epad-turn"] == answer["turn"] == "turn-1"
    assert w.tools.calls == [("writer", "echo", {"text": "x"}, "k", "t-1")]


@pytest.mark.parametrize("parent", ["p" * 65, "\x1b[31mred", "two\nlines", "\u202e"])
async def test_a_parent_that_is_no_turns_name(w: Wire, parent: str) -> None:
    """It is kept in the ledger and shown to people, so it is refused before anything is done."""
    status, answer, _ = await w.raw(
        json.dumps({"name": "echo", "parent": parent}).encode(), path="/tools/call"
    )
    assert (status, answer["code"], w.tools.calls) == (400, "invalid_request", [])


@pytest.mark.parametrize(
    ("name", "status", "code"),
    [("bad", 200, "failed"), ("refused", 200, "tier_too_low"), ("nowhere", 404, "unknown_tool")],
)
async def test_errors(w: Wire, name: str, status: int, code: str) -> None:
    """An error and a hint, as every tool gives them."""
    got, answer, _ = await w.raw(json.dumps({"name": name}).encode(), path="/tools/call")
    assert (got, answer["reason_code"], answer["is_error"]) == (status, code, True)
    assert answer["content"].keys() == {"error", "hint"}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{",
        b'{"name":5}',
        b'{"name":"echo","arguments":[]}',
        b'{"name":"echo","other":1}',
        b'{"name":"\xff"}',
    ],
)
async def test_no_call(w: Wire, body: bytes) -> None:
    """The refusal says what is taken, and where it is wrong."""
    status, answer, _ = await w.raw(body, path="/tools/call")
    assert (status, answer["code"]) == (400, "invalid_request")
    assert "/tools/call takes" in answer["error"]
    assert w.tools.calls == []


async def test_a_fault_of_epads_own(w: Wire) -> None:
    status, answer, _ = await w.raw(b'{"name":"broken"}', path="/tools/call")
    assert (status, answer["code"]) == (500, "internal_error")
    assert "planted" not in answer["error"]


async def test_the_health(w: Wire) -> None:
    """Without a key it says that somebody is there; with one, what is behind the door. A wrong key learns nothing."""
    async with w.world.http.get(w.world.url + "/health") as response:
        assert (response.status, await response.json()) == (200, {"status": "ok"})
    status, answer, _ = await w.raw(b"", method="GET", path="/health")
    assert (status, answer["tools"], answer["categories"]) == (200, 5, {"text": 5})
    assert answer["mcp"] == ["2026-07-28", "2025-11-25"]
    assert answer["lacking"] == []
    status, answer, _ = await w.raw(b"", {"Authorization": "Bearer no"}, method="GET", path="/health")
    assert (status, answer["code"]) == (401, "invalid_api_key")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [("POST", "/tools", "GET, HEAD"), ("GET", "/tools/call", "POST"), ("POST", "/health", "GET, HEAD")],
)
async def test_other_methods(w: Wire, method: str, path: str, allowed: str) -> None:
    status, _, fields = await w.raw(b"", method=method, path=path)
    assert (status, fields["Allow"]) == (405, allowed)


async def test_without_a_tool_door(tmp_path: Path) -> None:
    """The routes are none, and refused as any other."""
    async with world(tmp_path) as served:
        for path in ("/mcp", "/tools/call"):
            async with served.http.post(served.url + path, json={}, headers=served.headers()) as response:
                assert (response.status, (await response.json())["error"]["code"]) == (
                    403,
                    "route_not_metered",
                )
