"""What both eras have in common at POST /mcp: messages, refusals, slow answers, cancelled calls."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from gateway_world import gateway_config
from patience import PATIENCE_SECONDS
from wire_world import BOTH, LEGACY, Wire, modern_request, wire

from epad.tools.wire.door import MOST_BYTES
from epad.tools.wire.mcp import RELAY_HEADER


@pytest.fixture
async def w(tmp_path: Path) -> AsyncIterator[Wire]:
    async with wire(tmp_path) as served:
        yield served


def request(method: str, params: Mapping[str, Any] | None = None, number: int | str = 1) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": number, "method": method, "params": params or {}}).encode()


def call(name: str, **arguments: Any) -> bytes:
    return request("tools/call", {"name": name, "arguments": arguments})


@pytest.mark.parametrize(
    ("body", "code", "id_"),
    [
        (b"", -32700, None),
        (b"{", -32700, None),
        (b"\xff\xfe", -32700, None),
        (b'{"jsonrpc":"2.0","id":1,"method":"ping"', -32700, None),
        (b"[" * 100_000, -32700, None),
        (b"[]", -32600, None),
        (b'[{"jsonrpc":"2.0","id":1,"method":"ping"}]', -32600, None),
        (b'"text"', -32600, None),
        (b"null", -32600, None),
        (b'{"id":7,"method":"ping"}', -32600, 7),
        (b'{"jsonrpc":"1.0","id":"a","method":"ping"}', -32600, "a"),
        (b'{"jsonrpc":"2.0","id":null,"method":"ping"}', -32600, None),
        (b'{"jsonrpc":"2.0","id":true,"method":"ping"}', -32600, None),
        (b'{"jsonrpc":"2.0","id":1.5,"method":"ping"}', -32600, None),
        (b'{"jsonrpc":"2.0","id":3,"method":5}', -32600, 3),
        (b'{"jsonrpc":"2.0","id":3,"method":"ping","params":[1]}', -32600, 3),
        (b'{"jsonrpc":"2.0"}', -32600, None),
    ],
)
async def test_no_message(w: Wire, body: bytes, code: int, id_: object) -> None:
    """A body that is no message is told so, with its id where that can be read."""
    status, answer, _ = await w.raw(body)
    assert (status, answer["error"]["code"], answer["id"]) == (400, code, id_)


async def test_a_notification_and_an_answer_are_taken(w: Wire) -> None:
    """Nobody is answered who asks nothing."""
    for body in (
        b'{"jsonrpc":"2.0","method":"notifications/initialized"}',
        b'{"jsonrpc":"2.0","method":"notifications/unheard-of","params":{}}',
        b'{"jsonrpc":"2.0","id":1,"result":{}}',
    ):
        assert (await w.raw(body, {"MCP-Protocol-Version": LEGACY}))[:2] == (202, None)
    assert w.tools.calls == []


@pytest.mark.parametrize("id_", [0, -1, 2**53, "", "ä", "x" * 500])
async def test_the_id_comes_back_as_it_was(w: Wire, id_: int | str) -> None:
    status, answer, _ = await w.raw(request("ping", number=id_))
    assert (status, answer) == (200, {"jsonrpc": "2.0", "id": id_, "result": {}})


async def test_who_asks(w: Wire) -> None:
    """Without a key, with a wrong one: refused in MCP's words, before anything is called."""
    body = call("echo", text="x")
    for fields in ({"Authorization": ""}, {"Authorization": "Bearer wrong"}):
        status, answer, _ = await w.raw(body, fields)
        assert (status, answer["id"], answer["error"]["code"]) == (401, None, -32000)
        assert answer["error"]["data"]["code"] == "invalid_api_key"
    assert w.tools.calls == []
    status, answer, _ = await w.raw(body, w.world.headers("reader"))
    assert (status, answer["result"]["isError"]) == (200, False)
    assert [each[0] for each in w.tools.calls] == ["reader"]


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Host": "evil.example:8700"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Origin": "http://localhost:6274"}, 200),
        ({"Host": "localhost:8700"}, 200),
    ],
)
async def test_pages_of_other_sites(w: Wire, fields: dict[str, str], status: int) -> None:
    """A key does not help a page: it may have been talked out of somebody (DNS rebinding)."""
    for path, body in (
        ("/mcp", request("ping")),
        ("/tools/call", b'{"name":"echo","arguments":{"text":"x"}}'),
    ):
        assert (await w.raw(body, fields, path=path))[0] == status


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"Accept": "text/event-stream"}, 406),
        ({"Accept": "text/html"}, 406),
        ({"Accept": "application/json"}, 200),
        ({"Accept": "*/*"}, 200),
        ({"Content-Type": "text/plain"}, 415),
        ({"Content-Type": "application/json; charset=utf-8"}, 200),
    ],
)
async def test_kinds_of_bodies(w: Wire, fields: dict[str, str], status: int) -> None:
    assert (await w.raw(request("ping"), fields))[0] == status


