"""Questions to clients in both eras, and what a client may say to them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from conformance_fixture import FixtureTools, parts
from gateway_world import world
from patience import PATIENCE_SECONDS
from tool_world import MemoryTools
from wire_world import BOTH, LEGACY, Wire

from epad.tools.wire.door import ToolDoor
from epad.tools.wire.legacy import may_ask, new_session
from epad.tools.wire.messages import read
from epad.tools.wire.slow_answer import Pauses

ASKS = "test_input_required_result_elicitation"
CAPABLE: dict[str, Any] = {"_meta": {"io.modelcontextprotocol/clientCapabilities": {"elicitation": {}}}}


@pytest.fixture
async def w(tmp_path: Path) -> AsyncIterator[Wire]:
    side = ToolDoor(FixtureTools(), structlog.get_logger(), pauses=Pauses(60, 60), **parts())
    async with world(tmp_path, side=side) as served:
        yield Wire(served, MemoryTools())


async def test_a_question_its_reply_and_the_result(w: Wire) -> None:
    """What came with the questions is given back as it was."""
    _, answer = await w.modern("tools/call", {"name": ASKS, **CAPABLE})
    asked = answer["result"]
    assert asked["resultType"] == "input_required"
    assert asked["inputRequests"]["user_name"]["method"] == "elicitation/create"
    replies = {"user_name": {"action": "accept", "content": {"name": "Ada"}}}
    again = {"name": ASKS, "inputResponses": replies, "requestState": asked["requestState"], **CAPABLE}
    _, answer = await w.modern("tools/call", again)
    assert answer["result"]["resultType"] == "complete"
    assert "Ada" in answer["result"]["content"][0]["text"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"inputResponses": None},
        {"inputResponses": []},
        {"inputResponses": {"user_name": 5}},
        {"requestState": 5},
        {"requestState": "x" * 10_000},
        {"requestState": "test:0:0000"},
    ],
)
async def test_replies_that_are_none(w: Wire, wrong: dict[str, Any]) -> None:
    """A state that was changed on the way, too."""
    status, answer = await w.modern("tools/call", {"name": ASKS, **wrong, **CAPABLE})
    assert (status, answer["error"]["code"]) == (400, -32602)


async def test_a_client_that_cannot_be_asked(w: Wire) -> None:
    """It is told what it lacks."""
    status, answer = await w.modern("tools/call", {"name": ASKS})
    assert (status, answer["error"]["code"]) == (400, -32021)
    assert answer["error"]["data"] == {"requiredCapabilities": {"elicitation": {}}}
    status, answer = await w.legacy("tools/call", {"name": ASKS})
    assert (status, answer["error"]["code"]) == (200, -32021)


async def hello(w: Wire, **capabilities: Any) -> str:
    params = {"protocolVersion": LEGACY, "capabilities": capabilities}
    body = {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params}
    _, _, fields = await w.raw(json.dumps(body).encode())
    return fields["Mcp-Session-Id"]


async def events(response: Any) -> AsyncIterator[dict[str, Any]]:
    async for line in response.content:
        if line.startswith(b"data: "):
            yield json.loads(line[6:])


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        ({"result": {"action": "accept", "content": {"name": "Ada"}}}, "Ada"),
        ({"error": {"code": -1, "message": "no"}}, "decline"),
    ],
)
async def test_a_question_on_the_stream(w: Wire, reply: dict[str, Any], said: str) -> None:
    """Until 2025-11-25 the reply is a message of its own; one of another session is nobody's."""
    session = await hello(w, elicitation={})
    fields = {**w.world.headers(), **BOTH, "Mcp-Session-Id": session}
    call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": ASKS}}
    async with (
        asyncio.timeout(PATIENCE_SECONDS),
        w.world.http.post(w.world.url + "/mcp", json=call, headers=fields) as response,
    ):
        stream = events(response)
        question = await anext(stream)
        assert question["method"] == "elicitation/create"
        body = json.dumps({"jsonrpc": "2.0", "id": question["id"], **reply}).encode()
        other = await hello(w, elicitation={})
        assert (await w.raw(body, {"Mcp-Session-Id": other}))[0] == 202
        assert (await w.raw(body, {"Mcp-Session-Id": session}))[0] == 202
        answer = await anext(stream)
        assert said in answer["result"]["content"][0]["text"]


