"""Daemons that die: what they leave is adopted, never doubled, never orphaned."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import pytest
from patience import PATIENCE_SECONDS
from supervisor_world import READY, SLEEP, World, child_of, program, snapshot, until

from epad.configuration.schema import RestartConfig, SubsystemConfig
from epad.supervisor.engine import Child, Launch
from epad.supervisor.errors import SpawnError
from epad.supervisor.plain_engine import PlainEngine
from epad.supervisor.records import ProcessRecord, ProcessRecords
from epad.supervisor.stage import Stage
from epad.supervisor.supervisor import Supervisor
from probes.subsystems import SubsystemState
from statemachine.containment import Rung

pytestmark = pytest.mark.parametrize("world", ["walked", "cgroup"], indirect=True)

HERE = Path(__file__).parent
NOTIFYING = f"""{READY}
import time
tell("READY=1")
while True:
    tell("WATCHDOG=1\\nSTATUS=here")
    time.sleep(0.1)
"""
GRANDPARENT = f"""
import subprocess, sys, time
subprocess.Popen([sys.executable, '-S', '-c', {SLEEP!r}], start_new_session=True)
time.sleep(600)
"""

# A daemon for the time of a test: it starts the subsystems, obeys a few words on its input, and waits to be killed.
DAEMON = """
import asyncio, sys
from pathlib import Path
from supervisor_world import World
from test_adoption import SPECS
from statemachine.containment import Rung

async def main():
    world = World(Path(sys.argv[1]), sys.argv[2])
    await world.database.open()
    supervisor = world.supervisor(SPECS)
    await supervisor.start()
    while line := await asyncio.to_thread(sys.stdin.readline):
        word, _, name = line.strip().partition(" ")
        if word == "freeze":
            await supervisor.hold(name, Rung.FREEZE, "a test")
        elif word == "detach":
            await supervisor.detach()
            await world.database.close()
            return
        states = ",".join(f"{s.name}={s.state}" for s in supervisor.snapshots())
        print(states, flush=True)

asyncio.run(main())
"""
SPECS = {
    "ready": program(NOTIFYING, notifies=True),
    "family": program(GRANDPARENT),
    "plain": program(SLEEP, depends_on=("ready",)),
    "finished": program("pass"),
}


class Daemon:
    """A supervisor in a process of its own, that can be killed."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self.process, self._stdin, self._stdout = process, process.stdin, process.stdout

    @classmethod
    async def start(cls, world: World) -> Daemon:
        path = os.pathsep.join([str(HERE), str(HERE.parent.parent)])
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            DAEMON,
            str(world.directories.state.parent),
            world.trees,
            env={**os.environ, "PYTHONPATH": path},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
        return cls(process)

    async def say(self, word: str) -> dict[str, str]:
        """Give an order; returns the states afterwards."""
        self._stdin.write(f"{word}\n".encode())
        while line := (await self._stdout.readline()).decode():
            if "=" in line and "event" not in line and " " not in line.strip():
                return dict(pair.split("=") for pair in line.strip().split(","))
        raise AssertionError("the daemon is gone")

    async def settle(self) -> None:
        """Wait until it has nothing left to start."""
        wanted = {"ready": "running", "family": "running", "plain": "running", "finished": "stopped"}
        async with asyncio.timeout(PATIENCE_SECONDS):
            while await self.say("status") != wanted:
                await asyncio.sleep(0.05)

    async def kill(self) -> None:
        self.process.kill()
        await self.end()

    async def end(self) -> None:
        await self.process.wait()
        self._stdin.close()
        self.process._transport.close()  # type: ignore[attr-defined]  # asyncio has no public way


async def killed_daemon(world: World, *words: str) -> set[int]:
    """Run a daemon, let it settle, order it about, kill it; returns what it leaves behind."""
    daemon = await Daemon.start(world)
    await daemon.settle()
    await until(lambda: len(world.living()) == 4)
    # What it shows is in its memory; a kill spares what it has written.
    records = ProcessRecords(world.database, world.boot_id)
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not _is_written(await records.load()):
            await asyncio.sleep(0.01)
    for word in words:
        await daemon.say(word)
    await daemon.kill()
    return world.living()


