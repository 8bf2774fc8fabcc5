"""The transport of 2024-11-05: a stream, messages posted beside it, and nobody else's stream."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import structlog
from gateway_world import world
from patience import PATIENCE_SECONDS
from tool_world import MemoryTools
from wire_world import Wire

from epad.tools.wire import sse
from epad.tools.wire.door import ToolDoor
from epad.tools.wire.slow_answer import Pauses


@asynccontextmanager
async def old_door(directory: Path, *, opened: bool = True, pause: float = 60) -> AsyncIterator[Wire]:
    tools = MemoryTools()
    side = ToolDoor(tools, structlog.get_logger(), pauses=Pauses(pause, pause), old_clients=opened)
    async with world(directory, side=side) as served:
        yield Wire(served, tools)


@asynccontextmanager
async def stream(w: Wire, who: str = "writer") -> AsyncIterator[tuple[str, AsyncIterator[dict[str, Any]]]]:
    """An open stream: the address to post to, and the messages that come."""
    async with (
        asyncio.timeout(PATIENCE_SECONDS),
        w.world.http.get(w.world.url + "/sse", headers=w.world.headers(who)) as response,
    ):
        lines = response.content
        assert (response.status, response.content_type) == (200, "text/event-stream")
        assert await lines.readline() == b"event: endpoint\n"
        address = (await lines.readline()).removeprefix(b"data: ").strip().decode()

        async def messages() -> AsyncIterator[dict[str, Any]]:
            async for line in lines:
                if line.startswith(b"data: "):
                    yield json.loads(line[6:])

        yield address, messages()


def call(tool: str, number: int = 1, **arguments: Any) -> dict[str, Any]:
    params = {"name": tool, "arguments": arguments}
    return {"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": params}


async def post(w: Wire, address: str, message: object, who: str = "writer") -> int:
    url, fields = w.world.url + address, w.world.headers(who)
    async with w.world.http.post(url, json=message, headers=fields) as response:
        return response.status


async def test_off_by_default(tmp_path: Path) -> None:
    async with old_door(tmp_path, opened=False) as w:
        for method, path in (("GET", "/sse"), ("POST", "/messages")):
            async with w.world.http.request(
                method, w.world.url + path, headers=w.world.headers()
            ) as response:
                assert response.status == 403


async def test_answers_come_on_the_stream(tmp_path: Path) -> None:
    """Each when it is ready, a cancelled one not at all; a message that is none is told too."""
    async with old_door(tmp_path) as w, stream(w) as (address, messages):
        assert await post(w, address, call("hang", 1)) == 202
        await w.tools.hanging.wait()
        assert await post(w, address, call("echo", 2, text="x")) == 202
        assert (await anext(messages))["result"]["structuredContent"] == {"text": "x"}
        cancelled = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1}}
        assert await post(w, address, cancelled) == 202
        await w.tools.cancelled.wait()
        assert await post(w, address, [1]) == 202
        assert (await anext(messages))["error"]["code"] == -32600


async def test_a_stream_is_its_subsystems_alone(tmp_path: Path) -> None:
    """Another's key posts nothing to it, and without its id, or after its end, there is no stream."""
    async with old_door(tmp_path) as w:
        async with stream(w) as (address, _):
            assert await post(w, address, call("echo"), "reader") == 400
            assert await post(w, "/messages?session_id=0", call("echo")) == 400
            assert await post(w, "/messages", call("echo")) == 400
            assert await post(w, address, call("hang")) == 202
            await w.tools.hanging.wait()
        async with asyncio.timeout(PATIENCE_SECONDS):
            await w.tools.cancelled.wait()
            while await post(w, address, call("echo")) != 400:
                await asyncio.sleep(0)
        assert [each[1] for each in w.tools.calls if each[0] != "writer"] == []


async def test_no_key_no_stream(tmp_path: Path) -> None:
    async with old_door(tmp_path) as w:
        for method, path in (("GET", "/sse"), ("POST", "/messages?session_id=0")):
            async with w.world.http.request(method, w.world.url + path) as response:
                assert response.status == 401


async def test_an_idle_stream_shows_life(tmp_path: Path) -> None:
    async with (
        old_door(tmp_path, pause=0.01) as w,
        asyncio.timeout(PATIENCE_SECONDS),
        w.world.http.get(w.world.url + "/sse", headers=w.world.headers()) as response,
    ):
        while await response.content.readline() != b": ping\n":
            pass


async def test_streams_and_their_messages_are_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is refused is told, and the others go on."""
    monkeypatch.setattr(sse, "MOST_STREAMS", 1)
    monkeypatch.setattr(sse, "MOST_IN_FLIGHT", 2)
    async with old_door(tmp_path) as w, stream(w) as (address, messages):
        async with w.world.http.get(w.world.url + "/sse", headers=w.world.headers()) as response:
            assert response.status == 400
        assert [await post(w, address, call("hang", n)) for n in range(3)] == [202, 202, 400]
        w.tools.let_go.set()
        assert {(await anext(messages))["id"] for _ in range(2)} == {0, 1}


async def test_a_client_that_reads_nothing_fills_no_memory(tmp_path: Path) -> None:
    """Answers that are done and wait to be read count too; one that reads goes on."""
    text = "x" * 100_000
    async with old_door(tmp_path) as w, stream(w) as (address, messages):
        taken = 0
        while await post(w, address, call("echo", taken, text=text)) == 202:
            taken += 1
            assert taken < 1_000
        assert [(await anext(messages))["id"] for _ in range(taken)] == list(range(taken))
        assert await post(w, address, call("echo", taken)) == 202


async def test_no_subsystem_takes_anothers_streams(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "MOST_STREAMS", 1)
    async with old_door(tmp_path) as w, stream(w, "reader"), stream(w, "writer") as (address, messages):
        async with w.world.http.get(w.world.url + "/sse", headers=w.world.headers("reader")) as response:
            assert response.status == 400
        assert await post(w, address, call("echo", 7)) == 202
        assert (await anext(messages))["id"] == 7


async def test_the_official_client(tmp_path: Path) -> None:
    """As programs of 2024 use it."""
    pytest.importorskip("mcp", reason="mcp, the official client, is not installed")
    from mcp.client.session import ClientSession  # noqa: PLC0415
    from mcp.client.sse import sse_client  # noqa: PLC0415

    async with (
        asyncio.timeout(PATIENCE_SECONDS),
        old_door(tmp_path) as w,
        sse_client(w.world.url + "/sse", headers=w.world.headers()) as (reading, writing),
        ClientSession(reading, writing) as session,
    ):
        await session.initialize()
        assert len((await session.list_tools()).tools) == 5
        assert (await session.call_tool("echo", {"text": "x"})).structured_content == {"text": "x"}
