"""Start confined processes through the zygote, a small process that forks them (`runners/cell/zygote.py`)."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from epad.confinement.answer import (
    Cell,
    CellError,
    Reopened,
    cell_of,
    hear,
    plan_file,
    reopen_order,
    reopened_of,
    spawn_order,
)
from epad.runtime import oom_protection
from epad.runtime.descriptors import hand_down
from runners.cell.plan import CellPlan, Door

_HOME: Final = Path(__file__).parents[2] / "runners/cell"
START: Final = _HOME / "start.sh"
PROFILE: Final = _HOME / "epad-cell.apparmor"
"""The profile of AppArmor that lets START make namespaces, once it is installed."""

_RESTRICTION: Final = Path("/proc/sys/kernel/apparmor_restrict_unprivileged_userns")
# A first process shows its marks over the environment that the zygote was started with, so that is given room.
_ROOM: Final = 4_096
_END_SECONDS: Final = 2.0


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
        order = plan_file(plan)
        try:
            answer = await self._ask(spawn_order(), (order, stdin, stdout, stderr))
        finally:
            os.close(order)
        return cell_of(*answer)

    async def reopen(self, pid: int, doors: Sequence[Door], watched: Sequence[int] | None = None) -> Reopened:
        """Listen again on the doors of a living cell, by its first process, and watch. Raises CellError."""
        try:
            process = os.pidfd_open(pid)
        except OSError as error:
            raise CellError(f"no cell with first process {pid}: {error.strerror}") from error
        try:
            return reopened_of(*await self._ask(reopen_order(doors, watched), (process,)))
        finally:
            os.close(process)

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
        self, order: bytes, descriptors: Sequence[int]
    ) -> tuple[dict[str, Any], tuple[socket.socket, ...]]:
        """Give an order, and return the answer with the sockets that came with it. Raises CellError."""
        await self.start()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with ours:
            with theirs:
                self._send(order, (*descriptors, theirs.fileno()))
            return await hear(ours, must_settle=True)

    def _send(self, message: bytes, descriptors: Sequence[int]) -> None:
        assert self._control is not None  # noqa: S101 (`start` has made it)
        try:
            socket.send_fds(self._control, [message], descriptors)
        except OSError as error:
            self._forget()
            raise CellError(
                f"the zygote of cells has ended: {error.strerror}; the next start has another"
            ) from error


def _start(restriction: Path = _RESTRICTION) -> tuple[str, ...]:
    """Return the program that AppArmor's profile is for, where AppArmor restricts namespaces."""
    with suppress(OSError):
        if restriction.read_text().strip() == "1" and os.access(START, os.X_OK):
            return (str(START),)
    return ()
