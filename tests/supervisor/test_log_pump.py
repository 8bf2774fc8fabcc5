"""The daemon's side of the log pump: pipes are there before children are, and there is always one pump."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import structlog
from supervisor_world import until

from epad.configuration.directories import Directories
from epad.configuration.schema import LogConfig
from epad.runtime.clock import boot_id
from epad.supervisor import log_pump
from epad.supervisor.footprints import Workload
from epad.supervisor.identity import ProcessTable
from epad.supervisor.log_pump import LogPump
from epad.supervisor.program import is_pipe, log_path, open_log, wait_until_read

SMALL = LogConfig(max_bytes=65_536, keep=1)
ECHO = "import sys\nfor line in sys.stdin: print(line, end='', flush=True)"


class World:
    """A directory, the daemon's side of a pump over it, and the children that print."""

    def __init__(self, root: Path) -> None:
        self.directories = Directories(root / "state", root / "run")
        self.directories.create()
        self.workloads: list[Workload] = []
        self.children: list[subprocess.Popen[bytes]] = []
        self.pump = LogPump(self.directories, lambda: self.workloads, {"it": SMALL})
        self.task = asyncio.create_task(self.pump.run())

    def child(self, script: str = ECHO, name: str = "it") -> subprocess.Popen[bytes]:
        log = open_log(log_path(self.pump.output(name)))
        child = subprocess.Popen(
            (sys.executable, "-S", "-c", script), stdin=subprocess.PIPE, stdout=log, stderr=log
        )
        os.close(log)
        self.children.append(child)
        return child

    def say(self, child: subprocess.Popen[bytes], line: str) -> None:
        assert child.stdin is not None
        child.stdin.write(f"{line}\n".encode())
        child.stdin.flush()

    def lines(self, name: str = "it") -> list[str]:
        path = self.directories.log(name)
        return path.read_text().split("\n")[:-1] if path.exists() else []

    def pumps(self) -> list[int]:
        words = f"epad.supervisor.pump\0{self.directories.logs}\0".encode()
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if words in (entry / "cmdline").read_bytes():
                    found.append(int(entry.name))
        return found


@asynccontextmanager
async def running(directory: Path) -> AsyncIterator[World]:
    world = World(directory)
    yield world
    for child in world.children:
        child.kill()
        child.communicate()
    await world.pump.finish()
    world.task.cancel()
    with suppress(asyncio.CancelledError):
        await world.task
    await until(lambda: not world.pumps())


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with running(tmp_path) as world:
        yield world


async def heard(world: World, line: str, name: str = "it") -> None:
    await until(lambda: line in world.lines(name))


async def test_a_pipe_is_there_before_the_pump_is(world: World) -> None:
    """What a child prints with its only breath waits there, though it has ended by then."""
    assert world.pump.output("it") == world.directories.log_pipe("it")
    assert world.child("print('hello')").wait() == 0
    await heard(world, "hello")


async def test_a_pump_that_dies_is_followed_by_another(world: World) -> None:
    """And by another; the child does not notice."""
    child = world.child()
    with structlog.testing.capture_logs() as said:
        for number in range(2):
            world.say(child, f"line {number}")
            await heard(world, f"line {number}")
            [pid] = world.pumps()
            os.kill(pid, signal.SIGKILL)
        world.say(child, "last")
        await heard(world, "last")
    assert [entry["event"] for entry in said].count("log_pump.ended") == 2
    assert world.lines() == ["line 0", "line 1", "last"]


