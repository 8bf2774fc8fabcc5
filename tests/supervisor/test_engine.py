"""What is done to real process trees."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from supervisor_world import SLEEP, World, until

from epad.supervisor.cgroup import cgroup_of
from epad.supervisor.engine import UNSEEN, Child, Launch
from epad.supervisor.errors import ProcessGoneError, SpawnError

pytestmark = pytest.mark.parametrize("world", ["walked", "cgroup"], indirect=True)

# A tree that tries to get away: a plain child, one in its own session, and a daemonised one (fork, setsid, fork)
# whose environment tells nothing of where it came from.
TREE = """
import os, sys, time, subprocess
here = os.environ["HERE"]
sleeper = [sys.executable, "-S", "-c", "import time; time.sleep(600)"]
def note(name, pid):
    with open(f"{here}/{name}.tmp", "w") as file: file.write(str(pid))
    os.rename(f"{here}/{name}.tmp", f"{here}/{name}")
note("child", subprocess.Popen(sleeper).pid)
note("session", subprocess.Popen(sleeper, start_new_session=True).pid)
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        note("daemonised", os.getpid())
        time.sleep(600)
    os._exit(0)
os.wait()
note("root", os.getpid())
time.sleep(600)
"""
STUBBORN = """
import os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
open(os.environ["HERE"] + "/root", "w").write(str(os.getpid()))
time.sleep(600)
"""
NAMES = ("child", "session", "daemonised", "root")
GRACE_SECONDS = 10.0


async def start(world: World, source: str, *command: str, **environment: str) -> Child:
    here = world.directories.work("it")
    here.mkdir(exist_ok=True)
    marks = {**world.marks, "EPAD_SUBSYSTEM": "it"}
    return await world.engine.spawn(
        Launch(
            command=command or (sys.executable, "-S", "-c", source),
            environment={"PATH": os.environ["PATH"], "HERE": str(here), **marks, **environment},
            directory=here,
            log_file=world.directories.log("it"),
            marks=marks,
        )
    )


async def start_tree(world: World) -> tuple[Child, list[int]]:
    child = await start(world, TREE)
    await until(lambda: all(world.wrote(name) for name in NAMES))
    return child, [world.pid(name) for name in NAMES]


def states(world: World, pids: list[int]) -> list[str]:
    return [stat.state if (stat := world.table.stat(pid)) else "gone" for pid in pids]


def stands(world: World, child: Child, pids: list[int]) -> bool:
    """Whether all of it is held: stopped one by one, or frozen together in its cgroup."""
    if world.trees == "walked":
        return set(states(world, pids)) == {"T"}
    own = cgroup_of(child.identity.pid)
    return own is not None and own.is_frozen and set(pids) <= own.pids()


def are(world: World, pids: list[int], wanted: str) -> Callable[[], bool]:
    return lambda: all(state in wanted for state in states(world, pids))


async def test_a_child_has_its_own_session_and_writes_to_a_file(world: World) -> None:
    """Nothing ties it to the daemon: no terminal, no pipe, no descriptor beyond its own three."""
    with (world.directories.state / "leak").open("w") as leak:
        os.set_inheritable(leak.fileno(), True)
        source = f"""
import os, sys
print("own session", os.getsid(0) == os.getpid())
print("input", repr(sys.stdin.read()))
print("leaked", os.path.exists("/proc/self/fd/{leak.fileno()}"))
print("to stderr", file=sys.stderr)
"""
        child = await start(world, source, PYTHONUNBUFFERED="1")
        await child.exited
    world.engine.release(child)
    assert world.read("it").splitlines() == ["own session True", "input ''", "leaked False", "to stderr"]


@pytest.mark.parametrize(
    ("source", "text", "succeeded"),
    [
        ("raise SystemExit(3)", "exit 3", False),
        ("import os; os.kill(os.getpid(), 9)", "signal SIGKILL", False),
        ("import os; os.kill(os.getpid(), 40)", "signal 40", False),
        ("", "exit 0", True),
    ],
)
async def test_an_exit_is_noticed_with_its_status(
    world: World, source: str, text: str, succeeded: bool
) -> None:
    """The pidfd tells that it ended, waitid how."""
    child = await start(world, source)
    status = await child.exited
    assert (status.text, status.succeeded) == (text, succeeded)
    world.engine.release(child)
    assert world.table.stat(child.identity.pid) is None


async def test_stop_ends_everything_wherever_it_went(world: World) -> None:
    """Children, grandchildren, sessions of their own and daemons: supervisor#1101 leaves these alive."""
    child, pids = await start_tree(world)
    assert await world.engine.stop(child, GRACE_SECONDS) == frozenset()
    world.engine.release(child)
    assert are(world, pids, "goneZ")()
    assert world.living() == set()