async def test_a_client_that_hangs_up_is_asked_no_more(w: Wire) -> None:
    """Its question is forgotten, and the door goes on."""
    session = await hello(w, elicitation={}, sampling={})
    fields = {**w.world.headers(), **BOTH, "Mcp-Session-Id": session}
    call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": ASKS}}
    async with w.world.http.post(w.world.url + "/mcp", json=call, headers=fields) as response:
        question = await anext(events(response))
        response.close()
    reply = json.dumps({"jsonrpc": "2.0", "id": question["id"], "result": {"action": "accept"}})
    assert (await w.raw(reply.encode(), {"Mcp-Session-Id": session}))[0] == 202
    status, answer = await w.legacy("tools/call", {"name": "test_simple_text"})
    assert (status, answer["result"]["isError"]) == (200, False)


@pytest.mark.parametrize(
    ("declared", "known"),
    [
        ({"elicitation": {}, "roots": {}}, {"elicitation", "roots"}),
        ({"sampling": {}, "else": {}}, {"sampling"}),
        ({"sampling": True}, set()),
        (None, set()),
    ],
)
def test_a_session_says_what_its_client_can_be_asked(declared: object, known: set[str]) -> None:
    """Without a word of it kept: a daemon started anew asks the same clients."""
    params = {"protocolVersion": LEGACY, "capabilities": declared}
    hello = read(json.dumps({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params}).encode())
    assert may_ask(new_session(hello)) == known


async def test_resources(w: Wire) -> None:
    """Text and bytes are read; an unknown one is told by its URI; a subscription hears nothing."""
    _, answer = await w.modern("resources/list")
    assert [each["uri"] for each in answer["result"]["resources"]] == [
        "test://static-binary",
        "test://static-text",
    ]
    _, answer = await w.modern("resources/templates/list")
    assert answer["result"]["resourceTemplates"][0]["uriTemplate"] == "test://template/{id}/data"
    for uri, held in (("test://static-text", "text"), ("test://static-binary", "blob")):
        _, answer = await w.legacy("resources/read", {"uri": uri})
        assert answer["result"]["contents"][0].keys() == {"uri", "mimeType", held}
    for method in ("resources/subscribe", "resources/unsubscribe"):
        assert (await w.legacy(method, {"uri": "test://static-text"}))[1]["result"] == {}
        assert (await w.legacy(method))[1]["error"]["code"] == -32602


@pytest.mark.parametrize(
    ("reference", "begun", "values"),
    [
        ({"type": "ref/prompt", "name": "test_prompt_with_arguments"}, "te", ["test", "testing"]),
        ({"type": "ref/resource", "uri": "test://template/{id}/data"}, "te", []),
    ],
)
async def test_completions(w: Wire, reference: dict[str, str], begun: str, values: list[str]) -> None:
    argument = {"name": "arg1", "value": begun}
    _, answer = await w.modern("completion/complete", {"ref": reference, "argument": argument})
    assert answer["result"]["completion"] == {"values": values, "total": len(values), "hasMore": False}


@pytest.mark.parametrize(
    "params",
    [{"name": "nobody"}, {"name": "test_simple_prompt", "arguments": {"a": 1}}, {"arguments": []}],
)
async def test_prompts_that_cannot_be_filled_in(w: Wire, params: dict[str, Any]) -> None:
    assert (await w.modern("prompts/get", {"name": "x", **params}))[1]["error"]["code"] == -32602


@pytest.mark.parametrize(
    ("header", "value", "status"),
    [
        ("west", "west", 200),
        ("=?base64?d2VzdA==?=", "west", 200),
        ("  west ", "west", 200),
        (None, None, 200),
        (None, "west", 400),
        ("west", None, 400),
        ("east", "west", 400),
        ("=?base64?d2Vzd!?=", "west", 400),
    ],
)
async def test_an_argument_that_a_header_repeats(
    w: Wire, header: str | None, value: str | None, status: int
) -> None:
    """A proxy may have routed by the header, so the two agree or nothing is done."""
    arguments = {} if value is None else {"region": value}
    headers = {} if header is None else {"Mcp-Param-Region": header}
    got, _ = await w.modern("tools/call", {"name": "test_mirrored_argument", "arguments": arguments}, headers)
    assert got == status
