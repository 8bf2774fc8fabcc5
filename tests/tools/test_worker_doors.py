"""The door of a worker at the way out: opened with it, and closed after it, but never the next one's."""

from __future__ import annotations

import asyncio
import socket

import structlog
from patience import until

from epad.tools.worker_doors import WorkerDoors


class Keeper:
    """Notes what is opened and closed."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.listening: list[socket.socket] = []

    async def open(self, subsystem: str, listening: socket.socket) -> None:
        self.seen.append(f"open {subsystem}")
        self.listening.append(listening)

    async def close(self, subsystem: str) -> None:
        self.seen.append(f"close {subsystem}")


async def test_a_door_is_closed_when_its_worker_has_ended() -> None:
    """And who wants to know of the end is told."""
    keeper, told = Keeper(), list[str]()
    doors = WorkerDoors(keeper, structlog.get_logger("test"))
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        ended = await doors.open("agent/tools-http", listening, lambda: told.append("ended"))
        with socket.create_connection(listening.getsockname()):
            ended()
        await until(lambda: len(keeper.seen) == 2, "the close")
    assert keeper.seen == ["open agent/tools-http", "close agent/tools-http"]
    assert told == ["ended"]


async def test_an_ended_worker_closes_no_door_of_the_next() -> None:
    """Whichever of the two comes first."""
    keeper = Keeper()
    doors = WorkerDoors(keeper, structlog.get_logger("test"))
    with socket.socket() as one, socket.socket() as other, socket.socket() as third:
        for each in (one, other, third):
            each.bind(("127.0.0.1", 0))
        first = await doors.open("agent/tools-http", one, lambda: None)
        second = await doors.open("agent/tools-http", other, lambda: None)
        first()
        await asyncio.sleep(0)
        assert keeper.seen == ["open agent/tools-http"] * 2
        second()
        await doors.open("agent/tools-http", third, lambda: None)
        await asyncio.sleep(0)
    assert keeper.seen == ["open agent/tools-http"] * 3
