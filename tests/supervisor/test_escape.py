"""A child that wants to be nobody's: forked twice, in another session, with another environment. It is found."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import psutil
import pytest
from structlog.testing import capture_logs
from supervisor_world import World, program, until

from epad.runtime.environment_marks import SUBSYSTEM_MARK
from epad.supervisor.engine import Child, Launch
from epad.supervisor.footprints import FootprintReader, Workload
from epad.supervisor.identity import ProcessTable
from epad.supervisor.orphans import LeftBehind
from epad.supervisor.plain_engine import PlainEngine
from epad.supervisor.stamp import stamp_bytes

# Forks twice, leaves its session, and becomes another program with no environment at all.
ESCAPE = """
import os, sys, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        {before}
        with open("escaped.new", "w") as file: file.write(str(os.getpid()))
        os.rename("escaped.new", "escaped")
        os.execve("/bin/sleep", ["an honest name", "600"], {{}})
    os._exit(0)
os.wait()
{after}
"""
SHED = "import resource; resource.setrlimit(resource.RLIMIT_RSS, (1 << 40, 1 << 40))"


async def escape(world: World, before: str = "pass", after: str = "time.sleep(600)") -> tuple[Child, int]:
    """Start a child of subsystem `it` and wait for its escapee."""
    here = world.directories.work("it")
    here.mkdir(exist_ok=True)
    (here / "escaped").unlink(missing_ok=True)
    marks = {**world.marks, SUBSYSTEM_MARK: "it"}
    child = await world.engine.spawn(
        Launch(
            (sys.executable, "-S", "-c", ESCAPE.format(before=before, after=after)),
            {"PATH": os.environ["PATH"], **marks},
            here,
            world.directories.log("it"),
            marks,
        )
    )
    await until(lambda: world.wrote("escaped"))
    pid = world.pid("escaped")
    await until(lambda: Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"an honest name"))
    return child, pid


def _has_ended(world: World, pid: int) -> bool:
    stat = world.table.stat(pid)
    return stat is None or stat.state == "Z"


@pytest.fixture
async def spare(world: World) -> AsyncIterator[World]:
    """End what is still there, however it was hidden."""
    yield world
    if world.wrote("escaped") and world.table.stat(world.pid("escaped")):
        os.kill(world.pid("escaped"), signal.SIGKILL)


pytestmark = pytest.mark.parametrize("world", ["walked"], indirect=True)


async def test_an_escapee_is_a_member_and_ends_with_the_rest(spare: World) -> None:
    """Its parent, session and environment tell nothing; the limit that it was born with does."""
    child, pid = await escape(spare)
    assert Path(f"/proc/{pid}/environ").read_bytes() == b""
    assert pid in {member.pid for member in await spare.engine.members(child)}
    assert await spare.engine.stop(child, 10.0) == frozenset()
    spare.engine.release(child)
    await until(partial(_has_ended, spare, pid))


async def test_an_escapee_whose_root_has_ended_is_cleared_away(spare: World) -> None:
    """As a next daemon finds it: nothing in common with anything, and no root."""
    child, pid = await escape(spare, after="pass")
    await child.exited
    spare.engine.release(child)
    fresh = PlainEngine(ProcessTable(spare.boot_id))
    assert pid in {member.pid for member in await fresh.bearing(spare.marks)}
    assert await fresh.clear({**spare.marks, SUBSYSTEM_MARK: "another"}, 1.0) == frozenset()
    assert spare.table.stat(pid) is not None
    assert await fresh.clear(child.marks, 10.0) == frozenset()
    await until(partial(_has_ended, spare, pid))


async def test_an_escapee_is_found_without_a_daemon(spare: World) -> None:
    """`epactl stop-all` has neither a journal nor a tree here."""
    child, pid = await escape(spare, after="pass")
    await child.exited
    spare.engine.release(child)
    left = LeftBehind(ProcessTable(spare.boot_id), spare.directories.state, ())
    assert pid in {member.pid for member in left.look()}
    other = LeftBehind(ProcessTable(spare.boot_id), spare.directories.state / "another", ())
    assert pid not in {member.pid for member in other.look()}


async def test_what_an_escapee_takes_is_its_subsystems(spare: World) -> None:
    """Its memory counts for the subsystem that it came from."""
    child, pid = await escape(spare)
    reader = FootprintReader(str(spare.directories.state))
    reading = reader.read([Workload("other", None), Workload("it", child.identity)])
    assert reading.footprints["it"].processes == 2
    assert "other" not in reading.footprints
    assert await spare.engine.stop(child, 10.0) == frozenset()
    spare.engine.release(child)
    stat = spare.table.stat(pid)
    assert stat is None or not stat.is_alive


async def test_what_sheds_the_stamp_too_is_not_promised(spare: World) -> None:
    """The engine says so in the line that `status` shows; nobody is told that all is well."""
    child, pid = await escape(spare, before=SHED)
    assert pid not in {member.pid for member in await spare.engine.members(child)}
    said = spare.engine.describe()
    assert "changes its RLIMIT_RSS too is NOT found" in said
    assert "no cgroups: not asked for" in said
    await spare.engine.stop(child, 10.0)
    spare.engine.release(child)


async def test_who_has_escaped_for_good_is_named_at_the_end(spare: World) -> None:
    """An orphan comes to the daemon, which does not know whose it was; an end in silence would be a lie."""
    supervisor = spare.supervisor({"it": program(ESCAPE.format(before=SHED, after="time.sleep(600)"))})
    spare.directories.work("it").mkdir(exist_ok=True)
    others = {
        child.pid for child in psutil.Process().children()
    }  # what earlier tests have left to this process
    with subprocess.Popen(("sleep", "600"), start_new_session=True) as helper, capture_logs() as said:
        await supervisor.start()
        await until(lambda: spare.wrote("escaped"))
        pid = spare.pid("escaped")
        await until(lambda: (stat := spare.table.stat(pid)) is not None and stat.parent == os.getpid())
        await supervisor.stop_all({helper.pid, *others})
        helper.kill()
    assert [entry["pid"] for entry in said if entry["event"] == "subsystem.escaped"] == [pid]


async def test_a_child_has_its_stamp_before_its_first_step(spare: World) -> None:
    """Both limits, and nothing else of it is changed."""
    marks = {**spare.marks, SUBSYSTEM_MARK: "it"}
    script = "print(open('/proc/self/limits').read())"
    log = spare.directories.log("it")
    child = await spare.engine.spawn(
        Launch((sys.executable, "-S", "-c", script), dict(marks), spare.directories.state, log, marks)
    )
    await child.exited
    spare.engine.release(child)
    mine = Path("/proc/self/limits").read_text().splitlines()
    other = [line for line in log.read_text().splitlines() if line and line not in mine]
    assert [line.split()[:5] for line in other if "open files" not in line] == [
        ["Max", "resident", "set", str(stamp_bytes(marks)), str(stamp_bytes(marks))]
    ]
