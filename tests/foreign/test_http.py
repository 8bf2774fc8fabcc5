"""Servers at a URL, of both eras, with answers as JSON and as events; and those that answer otherwise."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from epad.foreign.dialogue import Dialogue
from epad.foreign.errors import NoAnswerError, ServerError
from epad.foreign.framing import MOST_BYTES
from epad.foreign.http import HttpPeer

TOOLS = [{"name": "echo", "description": "Echo.", "inputSchema": {"type": "object"}}]


class Site:
    """A server whose answers a test changes. `asked` are its requests: headers and message."""

    def __init__(self, *, modern: bool, events: bool) -> None:
        self.modern, self.events = modern, events
        self.asked: list[tuple[dict[str, str], dict[str, Any]]] = []
        self.session = "s1"
        self.behave = ""

    async def answer(self, request: web.Request) -> web.StreamResponse:
        if request.method == "DELETE":
            return web.Response(status=200)
        message = await request.json()
        self.asked.append((dict(request.headers), message))
        if self.behave and message.get("method") == "tools/call":
            return await self.misbehave(request, message)
        if "id" not in message or "method" not in message:
            return web.Response(status=202)
        body = {"jsonrpc": "2.0", "id": message["id"], **self.result(message)}
        headers = {} if self.modern else {"Mcp-Session-Id": self.session}
        if not self.events:
            return web.json_response(body, headers=headers)
        ask = json.dumps({"jsonrpc": "2.0", "id": "q", "method": "sampling/createMessage", "params": {}})
        told = json.dumps({"jsonrpc": "2.0", "method": "notifications/progress", "params": {}})
        text = f": hello\r\n\r\nevent: message\r\ndata: {told}\r\n\r\ndata: {ask}\n\ndata: {json.dumps(body)}\n\n"
        return web.Response(text=text, content_type="text/event-stream", headers=headers)

    def result(self, message: dict[str, Any]) -> dict[str, Any]:
        method = message["method"]
        if method == "server/discover" and self.modern:
            return {"result": {"supportedVersions": ["2026-07-28"], "capabilities": {}}}
        if method == "initialize" and not self.modern:
            info = {"name": "site", "version": "3"}
            return {"result": {"protocolVersion": "2025-06-18", "capabilities": {}, "serverInfo": info}}
        if method == "tools/list":
            return {"result": {"tools": TOOLS}}
        if method == "tools/call":
            return {"result": {"content": [{"type": "text", "text": message["params"]["arguments"]["text"]}]}}
        return {"error": {"code": -32601, "message": "no such method"}}

    async def misbehave(  # noqa: PLR0911
        self, request: web.Request, message: dict[str, Any]
    ) -> web.StreamResponse:
        match self.behave:
            case "silent":
                await asyncio.sleep(600)
            case "redirect":
                return web.Response(status=307, headers={"Location": "http://127.0.0.1:1/"})
            case "html":
                return web.Response(status=502, text="<h1>Bad gateway</h1>", content_type="text/html")
            case "forbidden":
                return web.Response(status=401)
            case "gone":
                return web.Response(status=404)
            case "huge":
                return web.Response(body=b"[" + b" " * MOST_BYTES + b"]", content_type="application/json")
            case "other":
                return web.json_response(
                    {"jsonrpc": "2.0", "id": 999, "error": {"code": 1, "message": "\u202e"}}
                )
            case "endless":
                stream = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
                await stream.prepare(request)
                for _ in range(2 * MOST_BYTES >> 16):
                    await stream.write(b": " + b"x" * (1 << 16))
                return stream
            case "no answer":
                return web.Response(text="data: {}\n\n", content_type="text/event-stream")
        raise AssertionError(message)


@asynccontextmanager
async def site(
    *, modern: bool = False, events: bool = False
) -> AsyncIterator[tuple[Site, HttpPeer, list[str]]]:
    made, lost = Site(modern=modern, events=events), list[str]()
    application = web.Application()
    application.router.add_route("*", "/mcp", made.answer)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    listening = web.TCPSite(runner, "127.0.0.1", 0)
    await listening.start()
    port = runner.addresses[0][1]
    peer = HttpPeer(f"http://127.0.0.1:{port}/mcp", {"Authorization": "Bearer k"}, lost.append)
    try:
        yield made, peer, lost
    finally:
        await peer.close()
        await runner.cleanup()


@pytest.mark.parametrize("events", [False, True])
@pytest.mark.parametrize("modern", [False, True])
async def test_both_eras_and_both_kinds_of_answers(modern: bool, events: bool) -> None:
    """Found out by itself, with the headers that each era wants, and the credentials in each request."""
    async with site(modern=modern, events=events) as (made, peer, _):
        dialogue = Dialogue(peer)
        await dialogue.begin(30)
        assert [one.name for one in (await dialogue.list(30)).tools] == ["echo"]
        told = await dialogue.call("echo", {"text": "hi"}, 30)
        assert told["content"][0]["text"] == "hi"
        assert dialogue.version == ("2026-07-28" if modern else "2025-06-18")
        headers, message = next(one for one in made.asked if one[1].get("method") == "tools/call")
        assert {one[0]["Authorization"] for one in made.asked} == {"Bearer k"}
        assert headers["MCP-Protocol-Version"] == dialogue.version
        if modern:
            assert (headers["Mcp-Method"], headers["Mcp-Name"]) == ("tools/call", "echo")
            assert message["params"]["_meta"]["io.modelcontextprotocol/protocolVersion"] == "2026-07-28"
        else:
            assert headers["Mcp-Session-Id"] == "s1"
        refused = [one for _, one in made.asked if one.get("id") == "q"]
        assert all(one["error"]["code"] == -32601 for one in refused)
        assert bool(refused) is events


@pytest.mark.parametrize(
    ("behave", "why"),
    [
        ("redirect", "redirects are not followed"),
        ("html", "502 with text/html"),
        ("forbidden", "credentials are missing"),
        ("gone", "its session has ended"),
        ("huge", "more than"),
        ("other", "<U\\+202E>"),
        ("endless", "more than"),
        ("no answer", "ended without an answer"),
    ],
)
async def test_what_is_no_answer_is_an_error_that_says_why(behave: str, why: str) -> None:
    async with site() as (made, peer, lost):
        dialogue = Dialogue(peer)
        await dialogue.begin(30)
        made.behave = behave
        with pytest.raises(ServerError, match=why):
            await dialogue.call("echo", {"text": "x"}, 30)
        assert bool(lost) is (behave == "gone")


async def test_a_call_that_takes_too_long_is_cancelled_there() -> None:
    async with site() as (made, peer, _):
        dialogue = Dialogue(peer)
        await dialogue.begin(30)
        made.behave = "silent"
        with pytest.raises(NoAnswerError):
            await dialogue.call("echo", {"text": "x"}, 0.2)
        assert [one for _, one in made.asked if one.get("method") == "notifications/cancelled"]


async def test_a_server_that_is_not_there_is_lost() -> None:
    """So its list is looked at anew once it is there again."""
    lost: list[str] = []
    peer = HttpPeer("http://127.0.0.1:1/mcp", {}, lost.append)
    with pytest.raises(ServerError, match="cannot be reached"):
        await Dialogue(peer).begin(30)
    await peer.close()
    assert lost
