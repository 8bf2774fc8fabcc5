"""Real cells for tests: a zygote, a workspace with a neighbour's things around it, and programs run inside."""

from __future__ import annotations

import asyncio
import ctypes
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import pytest
from machine_lacks import is_lacking

from epad.confinement import places
from epad.confinement.answer import Cell
from epad.confinement.zygote import Zygote
from runners.cell.plan import CellPlan, Door, Syscalls, Tree, Wall

UID = 12345
"""Who runs in a cell of a root daemon; nobody else on the machine."""

Mode = Literal["user namespace", "root daemon", "root"]
MODES: tuple[Mode, ...] = ("user namespace", "root daemon")
"""As a user's daemon makes it, and as root's does for another user."""
EVERY_MODE: tuple[Mode, ...] = (*MODES, "root")
"""Root's daemon for root itself too, in a user namespace."""

SYSTEM = (*places.SYSTEM, *places.SYSTEM_SETTINGS)
GATEWAY = Door("127.0.0.1", 8711)
WAY_OUT = Door("127.0.0.1", 3128)
_PR_SET_CHILD_SUBREAPER = 36


@dataclass(frozen=True, slots=True)
class Ended:
    """What a program in a cell has left: its exit status, and its output."""

    status: int
    output: str
    missing: Mapping[str, str] = field(default_factory=dict)


def need(mode: Mode) -> None:
    """Skip the test where no cell of this mode can be made."""
    if mode != "user namespace" and is_lacking("root"):
        pytest.skip("only root can become two other users")
    if mode != "root daemon" and is_lacking("user namespaces"):
        pytest.skip("no user namespace of one's own here")


@contextmanager
def workspace(uid: int | None = None) -> Iterator[Path]:
    """Make a directory that a cell's user can reach and write, whoever runs the tests.

    Not below /tmp or /dev/shm, of which a cell has its own, so that nothing of this is there inside by itself.
    """
    place = Path(tempfile.mkdtemp(prefix="epad-cell-", dir="/var/tmp"))
    try:
        place.chmod(0o755)
        if uid is not None and os.geteuid() == 0:
            os.chown(place, uid, uid)
        yield place
    finally:
        shutil.rmtree(place)


def plan(place: Path, command: Sequence[str], mode: Mode = "user namespace") -> CellPlan:
    """Return the plan of a workspace's cell with every wall that it takes."""
    uid = UID if os.geteuid() == 0 and mode != "root" else None
    return CellPlan(
        name="agent",
        command=tuple(command),
        directory=str(place),
        environment={"PATH": "/usr/bin:/bin", "HOME": "/home/agent", "LANG": "C.UTF-8"},
        walls=tuple(wall for wall in Wall if wall is not Wall.LANDLOCK_TCP),
        tree=Tree(read=SYSTEM, write=(str(place),), empty=("/tmp", "/home/agent", "/run")),
        syscalls=Syscalls(),
        doors=(GATEWAY, WAY_OUT),
        watched=(),
        limits=(("CORE", 1),),
        user_namespace=mode != "root daemon",
        uid=uid,
        gid=uid,
        marks={"EPAD_SUBSYSTEM": "agent", "EPAD_STATE": "/nowhere"},
    )


@asynccontextmanager
async def zygote(command: Sequence[str] = ()) -> AsyncIterator[Zygote]:
    """Keep a zygote for a test, whose process is the parent of orphans as the daemon is."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    kept = Zygote(command)
    await kept.start()
    try:
        yield kept
    finally:
        await kept.close()


@dataclass(frozen=True, slots=True)
class Running:
    """A cell that runs, and where its output comes."""

    cell: Cell
    reading: int

    async def end(self) -> Ended:
        """Wait for its end."""
        output = await asyncio.to_thread(self._read)
        _, status = await asyncio.to_thread(os.waitpid, self.cell.pid, 0)
        for door in self.cell.doors:
            door.close()
        if self.cell.watch is not None:
            # As the daemon does, whose loop does not wait until the kernel has ended it.
            asyncio.get_running_loop().run_in_executor(None, self.cell.watch.close)
        return Ended(os.waitstatus_to_exitcode(status), output, self.cell.missing)

    def _read(self) -> str:
        with os.fdopen(self.reading, "rb") as file:
            return file.read().decode(errors="replace")


async def start(kept: Zygote, ordered: CellPlan) -> Running:
    """Start a program in a cell, its output going to us."""
    reading, writing = os.pipe()
    null = os.open(os.devnull, os.O_RDONLY)
    try:
        cell = await kept.spawn(ordered, null, writing, writing)
    except BaseException:
        os.close(reading)
        raise
    finally:
        os.close(null)
        os.close(writing)
    return Running(cell, reading)


async def run(kept: Zygote, ordered: CellPlan) -> Ended:
    """Run a program in a cell to its end."""
    return await (await start(kept, ordered)).end()


def without(ordered: CellPlan, *walls: Wall) -> CellPlan:
    """Return a plan less some walls, and less a /proc of its own if they are among those that this takes."""
    gone = {*walls, *((Wall.PROC,) if {Wall.FILES, Wall.PROCESSES} & set(walls) else ())}
    return replace(ordered, walls=tuple(wall for wall in ordered.walls if wall not in gone))
