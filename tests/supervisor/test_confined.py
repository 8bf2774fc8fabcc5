"""Confined subsystems under the plain engine; a double makes the cells, and `Cells` keeps them."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator

import pytest
from cell_doubles import CellWorld
from supervisor_world import READY, SLEEP, World, child_of, program, snapshot, until

from epad.configuration.schema import RestartConfig
from epad.supervisor.plain_engine import PlainEngine, as_of_its_program, exited, killed
from probes.subsystems import SubsystemState
from statemachine.containment import Rung

NEVER = RestartConfig(policy="never")
AGAIN = RestartConfig(backoff_seconds=0.001, backoff_max_seconds=0.01)


def confine(world: World, cells: CellWorld) -> None:
    """Have the subsystems of later supervisors started in these cells."""
    world.cells = cells.cells
    world.engine = PlainEngine(world.table, cells=cells.cells)


@pytest.fixture
async def cells(world: World) -> AsyncIterator[CellWorld]:
    """What makes the cells of a world's engine, in place of the kernel."""
    one = CellWorld(world.directories.state)
    confine(world, one)
    yield one
    for door in one.spawner.doors:
        door.close()


async def test_a_confined_subsystem_is_started_by_its_plan(world: World, cells: CellWorld) -> None:
    """With all that an unconfined one has: its environment, its directory, its log, its notifications."""
    source = f"{READY}\nprint('printed', flush=True)\ntell('READY=1\\nSTATUS=inside')\n{SLEEP}"
    supervisor = world.supervisor({"it": program(source, notifies=True)})
    await supervisor.start()
    await until(lambda: snapshot(supervisor).status_text == "inside")
    [plan] = cells.spawner.made
    assert plan.name == "it"
    assert plan.directory == str(world.directories.work("it"))
    assert plan.environment["EPAD_SUBSYSTEM"] == "it"
    assert [name for name, _ in plan.limits] == ["RSS"]
    assert world.read("it") == "printed\n"
    assert snapshot(supervisor).state is SubsystemState.RUNNING
    assert cells.gateway.doors.keys() == {"it"}
    await supervisor.stop_all()
    assert cells.gateway.doors == {}
    assert not cells.cells.has("it")


@pytest.mark.parametrize(
    ("number", "text"), [(128 + signal.SIGSEGV, "signal SIGSEGV"), (3, "exit 3"), (128, "exit 128")]
)
async def test_an_exit_is_its_programs(world: World, cells: CellWorld, number: int, text: str) -> None:
    """The first process of a cell ends as a shell does: 128 and the signal that ended the program."""
    supervisor = world.supervisor({"it": program(f"import os; os._exit({number})", restart=NEVER)})
    await supervisor.start()
    await until(lambda: len(world.exits) == 1)
    assert world.exits[0].status == text
    assert not cells.cells.has("it")
    await supervisor.stop_all()


def test_a_status_of_no_cell_is_left_as_it_is() -> None:
    """And so is the signal that ended the first process itself."""
    assert as_of_its_program(killed(9)) == killed(9)
    assert as_of_its_program(exited(137)) == killed(9)
    assert as_of_its_program(exited(128 + 200)).text == "signal 200"


async def test_each_restart_has_a_cell_of_its_own(world: World, cells: CellWorld) -> None:
    """The doors of the former are gone; those of the new one are open."""
    supervisor = world.supervisor({"it": program(SLEEP, restart=AGAIN)})
    await supervisor.start()
    first = snapshot(supervisor).pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    await until(lambda: snapshot(supervisor).pid not in {None, first})
    await until(lambda: cells.gateway.doors.keys() == {"it"})
    assert len(cells.spawner.made) == 2
    assert cells.refused(0)
    assert not cells.refused(2)
    await supervisor.stop_all()


async def test_a_wall_that_is_missing_is_a_failure_that_names_it(world: World, cells: CellWorld) -> None:
    """It is not tried again: nothing has changed; an order of a person tries."""
    cells.planner.refuses = "network: this machine gives no user namespaces"
    supervisor = world.supervisor({"it": program(SLEEP)})
    await supervisor.start()
    assert supervisor.failed() == {"it"}
    assert snapshot(supervisor).status_text == f"{cells.planner.refuses}: see subsystems.it.confine"
    cells.planner.refuses = ""
    await supervisor.restart("it")
    assert snapshot(supervisor).state is SubsystemState.RUNNING
    await supervisor.stop_all()


async def test_a_cell_that_cannot_be_made_is_tried_again_and_then_a_failure(
    world: World, cells: CellWorld
) -> None:
    """As a program that cannot be executed is."""
    cells.spawner.refuses = "files: pivot_root: Operation not permitted"
    supervisor = world.supervisor(
        {
            "it": program(
                SLEEP, restart=RestartConfig(intensity=2, backoff_seconds=0.001, backoff_max_seconds=0.01)
            )
        }
    )
    await supervisor.start()
    await until(lambda: supervisor.failed() == {"it"})
    assert "pivot_root" in snapshot(supervisor).status_text
    await supervisor.stop_all()


async def test_the_network_of_a_cell_is_cut_by_its_doors(world: World, cells: CellWorld) -> None:
    """So the engine has nothing to add, and says that it is cut."""
    supervisor = world.supervisor({"it": program(SLEEP)})
    await supervisor.start()
    await cells.cells.shut("it")
    assert await supervisor.hold("it", Rung.FREEZE, "a test") == "network cut, but for loopback"
    await supervisor.stop_all()


async def test_the_next_daemon_adopts_a_cell_and_makes_its_doors_anew(world: World, cells: CellWorld) -> None:
    """By the record that the one before has left."""
    supervisor = world.supervisor({"it": program(SLEEP)})
    await supervisor.start()
    pid = child_of(supervisor).identity.pid
    await supervisor.detach()
    cells.cells = cells.another()
    confine(world, cells)
    again = world.supervisor({"it": program(SLEEP)})
    await again.start()
    assert child_of(again).identity.pid == pid
    assert cells.cells.has("it")
    assert cells.gateway.doors.keys() == {"it"}
    assert [one for one, _ in cells.spawner.reopened] == [pid]
    os.kill(pid, signal.SIGKILL)
    await until(lambda: len(cells.spawner.made) == 2)
    await again.stop_all()


async def test_a_confined_subsystem_that_is_so_no_more_is_started_without_a_cell(
    world: World, cells: CellWorld
) -> None:
    """After a reload that has opened it."""
    cells.profiles["it"] = "open"
    supervisor = world.supervisor({"it": program(SLEEP)})
    await supervisor.start()
    await asyncio.sleep(0)
    assert cells.spawner.made == []
    assert not cells.cells.has("it")
    await supervisor.stop_all()
