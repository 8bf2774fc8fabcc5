"""Confined subsystems under the plain engine, in real cells: held, asked, ended and adopted as others are."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator

import pytest
import structlog
from cell_doubles import Keeper, WatcherDouble
from epad_house import configured
from machine_lacks import is_lacking
from supervisor_world import READY, SLEEP, World, child_of, program, snapshot, until
from way_out_world import KeptEvents

from epad.configuration.confine_schema import ConfineConfig
from epad.configuration.schema import StateConfig, SubsystemConfig
from epad.confinement.cell_parts import CellsContext
from epad.confinement.cell_record import CellRecords
from epad.confinement.cells import Cells
from epad.confinement.doors import DoorKind
from epad.confinement.in_force import PoliciesInForce
from epad.confinement.planning import MachinePlanner
from epad.confinement.policies import Policies
from epad.confinement.zygote import Zygote
from epad.runtime.clock import SystemClock
from epad.supervisor.plain_engine import PlainEngine
from epad.supervisor.supervisor import Supervisor
from probes.subsystems import SubsystemState
from statemachine.containment import Rung

pytestmark = [
    pytest.mark.skipif(is_lacking("user namespaces"), reason="no user namespace of one's own here"),
    pytest.mark.parametrize("world", ["walked", "cgroup"], indirect=True),
]

SAVING = f"""{READY}
import pathlib, signal, time
signal.signal(signal.SIGUSR1, lambda *_: (pathlib.Path("saved").touch(), tell("X_EPAD_SAVED=1")))
tell("READY=1")
while True: time.sleep(60)
"""
# Counts in its workspace, in a child of its own, and is a session of its own besides.
COUNTING = f"""
import os, time
if os.fork() == 0:
    os.setsid()
    number = 0
    while True:
        number += 1
        open("count", "w").write(str(number))
        time.sleep(0.01)
{SLEEP}
"""


class Confining:
    """Gives a world's supervisors real cells."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.zygote = Zygote()
        self.gateway = Keeper()
        self.watcher = WatcherDouble()
        self.specs: dict[str, SubsystemConfig] = {}

    async def leave(self, supervisor: Supervisor) -> None:
        """Go as a daemon does that another one follows."""
        await supervisor.detach()
        assert isinstance(self.world.cells, Cells)
        await self.world.cells.close()
        for door in self.gateway.doors.values():
            door.close()

    def supervisor(self, source: str, **settings: object) -> Supervisor:
        """A supervisor of one confined subsystem, "it"; of the next daemon, if there was one before."""
        world = self.world
        self.specs = {"it": program(source, confine=ConfineConfig(), **settings)}
        policies = Policies(world.directories, os.environ)
        self.gateway = Keeper()
        self.watcher = WatcherDouble()
        world.cells = Cells(
            CellsContext(
                policies=PoliciesInForce(
                    lambda name: policies.of(name, configured(**self.specs)), world.directories.cells
                ),
                planner=MachinePlanner(self.zygote, lambda _: "", tuple),
                spawner=self.zygote,
                records=CellRecords(world.directories.cells),
                keepers={DoorKind.GATEWAY: self.gateway},
                watcher=self.watcher,
                events=KeptEvents(),
                clock=SystemClock(),
                log=structlog.get_logger(),
            )
        )
        parent = world.engine._parent
        world.engine = PlainEngine(world.table, parent, cells=world.cells)
        return world.supervisor(self.specs)


@pytest.fixture
async def confining(world: World) -> AsyncIterator[Confining]:
    one = Confining(world)
    yield one
    for door in one.gateway.doors.values():
        door.close()
    one.watcher.close_all()
    await one.zygote.close()


async def test_it_is_asked_to_save_by_a_signal_to_its_program(confining: Confining) -> None:
    """The process that the supervisor knows is the cell's first, which takes none."""
    supervisor = confining.supervisor(
        SAVING, notifies=True, state=StateConfig(checkpoint_signal="SIGUSR1", deadline_seconds=60.0)
    )
    await supervisor.start()
    await until(lambda: snapshot(supervisor).state is SubsystemState.RUNNING)
    assert await supervisor.ask_to_save() == []
    assert (confining.world.directories.work("it") / "saved").exists()
    await supervisor.stop_all({confining.zygote.pid or 0})


async def test_all_of_it_stands_still_and_runs_again(confining: Confining) -> None:
    """A session of its own inside is found, and no process is left at the end."""
    world, supervisor = confining.world, confining.supervisor(COUNTING)
    await supervisor.start()
    await until(lambda: world.wrote("count"))
    await supervisor.hold("it", Rung.FREEZE, "a test")
    before = world.pid("count")
    await asyncio.sleep(0.1)
    assert world.pid("count") == before
    await supervisor.hold("it", Rung.OPEN, "")
    await until(lambda: world.wrote("count") and world.pid("count") != before)
    assert len(world.living()) >= 3
    await supervisor.stop_all({confining.zygote.pid or 0})
    assert world.living() == set()


async def test_a_signal_that_ends_its_program_is_its_end(confining: Confining) -> None:
    """Seen through the first process, which ends with the number of a shell."""
    world = confining.world
    supervisor = confining.supervisor("import os; os.kill(os.getpid(), 11)")
    await supervisor.start()
    await until(lambda: len(world.exits) >= 1)
    assert world.exits[0].status == "signal SIGSEGV"
    await supervisor.stop_all({confining.zygote.pid or 0})


async def test_the_next_daemon_adopts_it_with_a_door(confining: Confining) -> None:
    """And ends it, whole, when it is told to."""
    first = confining.supervisor(SLEEP)
    await first.start()
    pid = child_of(first).identity.pid
    await confining.leave(first)
    again = confining.supervisor(SLEEP)
    await again.start()
    assert snapshot(again).pid == pid
    assert confining.gateway.doors.keys() == {"it"}
    os.kill(pid, signal.SIGKILL)
    await until(lambda: snapshot(again).pid not in {None, pid})
    await again.stop_all({confining.zygote.pid or 0})