async def test_other_methods_of_http(w: Wire) -> None:
    """There is no stream of the server's own to listen to; a session that ends holds nothing."""
    status, _, fields = await w.raw(b"", method="GET")
    assert (status, fields["Allow"]) == (405, "POST, DELETE")
    assert (await w.raw(b"", {"Mcp-Session-Id": "x"}, method="DELETE"))[0] == 204
    assert (await w.raw(b"", method="PUT"))[0] == 405


async def test_large_bodies(tmp_path: Path) -> None:
    """Four MiB are enough for a file; more is refused by the head, or when it has come."""
    text, body = "x" * (MOST_BYTES - 1_000), call("echo", text="x" * MOST_BYTES)

    async def pieces() -> AsyncIterator[bytes]:
        yield body

    async with wire(tmp_path, config=gateway_config(max_body_bytes=16 << 20)) as w:
        assert (await w.raw(call("echo", text=text)))[0] == 200
        status, answer, _ = await w.raw(body)
        assert (status, answer["error"]["data"]["code"]) == (413, "request_too_large")
        url, fields = w.world.url + "/mcp", {**w.world.headers(), "Content-Type": "application/json"}
        async with w.world.http.post(url, data=pieces(), headers=fields) as response:
            assert response.status == 413
    assert len(w.tools.calls) == 1


async def test_a_result(w: Wire) -> None:
    """Models read text, programs a value; the turn in the ledger is named."""
    _, answer, _ = await w.raw(call("echo", text="grün"))
    result = answer["result"]
    assert json.loads(result["content"][0]["text"]) == {"text": "grün"} == result["structuredContent"]
    assert result["_meta"] == {"epad/turn": "turn-1"}
    assert not result["isError"]


@pytest.mark.parametrize(("name", "error"), [("bad", "it failed"), ("refused", "not allowed")])
async def test_errors_of_tools_are_read_by_models(w: Wire, name: str, error: str) -> None:
    """They are results, so that a host shows them to the model; and they are no value of the tool's type."""
    status, answer, _ = await w.raw(call(name))
    result = answer["result"]
    assert status == 200
    assert json.loads(result["content"][0]["text"]) == {"error": error, "hint": "a hint"}
    assert result["isError"]
    assert "structuredContent" not in result


@pytest.mark.parametrize(
    "params", [{}, {"name": 5}, {"name": ""}, {"name": "echo", "arguments": [1]}, {"name": "nowhere"}]
)
async def test_calls_of_nothing(w: Wire, params: dict[str, Any]) -> None:
    _, answer, _ = await w.raw(request("tools/call", params))
    assert answer["error"]["code"] == -32602
    assert answer["id"] == 1


async def test_a_fault_of_epads_own(w: Wire) -> None:
    """It is told with the id, and nothing of the inside."""
    status, answer, _ = await w.raw(call("broken"))
    assert (status, answer["error"]["code"], answer["id"]) == (200, -32603, 1)
    assert "planted" not in json.dumps(answer)


async def test_keys_and_parents(w: Wire) -> None:
    """The idempotency key comes from the header or from `_meta`; a bad one is refused."""
    await w.raw(call("echo", text="x"), {"Idempotency-Key": "from-header"})
    params = {"name": "echo", "arguments": {}, "_meta": {"epad/idempotencyKey": "m", "epad/parentTurn": "t"}}
    await w.raw(request("tools/call", params))
    assert [each[3:] for each in w.tools.calls] == [("from-header", ""), ("m", "t")]
    for wrong in ("", "x" * 300, "ä", 5):
        _, answer, _ = await w.raw(request("tools/call", {**params, "_meta": {"epad/idempotencyKey": wrong}}))
        assert answer["error"]["code"] == -32602
    assert len(w.tools.calls) == 2


