"""The gateway's doors inside cells: an identity each, wherever they listen, cut at once and opened again."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from gateway_world import World, world
from patience import PATIENCE_SECONDS

from epad.configuration.schema import BudgetConfig
from epad.runtime.listener_handover import NoHandover
from statemachine.containment import Rung

BODY = {"model": "tiny", "messages": []}


class HandedOver(NoHandover):
    """A handover that remembers what it is to keep for the next daemon."""

    def __init__(self) -> None:
        self.kept: list[Any] = []

    def keep(self, listening: socket.socket) -> None:
        self.kept.append(listening.getsockname())


@pytest.fixture
def door() -> Iterator[socket.socket]:
    """A socket as a cell hands it over, with a port of its choice; the test's own copy of it stays open."""
    with socket.create_server(("127.0.0.1", 0)) as any_port:
        port = any_port.getsockname()[1]
    with socket.create_server(("127.0.0.1", port)) as one:
        yield one


def url_of(door: socket.socket) -> str:
    return f"http://127.0.0.1:{door.getsockname()[1]}/v1/chat/completions"


@asynccontextmanager
async def two_subsystems(tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path, budgets={"writer": BudgetConfig(), "reader": BudgetConfig()}) as w:
        yield w


async def ask(door: socket.socket) -> tuple[int, Any]:
    async with aiohttp.ClientSession() as http, http.post(url_of(door), json=BODY) as response:
        return response.status, json.loads(await response.read())


async def test_who_comes_in_by_a_cells_door_is_that_subsystem(tmp_path: Path, door: socket.socket) -> None:
    """Without a key; and the socket is handed to no later daemon, which makes its own."""
    async with two_subsystems(tmp_path) as w:
        w.gateway._server.handover = handover = HandedOver()
        await w.gateway.cell_doors.open("writer", door.dup())
        assert (await ask(door))[0] == 200
        assert [turn.subsystem for turn in w.ledger.opened] == ["writer"]
        assert handover.kept == []


async def test_a_cut_door_lets_nobody_in_until_it_is_opened_again(
    tmp_path: Path, door: socket.socket
) -> None:
    """An idle connection ends with it. `listen` on the same socket opens it again, at its old address."""
    async with two_subsystems(tmp_path) as w:
        doors = w.gateway.cell_doors
        address = door.getsockname()
        await doors.open("writer", door.dup())
        reader, writer = await asyncio.open_connection(*address)
        door.shutdown(socket.SHUT_RDWR)
        await doors.close("writer")
        async with asyncio.timeout(PATIENCE_SECONDS):
            assert await reader.read() == b""
        writer.close()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(*address)
        await doors.open("writer", door.dup())
        assert (await ask(door))[0] == 200
        assert door.getsockname() == address


async def test_a_stream_through_a_cut_door_ends_and_says_why(tmp_path: Path, door: socket.socket) -> None:
    """The dialect's error comes first, the end of the connection right after."""
    async with two_subsystems(tmp_path) as w:
        w.stub.gate, w.stub.words_before_gate = asyncio.Event(), 2
        await w.gateway.cell_doors.open("writer", door.dup())
        body = json.dumps({**BODY, "stream": True}).encode()
        reader, writer = await asyncio.open_connection(*door.getsockname())
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        async with asyncio.timeout(PATIENCE_SECONDS):
            await reader.readuntil(b" two")
            w.access.hold("writer", Rung.BLOCK, "it loops")
            w.access.sever("writer")
            await w.gateway.cell_doors.close("writer")
            assert b"subsystem_quarantined" in await reader.read()
        writer.close()


async def test_a_client_that_goes_on_sending_is_broken_off(tmp_path: Path, door: socket.socket) -> None:
    """A request whose body never ends keeps no connection open behind a cut door."""
    async with two_subsystems(tmp_path) as w:
        await w.gateway.cell_doors.open("writer", door.dup())
        reader, writer = await asyncio.open_connection(*door.getsockname())
        writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99\r\n\r\n{")
        await writer.drain()
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not any(one.busy for one in w.gateway._server.shared.connections):
                await asyncio.sleep(0)
            await w.gateway.cell_doors.close("writer")
            assert await reader.read() == b""
        writer.close()


async def test_a_cut_concerns_one_subsystem_alone(tmp_path: Path, door: socket.socket) -> None:
    """Another's door, and the gateway's for everyone, go on."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        async with two_subsystems(tmp_path) as w:
            await w.gateway.cell_doors.open("writer", door.dup())
            await w.gateway.cell_doors.open("reader", other.dup())
            await w.gateway.cell_doors.close("writer")
            await w.gateway.cell_doors.close("writer")
            assert (await ask(other))[0] == 200