def _is_written(records: Mapping[str, ProcessRecord]) -> bool:
    """Tell if the file has the pid of each that runs, and the end of the one that has ended."""
    has_pids = all(name in records and records[name].pid for name in ("ready", "family", "plain"))
    return has_pids and "finished" in records and records["finished"].stage is Stage.FINISHED


def pids(supervisor: Supervisor) -> dict[str, int | None]:
    return {s.name: s.pid for s in supervisor.snapshots()}


async def test_a_killed_daemons_children_are_adopted(world: World) -> None:
    """Same pids, none doubled (supervisor and circus: 5 become 10), exits noticed, all gone after stop."""
    left = await killed_daemon(world)
    assert len(left) == 4
    supervisor = world.supervisor(SPECS)
    await supervisor.start()
    assert world.living() == left
    adopted = pids(supervisor)
    assert {pid for pid in adopted.values() if pid} < left
    assert snapshot(supervisor, "ready").state is SubsystemState.RUNNING
    assert snapshot(supervisor, "finished").state is SubsystemState.STOPPED
    await until(lambda: snapshot(supervisor, "ready").status_text == "here")
    assert world.exits == []

    victim = adopted["plain"]
    assert victim is not None
    os.kill(victim, signal.SIGKILL)
    await until(lambda: snapshot(supervisor, "plain").pid not in {None, victim})
    assert [(event.subsystem, event.wanted) for event in world.exits] == [("plain", False)]
    await supervisor.stop_all()
    assert world.living() == set()


async def test_what_died_while_no_daemon_looked_is_noticed(world: World) -> None:
    """Its status is said to be unknown, and it is started again."""
    left = await killed_daemon(world)
    records = await ProcessRecords(world.database, world.boot_id).load()
    dead = records["plain"].pid
    assert dead is not None
    os.kill(dead, signal.SIGKILL)
    await until(lambda: dead not in world.living())
    with suppress(ChildProcessError):  # ours only if an earlier test has made this process a subreaper
        os.waitpid(dead, 0)
    supervisor = world.supervisor(SPECS)
    await supervisor.start()
    await until(lambda: snapshot(supervisor, "plain").pid is not None)
    assert [(event.subsystem, event.status) for event in world.exits] == [("plain", "unknown")]
    await until(lambda: len(world.living()) == 4)
    assert left - {dead} < world.living()
    await supervisor.stop_all()


async def test_a_frozen_child_is_adopted_frozen(world: World) -> None:
    """A quarantine outlives the daemon; OPEN ends it."""
    left = await killed_daemon(world, "freeze family")
    supervisor = world.supervisor(SPECS)
    await supervisor.start()
    family = pids(supervisor)["family"]
    assert family is not None
    assert world.engine.is_stopped(child_of(supervisor, "family"))
    assert snapshot(supervisor, "family").state is SubsystemState.QUARANTINED
    assert world.living() == left
    await supervisor.hold("family", Rung.OPEN, "")
    await until(lambda: not world.engine.is_stopped(child_of(supervisor, "family")))
    assert snapshot(supervisor, "family").state is SubsystemState.RUNNING
    await supervisor.stop_all()
    assert world.living() == set()


async def test_a_daemon_that_detaches_leaves_all_running(world: World) -> None:
    """An upgrade of the daemon is no interruption of the work."""
    daemon = await Daemon.start(world)
    await daemon.settle()
    await until(lambda: len(world.living()) == 4)
    left = world.living()
    daemon._stdin.write(b"detach\n")
    await daemon.end()
    assert world.living() == left
    supervisor = world.supervisor(SPECS)
    await supervisor.start()
    assert world.living() == left
    await supervisor.stop_all()


class DyingEngine(PlainEngine):
    """Dies between the spawn and the word of it: the child runs, and nobody has written down its pid."""

    async def spawn(self, launch: Launch) -> Child:
        self.release(await super().spawn(launch))
        raise SpawnError("the daemon dies here", permanent=False)


