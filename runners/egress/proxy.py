"""Obey the daemon: open and close doors, and report all that happens at them."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Coroutine, Sequence

from runners.egress.channel import Channel
from runners.egress.door import Door
from runners.egress.messages import (
    CloseDoor,
    CutHost,
    Decide,
    Event,
    EventKind,
    OpenDoor,
    read_order,
    write_event,
)
from runners.egress.network import Network


class Proxy:
    """All doors of one daemon. It ends when the daemon's end of the channel does: nothing passes without a witness."""

    def __init__(self, control: socket.socket, network: Network) -> None:
        self._network = network
        self._doors: dict[str, Door] = {}
        self._listening: dict[str, tuple[socket.socket, asyncio.Task[None]]] = {}
        self._ended = asyncio.Event()
        self._closing: set[asyncio.Task[None]] = set()
        self._channel = Channel(control, self._obey, self._ended.set)

    async def run(self) -> None:
        """Serve until the daemon is gone, and cut everything then."""
        self._report(Event(EventKind.READY))
        await self._ended.wait()
        for name in tuple(self._doors):
            self._close(name)

    def _obey(self, message: bytes, descriptors: Sequence[int]) -> None:
        sockets = [socket.socket(fileno=number) for number in descriptors]
        match read_order(message):
            case OpenDoor() as order:
                self._open(order, sockets)
            case CloseDoor(door):
                self._close(door)
            case CutHost(name, host, port):
                self._start(self._cut(name, host, port), f"cut of {name}")
            case Decide() as decided:
                any(door.decide(decided) for door in self._doors.values())

    def _open(self, order: OpenDoor, sockets: Sequence[socket.socket]) -> None:
        """Open a door at a listener, or change the rules of one that is open."""
        if not sockets:
            if order.door in self._doors:
                self._doors[order.door].change(order)
            return
        self._close(order.door)
        [listener] = sockets
        door = self._doors[order.door] = Door(order, self._network, self._report)
        task = asyncio.create_task(door.listen(listener), name=f"door of {order.door}")
        self._listening[order.door] = listener, task

    def _close(self, name: str) -> None:
        """Close a door, if it is open: its connections end now, and the daemon is told when they have ended."""
        door = self._doors.pop(name, None)
        if door is None:
            return
        listener, task = self._listening.pop(name)
        # Before it is closed: the task's own cleaning comes a turn later, when the descriptor is gone, and the kernel
        # goes on reporting a socket that the daemon has too, for ever, at the cost of a core.
        asyncio.get_running_loop().remove_reader(listener.fileno())
        task.cancel()
        listener.close()
        count = door.close()
        self._start(self._closed(door, count), f"closing of {name}")

    def _start(self, ending: Coroutine[None, None, None], name: str) -> None:
        task = asyncio.create_task(ending, name=name)
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def _cut(self, name: str, host: str, port: int) -> None:
        """Cut what a door has open to a host, and tell the daemon when that has ended."""
        door = self._doors.get(name)
        count = 0 if door is None else await door.cut(host, port)
        self._report(Event(EventKind.CUT, door=name, host=host, port=port, count=count))

    async def _closed(self, door: Door, count: int) -> None:
        await door.ended()
        door.report(Event(EventKind.CUT, count=count))

    def _report(self, event: Event) -> None:
        self._channel.send(write_event(event))
