"""A supervisor that is given other specifications while it runs."""

from __future__ import annotations

from msgspec import structs
from supervisor_world import SLEEP, World, child_of, program, snapshot, until

from epad.configuration.schema import RestartConfig, SubsystemConfig
from epad.supervisor.intent import Held
from probes.subsystems import SubsystemState
from statemachine.containment import Rung


async def test_what_goes_is_ended_what_comes_is_started_what_stays_is_left_alone(world: World) -> None:
    """By name; the order of the configuration is the order shown."""
    supervisor = world.supervisor({"stays": program(SLEEP), "goes": program(SLEEP)})
    await supervisor.start()
    pid = snapshot(supervisor, "stays").pid
    await supervisor.reconfigure(
        {"comes": program(SLEEP), "stays": program(SLEEP), "guest": SubsystemConfig(kind="client")}, {}
    )
    assert [s.name for s in supervisor.snapshots()] == ["comes", "stays", "guest"]
    assert snapshot(supervisor, "stays").pid == pid
    assert len(world.living()) == 2
    await supervisor.stop_all()


async def test_what_comes_is_held_before_it_starts(world: World) -> None:
    """A house in PRESERVATION starts nothing that may not run."""
    supervisor = world.supervisor({})
    await supervisor.start()
    await supervisor.reconfigure({"it": program(SLEEP)}, {"it": Held(Rung.STOP, "not now")})
    assert snapshot(supervisor).state is SubsystemState.STOPPED
    assert world.living() == set()
    await supervisor.hold("it", Rung.OPEN, "")
    await until(lambda: snapshot(supervisor).state is SubsystemState.RUNNING)
    await supervisor.stop_all()


async def test_a_changed_policy_needs_no_new_process(world: World) -> None:
    """The next exit is judged by it; the next start has the new command."""
    supervisor = world.supervisor({"it": program(SLEEP)})
    await supervisor.start()
    pid = snapshot(supervisor).pid
    changed = program(
        "import os; open('new', 'w').write('x')\n" + SLEEP, restart=RestartConfig(policy="never")
    )
    await supervisor.reconfigure({"it": structs.replace(changed, stop_seconds=3.0)}, {})
    assert snapshot(supervisor).pid == pid
    await supervisor.restart("it")
    await until(lambda: world.wrote("new"))
    await supervisor.stop_all()


async def test_freed_memory_is_not_taken_again(world: World) -> None:
    """Under RELEASE_VRAM a process runs on, thawed; once it has ended none is started in its place."""
    supervisor = world.supervisor({"it": program(SLEEP)})
    await supervisor.start()
    pid = snapshot(supervisor).pid
    await supervisor.hold("it", Rung.FREEZE, "it burns")
    await supervisor.hold("it", Rung.RELEASE_VRAM, "the card is full")
    assert snapshot(supervisor).pid == pid
    assert not world.engine.is_stopped(child_of(supervisor))
    await supervisor.hold("it", Rung.STOP, "it holds on")
    await supervisor.hold("it", Rung.RELEASE_VRAM, "the card is full")
    assert (snapshot(supervisor).pid, snapshot(supervisor).state) == (None, SubsystemState.QUARANTINED)
    await supervisor.hold("it", Rung.OPEN, "")
    assert snapshot(supervisor).pid is not None
    await supervisor.stop_all()