async def test_a_death_between_spawn_and_record_doubles_nothing(world: World) -> None:
    """The intent was written first, and the instance it names is found in the child's environment."""
    spec = {"it": program(SLEEP, restart=RestartConfig(policy="never"))}
    records = ProcessRecords(world.database, world.boot_id)
    world.engine = DyingEngine(world.table)
    dying = world.supervisor(spec)

    async def no_more(record: ProcessRecord) -> None:
        if record.stage is Stage.SPAWNING:
            await records.write(record)

    dying._processes["it"]._room.records.write = no_more  # type: ignore[method-assign]  # as if it died there
    await dying.start()
    await dying.detach()
    await until(lambda: len(world.living()) == 1)
    left = world.living()
    record = (await records.load())["it"]
    assert (record.stage, record.pid) == (Stage.SPAWNING, None)

    world.engine = world.make_engine()
    supervisor = world.supervisor(spec)
    await supervisor.start()
    assert {snapshot(supervisor).pid} == left == world.living()
    await supervisor.stop_all()


async def test_a_lost_record_doubles_nothing(world: World) -> None:
    """Without state.db the mark in the environment still tells whose a process is."""
    supervisor = world.supervisor({"it": program(SLEEP)})
    await supervisor.start()
    await until(lambda: len(world.living()) == 1)
    left = world.living()
    await supervisor.detach()
    await ProcessRecords(world.database, world.boot_id).forget("it")
    again = world.supervisor({"it": program(SLEEP)})
    await again.start()
    assert world.living() == left == {snapshot(again).pid}
    await again.stop_all()


async def test_what_a_dead_root_left_is_ended_before_another_starts(world: World) -> None:
    """A grandchild without its root would hold the port, or the GPU, of the new one."""
    await killed_daemon(world)
    root = (await ProcessRecords(world.database, world.boot_id).load())["family"].pid
    assert root is not None
    os.kill(root, signal.SIGKILL)
    await until(lambda: len(world.living()) == 3)
    old = world.living()
    supervisor = world.supervisor(SPECS)
    await supervisor.start()
    await until(lambda: len(world.living()) == 4)
    assert len(world.living() & old) == 2
    await supervisor.stop_all()
    assert world.living() == set()


@pytest.mark.parametrize("change", ["ticks", "boot"])
async def test_a_record_of_a_stranger_touches_nobody(world: World, change: str) -> None:
    """A pid that was used again, or of an earlier boot, is neither adopted nor signalled (nomad#23969)."""
    stranger = await asyncio.create_subprocess_exec(sys.executable, "-S", "-c", SLEEP)
    identity = world.table.identity(stranger.pid)
    assert identity is not None
    boot = "another" if change == "boot" else world.boot_id
    ticks = identity.start_ticks - (change == "ticks")
    record = ProcessRecord("it", boot, Stage.RUNNING, "x", stranger.pid, ticks, ready=True)
    await ProcessRecords(world.database, world.boot_id).write(record)
    supervisor = world.supervisor({"it": program(SLEEP)})
    await supervisor.start()
    await until(lambda: snapshot(supervisor).pid is not None)
    assert snapshot(supervisor).pid != stranger.pid
    await supervisor.stop_all()
    assert stranger.returncode is None
    stranger.kill()
    assert await stranger.wait() == -signal.SIGKILL


async def test_a_failure_outlives_the_daemon(world: World) -> None:
    """A daemon that restarts gives no new budget to what has spent its own."""
    rule = RestartConfig(intensity=1, backoff_seconds=0.001)
    specs: dict[str, SubsystemConfig] = {"it": program("raise SystemExit(1)", restart=rule)}
    first = world.supervisor(specs)
    await first.start()
    await until(lambda: first.failed() == {"it"})
    await first.detach()
    second = world.supervisor(specs)
    await second.start()
    assert second.failed() == {"it"}
    assert "restart budget spent" in snapshot(second).status_text
    await second.stop_all()


async def test_a_stop_cut_short_is_finished(world: World) -> None:
    """A daemon that died while it stopped a subsystem is followed by one that ends the old tree, then starts anew."""
    supervisor = world.supervisor({"it": program(SLEEP)})
    await supervisor.start()
    await until(lambda: len(world.living()) == 1)
    old = world.living()
    await supervisor.detach()
    records = ProcessRecords(world.database, world.boot_id)
    record = (await records.load())["it"]
    identity = record.identity
    assert identity is not None
    await records.write(
        ProcessRecord(
            "it", world.boot_id, Stage.STOPPING, record.instance, identity.pid, identity.start_ticks
        )
    )
    again = world.supervisor({"it": program(SLEEP)})
    await again.start()
    assert not world.living() & old
    await until(lambda: world.living() == {snapshot(again).pid})
    await again.stop_all()
