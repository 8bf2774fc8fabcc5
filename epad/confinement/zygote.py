"""Start confined processes through the zygote, a small process that forks them (`runners/cell/zygote.py`)."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from epad.confinement.errors import ConfinementError
from epad.runtime import oom_protection
from epad.runtime.descriptors import hand_down
from runners.cell.plan import CellPlan, Door

SPAWN_SECONDS: Final = 30.0
"""A cell takes milliseconds; one that takes longer waits for a file system that does not answer."""

_HOME: Final = Path(__file__).parents[2] / "runners/cell"
START: Final = _HOME / "start.sh"
PROFILE: Final = _HOME / "epad-cell.apparmor"
"""The profile of AppArmor that lets START make namespaces, once it is installed."""

_RESTRICTION: Final = Path("/proc/sys/kernel/apparmor_restrict_unprivileged_userns")
# A first process shows its marks over the environment that the zygote was started with, so that is given room.
_ROOM: Final = 4_096
_MESSAGE_BYTES: Final = 1 << 16
_MOST_DOORS: Final = 16
_END_SECONDS: Final = 2.0


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


class Zygote:
    """Keeps the zygote, and asks it for cells. `command` begins the one that starts it: its interpreter."""

    def __init__(self, command: Sequence[str] = ()) -> None:
        begin = command or (*_start(), sys.executable)
        self._command = [*begin, "-I", "-S", "-X", "utf8", str(_HOME / "zygote.py")]
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None

    @property
    def pid(self) -> int | None:
        """Return the zygote's process; None while there is none."""
        return None if self._process is None else self._process.pid

    async def start(self) -> None:
        """Start the zygote, if none runs. Raises CellError."""
        if self._process is not None and self._process.poll() is None:
            return
        self._forget()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            try:
                self._process = subprocess.Popen(  # noqa: ASYNC220 (vfork returns at exec)
                    self._command,
                    stdin=theirs.fileno(),
                    stdout=subprocess.DEVNULL,
                    env={"EPAD_ROOM": "-" * _ROOM},
                    cwd="/",
                    start_new_session=True,
                )
            except OSError as error:
                ours.close()
                raise CellError(f"the zygote of cells cannot be started: {error.strerror}") from error
        # What it forks has what it has.
        hand_down(self._process.pid)
        oom_protection.forgo(self._process.pid)
        self._control = ours

    async def spawn(self, plan: CellPlan, stdin: int, stdout: int, stderr: int) -> Cell:
        """Start the program of a plan in a cell of its own. Raises CellError that names the wall, or the program."""
        order = os.memfd_create("epad-cell-plan", os.MFD_CLOEXEC)
        try:
            os.write(order, plan.to_json())
            message, doors = await self._ask({"order": "spawn"}, (order, stdin, stdout, stderr))
        finally:
            os.close(order)
        return Cell(message["pid"], doors, message["missing"], tuple(message["placeholders"]))

    async def reopen(self, pid: int, doors: Sequence[Door]) -> tuple[socket.socket, ...]:
        """Listen again on the doors of a living cell, by its first process. Raises CellError."""
        try:
            process = os.pidfd_open(pid)
        except OSError as error:
            raise CellError(f"no cell with first process {pid}: {error.strerror}") from error
        try:
            order = {"order": "reopen", "doors": [[door.host, door.port] for door in doors]}
            _, listeners = await self._ask(order, (process,))
        finally:
            os.close(process)
        return listeners

    async def close(self) -> None:
        """End the zygote; the cells live on."""
        if self._control is not None:
            self._control.close()
            self._control = None
        if self._process is not None:
            with suppress(subprocess.TimeoutExpired):
                await asyncio.to_thread(self._process.wait, _END_SECONDS)
        self._forget()

    def _forget(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        self._process = None
        if self._control is not None:
            self._control.close()
            self._control = None

    async def _ask(
        self, order: Mapping[str, Any], descriptors: Sequence[int]
    ) -> tuple[dict[str, Any], tuple[socket.socket, ...]]:
        """Give an order, and return the answer with the sockets that came with it. Raises CellError."""
        await self.start()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with ours:
            with theirs:
                self._send(json.dumps(order).encode(), (*descriptors, theirs.fileno()))
            answer = _Answer(ours)
            try:
                await asyncio.wait_for(answer.whole(), SPAWN_SECONDS)
            except TimeoutError:
                answer.discard()
                raise CellError(f"the cell was not made within {SPAWN_SECONDS:g} s") from None
            except BaseException:
                answer.discard()
                raise
        if failure := answer.failure:
            answer.discard()
            raise CellError(failure)
        return answer.message, tuple(answer.listeners)

    def _send(self, message: bytes, descriptors: Sequence[int]) -> None:
        assert self._control is not None  # noqa: S101 (`start` has made it)
        try:
            socket.send_fds(self._control, [message], descriptors)
        except OSError as error:
            self._forget()
            raise CellError(
                f"the zygote of cells has ended: {error.strerror}; the next start has another"
            ) from error


class _Answer:
    """Collects one order's messages until the zygote has closed the socket: the child is ours to wait for then."""

    def __init__(self, answer: socket.socket) -> None:
        answer.setblocking(False)
        self._socket = answer
        self.message: dict[str, Any] = {}
        self.listeners: list[socket.socket] = []
        self._is_settled = False

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
        else:
            self.message = message


def _start(restriction: Path = _RESTRICTION) -> tuple[str, ...]:
    """Return the program that AppArmor's profile is for, where AppArmor restricts namespaces."""
    with suppress(OSError):
        if restriction.read_text().strip() == "1" and os.access(START, os.X_OK):
            return (str(START),)
    return ()
