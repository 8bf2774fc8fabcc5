"""Read the answers of the programs that make cells: over one socket for each order, with the listeners of its doors."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from epad.confinement.errors import ConfinementError
from runners.cell.plan import CellPlan, Door

SPAWN_SECONDS: Final = 30.0
"""A cell takes milliseconds; one that takes longer waits for a file system that does not answer."""

_MESSAGE_BYTES: Final = 1 << 16
_MOST_DOORS: Final = 16


class CellError(ConfinementError):
    """A cell could not be made, or its doors could not be opened again."""


@dataclass(frozen=True, slots=True)
class Cell:
    """Describes a confined process that has begun."""

    pid: int
    """Its first process, which ends when the program does and everything inside with it."""
    doors: tuple[socket.socket, ...]
    """The listeners inside its network, in the order of the plan; none if the network wall is missing."""
    missing: Mapping[str, str]
    """Walls that could not be had, each with the reason."""
    placeholders: tuple[str, ...]
    """Empty files and directories that were made in writable roots, so that nothing else can be there."""
    watch: socket.socket | None = None
    """The socket that sees attempts to connect past the doors."""
    unwatched: str = ""
    """Why there is no such socket where one was asked for."""


@dataclass(frozen=True, slots=True)
class Reopened:
    """Holds the sockets that were made anew in a living cell; as those of `Cell`."""

    doors: tuple[socket.socket, ...]
    watch: socket.socket | None = None
    unwatched: str = ""


def cell_of(message: Mapping[str, Any], sockets: tuple[socket.socket, ...]) -> Cell:
    """Return the cell that an answer describes."""
    new = reopened_of(message, sockets)
    placeholders = tuple(message["placeholders"])
    return Cell(message["pid"], new.doors, message["missing"], placeholders, new.watch, new.unwatched)


def reopened_of(message: Mapping[str, Any], sockets: tuple[socket.socket, ...]) -> Reopened:
    """Return the sockets of an answer, by what they are: the doors come first."""
    doors, rest = sockets[: message["doors"]], sockets[message["doors"] :]
    return Reopened(doors, rest[0] if rest else None, message["unwatched"])


def spawn_order() -> bytes:
    """Return the order of a cell, whose plan goes with it as a file."""
    return json.dumps({"order": "spawn"}).encode()


def reopen_order(doors: Sequence[Door], watched: Sequence[int] | None) -> bytes:
    """Return the order of doors in a living cell, whose pidfd goes with it; `watched` as in a plan."""
    addresses = [[door.host, door.port] for door in doors]
    return json.dumps({"order": "reopen", "doors": addresses, "watched": watched}).encode()


def plan_file(plan: CellPlan) -> int:
    """Return a descriptor of a file that holds a plan: a message would be too short for some environments."""
    file = os.memfd_create("epad-cell-plan", os.MFD_CLOEXEC)
    with os.fdopen(os.dup(file), "wb") as target:
        target.write(plan.to_json())
    return file


async def hear(
    answer: socket.socket, *, must_settle: bool
) -> tuple[dict[str, Any], tuple[socket.socket, ...]]:
    """Return the answer to an order, and the sockets that came with it. Raises CellError.

    `must_settle` if the zygote will say that it has reaped who made the cell. Without, the first message is the last:
    systemd keeps the other end open for as long as the unit lives.
    """
    heard = _Answer(answer, must_settle=must_settle)
    try:
        await asyncio.wait_for(heard.whole(), SPAWN_SECONDS)
    except TimeoutError:
        heard.discard()
        raise CellError(f"the cell was not made within {SPAWN_SECONDS:g} s") from None
    except BaseException:
        heard.discard()
        raise
    if failure := heard.failure:
        heard.discard()
        raise CellError(failure)
    return heard.message, tuple(heard.listeners)


class _Answer:
    """Collects one order's messages until the socket is closed at its other end."""

    def __init__(self, answer: socket.socket, *, must_settle: bool) -> None:
        answer.setblocking(False)
        self._socket = answer
        self.message: dict[str, Any] = {}
        self.listeners: list[socket.socket] = []
        self._is_settled = not must_settle

    @property
    def failure(self) -> str:
        """Return why the order was not carried out; empty if it was."""
        if "failure" in self.message:
            return str(self.message["failure"])
        return "" if self.message and self._is_settled else "the process that was to make it has ended"

    async def whole(self) -> None:
        """Wait for the last message."""
        loop = asyncio.get_running_loop()
        ended = loop.create_future()
        loop.add_reader(self._socket, self._take, ended)
        try:
            await ended
        finally:
            loop.remove_reader(self._socket)

    def discard(self) -> None:
        """Close the sockets that have come."""
        for listener in self.listeners:
            listener.close()

    def _take(self, ended: asyncio.Future[None]) -> None:
        try:
            text, descriptors, _, _ = socket.recv_fds(self._socket, _MESSAGE_BYTES, _MOST_DOORS)
        except OSError:
            text, descriptors = b"", []
        self.listeners.extend(socket.socket(fileno=descriptor) for descriptor in descriptors)
        if not text:
            if not ended.done():
                ended.set_result(None)
            return
        message = json.loads(text)
        if "ended" in message:
            self._is_settled = True
            return
        self.message = message
        if self._is_settled and not ended.done():
            ended.set_result(None)