async def test_a_pump_that_says_nothing_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody has stopped it; a child must not wait for ever."""
    monkeypatch.setattr(log_pump, "SILENT_SECONDS", 5.0)  # it says something every two
    async with running(tmp_path) as world:
        child = world.child()
        world.say(child, "one")
        await heard(world, "one")
        [pid] = world.pumps()
        os.kill(pid, signal.SIGSTOP)
        await until(lambda: pid not in world.pumps())
        world.say(child, "two")
        await heard(world, "two")


async def test_a_pump_whose_words_are_not_its_own_is_replaced(world: World) -> None:
    """A process of the same user writes into its output; the daemon is not ended by that, nor its children."""
    child = world.child()
    world.say(child, "one")
    await heard(world, "one")
    former: list[int] = []
    for words in (b"{\n", b'["x"]\n', b"x" * 100_000 + b"\n"):
        found: list[int] = []
        while not (found := [each for each in world.pumps() if each not in former]):
            await asyncio.sleep(0.01)
        [pid] = former = found  # the one before may be dying still
        with structlog.testing.capture_logs() as said:
            await asyncio.to_thread(Path(f"/proc/{pid}/fd/1").write_bytes, words)
            await until(lambda: bool(said))
        assert [entry["event"] for entry in said] == ["log_pump.ended"]
    world.say(child, "two")
    await heard(world, "two")
    assert not world.task.done()


async def test_it_ends_with_what_was_printed_last(world: World) -> None:
    """An orderly stop: the children have ended, and what they said is in the log when `finish` returns."""
    child = world.child("print('x' * 50_000)\nprint('last words')")
    await until(lambda: child.poll() is not None)
    await world.pump.finish()
    assert world.lines()[-1] == "last words"
    assert world.pumps() == []


async def test_a_cause_is_looked_for_when_the_last_words_are_written(world: World) -> None:
    """A child that dies is asked why by its log, which the pump writes a moment later."""
    world.child("print('x' * 60_000)\nprint('the cause')").wait()
    await asyncio.to_thread(wait_until_read, world.directories.log_pipe("it"))
    await heard(world, "the cause")
    wait_until_read(world.directories.log_pipe("none"))  # nothing there, nothing to wait for
    wait_until_read(world.directories.state)


async def test_a_deleted_pipe_is_made_again_and_the_old_one_still_read(world: World) -> None:
    """`rm -rf logs`; a child of before prints into a pipe without a name, whichever pump there is."""
    old = world.child()
    world.say(old, "one")
    await heard(world, "one")
    identity = ProcessTable(boot_id()).identity(old.pid)
    world.workloads.append(Workload("it", identity))
    for path in world.directories.logs.iterdir():
        path.unlink()
    world.directories.logs.rmdir()
    world.pump.tell()
    assert is_pipe(world.directories.log_pipe("it"))
    new = world.child()
    for child, line in ((old, "of the old one"), (new, "of the new one")):
        world.say(child, line)
        await heard(world, line)
    [pid] = world.pumps()
    os.kill(pid, signal.SIGKILL)
    for child, line in ((old, "still there"), (new, "still here")):
        world.say(child, line)
        await heard(world, line)


async def test_a_pipe_that_is_deleted_is_read_again_once_it_is_made_again(world: World) -> None:
    """Nobody had it open; the next child has another, which the pump has not heard of."""
    world.child("print('one')").wait()
    await heard(world, "one")
    world.directories.log_pipe("it").unlink()
    world.child("print('two')").wait()
    await heard(world, "two")


async def test_what_is_no_pipe_makes_way_for_one(world: World) -> None:
    """Somebody has put a file there: a child is not let write into that without a limit."""
    pipe = world.directories.log_pipe("it")
    pipe.unlink()
    pipe.write_text("x")
    assert world.pump.output("it") == pipe
    assert is_pipe(pipe)
    world.child("print('one')").wait()
    await heard(world, "one")


async def test_a_reload_adds_one_and_takes_one_out(world: World) -> None:
    """The new one's pipe is there at once; the old one is read until it ends."""
    old = world.child()
    world.say(old, "hello")
    await heard(world, "hello")
    world.pump.configure({"other": SMALL})
    new = world.child(name="other")
    world.say(new, "hello")
    await heard(world, "hello", "other")
    world.say(old, "goodbye")
    await heard(world, "goodbye")
    assert world.pump.files.of("other").path == world.directories.log("other")
    with pytest.raises(KeyError):
        world.pump.files.of("it")


async def test_where_no_pipe_can_be_made_a_child_writes_its_log_itself(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file system without named pipes. It is told once, and the file is cut every two seconds."""

    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "mkfifo", refuse)
    with structlog.testing.capture_logs() as said:
        world.pump.configure({"bare": SMALL})
        world.pump.tell()
    assert [entry["event"] for entry in said] == ["child_log.no_pipe"]
    assert world.pump.output("bare") == world.directories.log("bare")
    world.child("print('y' * 200_000, flush=True)\nimport time\ntime.sleep(600)", "bare")
    former = world.directories.logs / "bare.log.1"
    await until(former.exists)
    assert former.stat().st_size == SMALL.max_bytes * 5 // 4


async def test_a_pump_that_cannot_be_started_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No process may be made just now; the children wait in their pipes."""
    spawn: Callable[[LogPump], subprocess.Popen[bytes]] = LogPump._spawn
    tries: list[int] = []

    def sometimes(pump: LogPump) -> subprocess.Popen[bytes]:
        tries.append(1)
        if len(tries) < 2:
            raise OSError(11, "Resource temporarily unavailable")
        return spawn(pump)

    monkeypatch.setattr(LogPump, "_spawn", sometimes)
    monkeypatch.setattr(log_pump, "RESTART_SECONDS", 0.01)
    async with running(tmp_path) as world:
        world.say(world.child(), "hello")
        await heard(world, "hello")
    assert len(tries) == 2


async def test_a_daemon_without_processes_has_no_pump(tmp_path: Path) -> None:
    """Ten megabytes less; a reload that brings the first one starts it."""
    directories = Directories(tmp_path / "s", tmp_path / "r")
    directories.create()
    pump = LogPump(directories, lambda: (), {})
    task = asyncio.create_task(pump.run())
    await asyncio.sleep(0)
    assert pump._stdin is None
    pump.configure({"it": SMALL})
    await until(lambda: pump._stdin is not None)
    await pump.finish()
    await task