async def test_a_closed_stream_cancels(w: Wire) -> None:
    """The client hangs up in the middle of a call: the call is cancelled, and the connection's others live."""
    url, headers = w.world.url + "/mcp", {**w.world.headers(), "Content-Type": "application/json"}
    async with aiohttp.ClientSession() as leaving:
        asking = asyncio.create_task(leaving.post(url, data=call("hang"), headers=headers))
        async with asyncio.timeout(PATIENCE_SECONDS):
            await w.tools.hanging.wait()
            asking.cancel()
            await w.tools.cancelled.wait()
    assert (await w.raw(call("echo", text="x")))[0] == 200


@pytest.mark.parametrize("relayed", [False, True])
async def test_a_message_cancels(w: Wire, relayed: bool) -> None:
    """The same session and id: cancelled, and answered with nothing. Another session's or subsystem's: not."""
    session = {"Mcp-Session-Id": "one", **({RELAY_HEADER: "stdio"} if relayed else {})}
    body, _ = modern_request("tools/call", {"name": "hang"})
    asked = json.dumps(body).encode() if relayed else call("hang")
    asking = asyncio.create_task(w.raw(asked, session))
    async with asyncio.timeout(PATIENCE_SECONDS):
        await w.tools.hanging.wait()
        cancel = b'{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}'
        for other in (
            {"Mcp-Session-Id": "two"},
            {"Mcp-Session-Id": ""},
            {**session, **w.world.headers("reader")},
        ):
            assert (await w.raw(cancel, other))[0] == 202
        wrong = cancel.replace(b":1}", b':"1"}')
        assert (await w.raw(wrong, session))[0] == 202
        assert not w.tools.cancelled.is_set()
        assert (await w.raw(cancel, session))[0] == 202
        assert (await asking)[:2] == (202, None)
    assert w.tools.cancelled.is_set()


async def test_the_end_of_a_session_cancels(w: Wire) -> None:
    asking = asyncio.create_task(w.raw(call("hang"), {"Mcp-Session-Id": "one"}))
    async with asyncio.timeout(PATIENCE_SECONDS):
        await w.tools.hanging.wait()
        await w.raw(b"", {"Mcp-Session-Id": "one"}, method="DELETE")
        assert (await asking)[0] == 202


async def slow_lines(w: Wire, params: Mapping[str, Any]) -> list[bytes]:
    """The lines of a call's stream; the call is let go after six of them."""
    lines: list[bytes] = []
    headers = {**w.world.headers(), **BOTH}
    url, body = w.world.url + "/mcp", request("tools/call", params)
    async with (
        asyncio.timeout(PATIENCE_SECONDS),
        w.world.http.post(url, data=body, headers=headers) as response,
    ):
        assert response.headers["Content-Type"] == "text/event-stream"
        async for line in response.content:
            lines.append(line.strip())
            if len(lines) == 6:
                w.tools.let_go.set()
    return lines


@pytest.mark.parametrize("token", ["p", 0, None])
async def test_a_slow_call_is_a_stream(tmp_path: Path, token: object) -> None:
    """Whoever asks for progress gets it; whoever does not is kept alive with comments. The answer comes last."""
    params = {"name": "hang", "arguments": {"text": "x"}, "_meta": {"progressToken": token}}
    async with wire(tmp_path, pause=0.02) as w:
        lines = await slow_lines(w, params)
    messages = [json.loads(line[5:]) for line in lines if line.startswith(b"data:")]
    assert messages[-1]["result"]["structuredContent"] == {"text": "x"}
    told = messages[:-1]
    if token is None:
        assert told == []
        assert b": ping" in lines
        return
    assert [each["method"] for each in told] == ["notifications/progress"] * len(told)
    assert {each["params"]["progressToken"] for each in told} == {token}
    progress = [each["params"]["progress"] for each in told]
    assert progress == sorted(progress)


async def test_no_stream_for_who_takes_none(tmp_path: Path) -> None:
    """A client that takes JSON alone waits for it."""
    async with asyncio.timeout(PATIENCE_SECONDS), wire(tmp_path, pause=0.01) as w:
        asking = asyncio.create_task(w.raw(call("hang"), {"Accept": "application/json"}))
        await w.tools.hanging.wait()
        w.tools.let_go.set()
        status, answer, fields = await asking
    assert (status, answer["id"], fields["Content-Type"]) == (200, 1, "application/json")


async def test_an_anonymous_gateway(tmp_path: Path) -> None:
    """Where clients without a key are somebody, they are for tools too."""
    async with wire(tmp_path, config=gateway_config(anonymous="reader")) as w:
        async with w.world.http.post(
            w.world.url + "/mcp", json=json.loads(call("echo", text="x"))
        ) as response:
            assert response.status == 200
        assert [each[0] for each in w.tools.calls] == ["reader"]
