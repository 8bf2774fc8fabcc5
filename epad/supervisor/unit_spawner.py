"""Make cells as units of systemd, by a launcher that is each unit's first program (`runners/cell/launcher.py`).

The unit is no child of ours, and has nothing of what the daemon's own unit forbids: namespaces may be made there that
may not be made here.
"""

from __future__ import annotations

import itertools
import os
import select
import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from dbus_fast import Variant

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
from epad.supervisor.engine import SLICE
from epad.supervisor.systemd_manager import Manager, ManagerError
from runners.cell.plan import CellPlan, Door

_LAUNCHER: Final = Path(__file__).parents[2] / "runners/cell/launcher.py"
_COMMAND: Final = (sys.executable, "-I", "-S", "-X", "utf8", str(_LAUNCHER))
_START_MICROSECONDS: Final = 30_000_000

Properties = Mapping[str, Variant]


class UnitSpawner:
    """Implements `epad.confinement.spawner.Spawner`. `tag` begins the names of units that are no subsystem's."""

    def __init__(self, manager: Manager, tag: str) -> None:
        self._manager = manager
        self._tag = tag
        self._numbers = itertools.count()
        self._expected: dict[str, tuple[str, Properties]] = {}

    def expect(self, subsystem: str, unit: str, properties: Properties) -> None:
        """Make the next cell of a subsystem as this unit, with these properties too."""
        self._expected[subsystem] = unit, properties

    @property
    def pid(self) -> int | None:
        """Return no process: one is started for each cell."""
        return None

    async def close(self) -> None:
        """Have nothing to end."""

    async def spawn(self, plan: CellPlan, stdin: int, stdout: int, stderr: int) -> Cell:
        """Start the program of a plan in a cell of its own, as a unit. Raises CellError."""
        del stdin  # a cell's is always empty
        unit, properties = self._expected.pop(plan.name, (self._passing_unit("trial"), _PASSING))
        order = plan_file(plan)
        try:
            return cell_of(
                *await self._run(unit, {**properties, **_NOTIFYING}, (stdout, stderr), spawn_order(), order)
            )
        finally:
            os.close(order)

    async def reopen(self, pid: int, doors: Sequence[Door], watched: Sequence[int] | None = None) -> Reopened:
        """Listen again on the doors of a living cell, by its first process, and watch. Raises CellError."""
        try:
            process = os.pidfd_open(pid)
        except OSError as error:
            raise CellError(f"no cell with first process {pid}: {error.strerror}") from error
        try:
            unit, null = self._passing_unit("doors"), os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
            try:
                order = reopen_order(doors, watched)
                return reopened_of(*await self._run(unit, _PASSING, (null, null), order, process))
            finally:
                os.close(null)
        finally:
            os.close(process)

    async def _run(
        self, unit: str, properties: Properties, output: tuple[int, int], order: bytes, given: int
    ) -> tuple[dict[str, Any], tuple[socket.socket, ...]]:
        """Run the launcher as a unit on one order, and return its answer with the sockets that came with it."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with ours:
            with theirs:
                socket.send_fds(ours, [order], [given])
                files = (theirs.fileno(), *output)
                try:
                    result = await self._manager.start_transient(unit, {**properties, **_LAUNCHING}, files)
                except ManagerError as error:
                    raise CellError(f"{unit}: {error}") from error
            if result != "done" and not select.select([ours], [], [], 0)[0]:
                raise CellError(f"{unit}: systemd could not start it: {result}")
            return await hear(ours, must_settle=False)

    def _passing_unit(self, purpose: str) -> str:
        return f"{self._tag}-{purpose}-{os.getpid()}-{next(self._numbers)}.service"


_LAUNCHING: Final[Properties] = {
    "ExecStartEx": Variant("a(sasas)", [[_COMMAND[0], list(_COMMAND), ["no-env-expand"]]]),
    "StandardInputFileDescriptor": Variant("h", 0),
    "StandardOutputFileDescriptor": Variant("h", 1),
    "StandardErrorFileDescriptor": Variant("h", 2),
    "TimeoutStartUSec": Variant("t", _START_MICROSECONDS),
}
_NOTIFYING: Final[Properties] = {"Type": Variant("s", "notify"), "NotifyAccess": Variant("s", "main")}
_PASSING: Final[Properties] = {
    "Type": Variant("s", "exec"),
    "Slice": Variant("s", SLICE),
    "CollectMode": Variant("s", "inactive-or-failed"),
}