async def test_what_the_root_left_behind_is_stopped_too(world: World) -> None:
    """A root that was killed has left a tree, and the tree is still its own."""
    child, pids = await start_tree(world)
    world.table.signal(child.identity, signal.SIGKILL)
    assert (await child.exited).text == "signal SIGKILL"
    assert world.living() == set(pids) - {child.identity.pid}
    assert await world.engine.stop(child, GRACE_SECONDS) == frozenset()
    world.engine.release(child)
    assert world.living() == set()


async def test_a_member_without_marks_is_still_of_its_session(world: World) -> None:
    """A grandchild that shed its environment, its stamp and its parent is told by the session's number."""
    source = """
import os, resource, sys, time
if os.fork() == 0:
    resource.setrlimit(resource.RLIMIT_RSS, (1 << 30, 1 << 30))
    program = "import os, time; open('bare', 'w').write(str(os.getpid())); time.sleep(600)"
    os.execve(sys.executable, [sys.executable, "-S", "-c", program], {})
while not os.path.exists("bare"): time.sleep(0.01)
"""
    child = await start(world, source)
    await child.exited
    await until(lambda: world.wrote("bare"))
    bare = world.pid("bare")
    assert world.living() == set()
    assert are(world, [bare], "SR")()
    assert await world.engine.stop(child, GRACE_SECONDS) == frozenset()
    world.engine.release(child)
    assert are(world, [bare], "goneZ")()


async def test_a_process_that_ignores_term_is_killed(world: World) -> None:
    """The grace ends."""
    child = await start(world, STUBBORN)
    await until(lambda: world.wrote("root"))
    assert await world.engine.stop(child, 0.2) == frozenset()
    assert (await child.exited).text == "signal SIGKILL"
    world.engine.release(child)


async def test_a_polite_process_is_given_its_time(world: World) -> None:
    """It ends by its own handler, not by SIGKILL."""
    source = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
open("root", "w").write(str(os.getpid()))
time.sleep(600)
"""
    child = await start(world, source)
    await until(lambda: world.wrote("root"))
    await world.engine.stop(child, GRACE_SECONDS)
    assert (await child.exited).text == "exit 7"
    world.engine.release(child)


async def test_freeze_and_thaw_take_the_whole_tree(world: World) -> None:
    """All of it stands, then all of it runs; both may be asked twice."""
    child, pids = await start_tree(world)
    for _ in range(2):
        assert await world.engine.freeze(child) is True
        assert stands(world, child, pids)
        assert world.engine.is_stopped(child)
    assert not world.engine.is_loose(child)
    if world.trees == "walked":
        os.kill(pids[0], signal.SIGCONT)
    else:
        child.tree.let_die(())
    await until(lambda: world.engine.is_loose(child))
    for _ in range(2):
        await world.engine.thaw(child)
        await until(are(world, pids, "SR"))
    assert not world.engine.is_stopped(child)
    await world.engine.stop(child, GRACE_SECONDS)
    world.engine.release(child)


async def test_a_frozen_tree_can_be_stopped(world: World) -> None:
    """It meets TERM as it is thawed, and needs no SIGKILL (systemd#37569 is stuck here)."""
    child, pids = await start_tree(world)
    await world.engine.freeze(child)
    assert await world.engine.stop(child, GRACE_SECONDS) == frozenset()
    assert (await child.exited).text == "signal SIGTERM"
    world.engine.release(child)
    assert are(world, pids, "goneZ")()


async def test_a_fork_bomb_is_frozen(world: World) -> None:
    """A tree that forks all the time stands still in the end, and is gone after stop."""
    source = """
import os, time
for generation in range(400):
    if os.fork() == 0:
        time.sleep(0.05)
        os._exit(0)
    if generation % 20 == 0:
        try:
            while os.waitpid(-1, os.WNOHANG)[0]: pass
        except ChildProcessError: pass
    open("root", "w").write("1")
time.sleep(600)
"""
    child = await start(world, source)
    await until(lambda: world.wrote("root"))
    assert await world.engine.freeze(child) is True
    assert stands(world, child, list(world.living()))
    assert await world.engine.stop(child, GRACE_SECONDS) == frozenset()
    world.engine.release(child)


async def test_what_has_left_its_cgroup_is_held_and_ended_all_the_same(world: World) -> None:
    """A child that may write there moves itself out before the freeze; it is found by mark and descent."""
    if world.trees == "walked":
        pytest.skip("there is no cgroup to leave")
    source = """
import os, subprocess, sys, time
if os.fork() == 0:
    own = [line[3:].strip() for line in open("/proc/self/cgroup") if line.startswith("0::")][0]
    mounts = [line.split() for line in open("/proc/self/mountinfo") if " - cgroup2 " in line]
    with open(mounts[0][4] + os.path.dirname(os.path.dirname(own)) + "/cgroup.procs", "w") as file: file.write("0")
    open("root", "w").write(str(os.getpid()))
    time.sleep(600)
time.sleep(600)
"""
    child = await start(world, source)
    await until(lambda: world.wrote("root"))
    away, own = world.pid("root"), cgroup_of(child.identity.pid)
    assert own is not None
    assert away not in own.pids()
    assert await world.engine.freeze(child) is True
    assert states(world, [away]) == ["T"]
    assert not world.engine.is_loose(child)
    os.kill(away, signal.SIGCONT)
    await until(lambda: world.engine.is_loose(child))
    assert await world.engine.stop(child, GRACE_SECONDS) == frozenset()
    world.engine.release(child)
    assert are(world, [away], "goneZ")()


async def test_an_adopted_process_is_watched_and_stopped(world: World) -> None:
    """What somebody else started is noticed to end; how it ended is told to its parent alone."""
    child = await start(world, SLEEP)
    world.engine.release(child)
    adopted = await world.engine.adopt(child.identity, child.marks)
    assert not adopted.exited.done()
    assert await world.engine.stop(adopted, GRACE_SECONDS) == frozenset()
    await adopted.exited
    world.engine.release(adopted)


async def test_the_status_of_a_strangers_child_is_unknown(world: World) -> None:
    """It is said to be unknown, not guessed."""
    script = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-S", "-c", "input()"], stdin=subprocess.PIPE)
print(child.pid, flush=True)
input()
child.stdin.close()
child.wait()
input()
"""
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-S", "-c", script, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert parent.stdin is not None
    assert parent.stdout is not None
    identity = world.table.identity(int(await parent.stdout.readline()))
    assert identity is not None
    child = await world.engine.adopt(identity, {})
    parent.stdin.write(b"\n")
    assert await child.exited == UNSEEN
    world.engine.release(child)
    await parent.communicate(b"\n")


async def test_a_stranger_is_not_adopted(world: World) -> None:
    """The pid alone does not make it ours."""
    child = await start(world, SLEEP)
    with pytest.raises(ProcessGoneError):
        await world.engine.adopt(replace(child.identity, start_ticks=1), {})
    await world.engine.stop(child, GRACE_SECONDS)
    world.engine.release(child)


@pytest.mark.parametrize(
    ("command", "words"), [("epad-no-such-command", "is not found"), ("/etc/passwd", "is not executable")]
)
async def test_what_cannot_be_started_is_named(world: World, command: str, words: str) -> None:
    """One sentence, and whether it is worth another try."""
    with pytest.raises(SpawnError, match=words) as caught:
        await start(world, "", command)
    assert caught.value.permanent
    assert command in str(caught.value)


async def test_a_missing_directory_is_not_blamed_on_the_command(world: World) -> None:
    """Popen raises the same error for both; ours tells them apart."""
    launch = Launch((sys.executable,), {}, Path("/nonexistent/here"), world.directories.log("it"), {})
    with pytest.raises(SpawnError, match=r"^directory /nonexistent/here"):
        await world.engine.spawn(launch)


async def test_a_log_that_cannot_be_written_stops_nobody(world: World) -> None:
    """The output is lost; the work is not."""
    world.directories.log("it").mkdir()
    child = await start(world, "print('x' * 100000)")
    assert (await child.exited).text == "exit 0"
    world.engine.release(child)


async def test_dead_orphans_are_reaped(world: World) -> None:
    """The subreaper inherits the daemonised; it must bury them too."""
    await world.engine.prepare()
    child, pids = await start_tree(world)
    await world.engine.stop(child, GRACE_SECONDS)
    world.engine.release(child)

    def buried() -> bool:
        world.engine.sweep()
        return are(world, pids, "gone")()

    await until(buried)
