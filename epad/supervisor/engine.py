"""How processes are started, held and ended. `Engine` is the seam; `PlainEngine` needs nothing but Linux."""

from __future__ import annotations

import asyncio
import ctypes
import errno
import os
import shutil
import signal
import subprocess
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

from epad.supervisor.errors import ProcessGoneError, SpawnError
from epad.supervisor.identity import ProcessIdentity, ProcessTable

UNKNOWN_STATUS: Final = "unknown"

# The longest wait between SIGKILL and the end: beyond it a process is stuck in the kernel.
KILL_SECONDS = 5.0
# Walks of a tree while freezing it. Stopped parents fork no more, so two are enough unless it is a fork bomb.
MAX_FREEZE_WALKS = 50
_FIRST_POLL_SECONDS = 0.005
_MAX_POLL_SECONDS = 0.1
# After this many polls the tree is walked again, for members that were forked since.
_POLLS_PER_WALK = 5

_PR_SET_CHILD_SUBREAPER = 36
_PERMANENT_ERRNOS = frozenset(
    {errno.ENOENT, errno.EACCES, errno.ENOEXEC, errno.ENOTDIR, errno.ELOOP, errno.EPERM, errno.EISDIR}
)


@dataclass(frozen=True, slots=True)
class Launch:
    """What to start. `marks` are those of the environment's variables that tell whose process it is."""

    command: tuple[str, ...]
    environment: Mapping[str, str]
    directory: Path
    log_file: Path
    marks: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class ExitStatus:
    """How a process ended. `succeeded` is None where its status went to somebody else."""

    text: str
    succeeded: bool | None
    code: int | None = None


UNSEEN = ExitStatus(UNKNOWN_STATUS, None)


@dataclass(slots=True, eq=False)
class Child:
    """A process under supervision. `known` remembers its tree, for members that leave no trace of theirs."""

    identity: ProcessIdentity
    marks: Mapping[str, str]
    exited: asyncio.Future[ExitStatus]
    descriptor: int
    known: frozenset[ProcessIdentity] = field(default_factory=frozenset)


class Engine(Protocol):
    """Everything that is done to processes, and nothing about why."""

    @property
    def name(self) -> str:
        """The word shown in status."""
        ...

    def prepare(self) -> None:
        """Get ready, once, before anything is started."""
        ...

    def spawn(self, launch: Launch) -> Child:
        """Start a process that outlives us. Raises SpawnError."""
        ...

    def adopt(self, identity: ProcessIdentity, marks: Mapping[str, str]) -> Child:
        """Take over a process that runs already. Raises ProcessGoneError."""
        ...

    async def bearing(self, marks: Mapping[str, str]) -> frozenset[ProcessIdentity]:
        """Find every process that bears these marks, and its descendants."""
        ...

    async def find(self, marks: Mapping[str, str]) -> ProcessIdentity | None:
        """Find the root of a tree that bears these marks; None if there is none."""
        ...

    async def freeze(self, child: Child) -> bool:
        """Stop the whole tree from running; False if some of it still ran when the walks were used up."""
        ...

    async def thaw(self, child: Child) -> None:
        """Let the whole tree run again."""
        ...

    async def stop(self, child: Child, grace_seconds: float) -> frozenset[ProcessIdentity]:
        """End the whole tree, frozen or not, and return what even SIGKILL did not end."""
        ...

    async def clear(self, marks: Mapping[str, str], grace_seconds: float) -> frozenset[ProcessIdentity]:
        """End what bears these marks, where no root is known; return what did not end."""
        ...

    def is_stopped(self, child: Child) -> bool:
        """Say whether it is alive but does not run."""
        ...

    def is_loose(self, child: Child) -> bool:
        """Say whether a part of a frozen tree runs all the same."""
        ...

    def release(self, child: Child) -> None:
        """Forget a child: reap it if it has ended, and leave it alone if not."""
        ...

    def sweep(self) -> None:
        """Reap what orphans of our children have left."""
        ...


class PlainEngine:
    """Sessions, a subreaper, process-tree walks and pidfds."""

    name = "plain"

    def __init__(self, table: ProcessTable) -> None:
        self._table = table
        self._spawned: set[int] = set()
        self._orphans: frozenset[int] = frozenset()

    def prepare(self) -> None:
        """Become the parent of orphaned grandchildren, so that they stay ours to find and to reap."""
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)

    def spawn(self, launch: Launch) -> Child:
        log = _open_log(launch.log_file)
        try:
            process = subprocess.Popen(
                launch.command,
                env=dict(launch.environment),
                cwd=launch.directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                close_fds=True,
            )
        except OSError as error:
            raise SpawnError(_why_not(launch, error), permanent=error.errno in _PERMANENT_ERRNOS) from error
        except ValueError as error:
            raise SpawnError(f"{launch.command[0]}: {error}", permanent=True) from error
        finally:
            os.close(log)
        # The pidfd is what waits. Popen must believe it has: else its destructor reaps in our place.
        process.returncode = 0
        self._spawned.add(process.pid)
        self._table.forgo_oom_protection(process.pid)
        return self._watch_new(process.pid, launch)

    def adopt(self, identity: ProcessIdentity, marks: Mapping[str, str]) -> Child:
        try:
            descriptor = self._table.open(identity)
        except OSError as error:
            raise ProcessGoneError(f"pid {identity.pid}: {error.strerror}") from error
        return self._watch(identity, marks, descriptor)

    async def bearing(self, marks: Mapping[str, str]) -> frozenset[ProcessIdentity]:
        return await asyncio.to_thread(self._table.tree, None, marks)

    async def find(self, marks: Mapping[str, str]) -> ProcessIdentity | None:
        return await asyncio.to_thread(self._table.find_root, marks)

    async def freeze(self, child: Child) -> bool:
        for _ in range(MAX_FREEZE_WALKS):
            members = await self._walk(child)
            running = [member for member in members if not self._table.is_stopped(member)]
            if not running:
                return True
            self._signal(running, signal.SIGSTOP)
            await asyncio.sleep(_FIRST_POLL_SECONDS)
        return False

    async def thaw(self, child: Child) -> None:
        self._signal(await self._walk(child), signal.SIGCONT)

    async def stop(self, child: Child, grace_seconds: float) -> frozenset[ProcessIdentity]:
        return await self._end(child, grace_seconds)

    async def clear(self, marks: Mapping[str, str], grace_seconds: float) -> frozenset[ProcessIdentity]:
        return await self._end(_Strays(marks), grace_seconds)

    def is_stopped(self, child: Child) -> bool:
        return self._table.is_stopped(child.identity)

    def is_loose(self, child: Child) -> bool:
        return any(
            self._table.is_alive(member) and not self._table.is_stopped(member)
            for member in child.known | {child.identity}
        )

    def release(self, child: Child) -> None:
        if child.descriptor < 0:
            return
        asyncio.get_running_loop().remove_reader(child.descriptor)
        with suppress(OSError):
            os.waitid(os.P_PIDFD, child.descriptor, os.WEXITED | os.WNOHANG)
        os.close(child.descriptor)
        child.descriptor = -1
        child.exited.cancel()
        self._spawned.discard(child.identity.pid)

    def sweep(self) -> None:
        """Reap dead orphans seen twice: a helper that somebody else here waits for is gone by then."""
        dead = frozenset(stat.pid for stat in self._table.orphans()) - self._spawned
        for pid in dead & self._orphans:
            with suppress(OSError):
                os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG)
        self._orphans = dead - self._orphans

    def _watch_new(self, pid: int, launch: Launch) -> Child:
        # Until it is reaped the pid is its own, whether it still runs or not.
        identity = self._table.identity(pid)
        with suppress(OSError):
            if identity is not None:
                return self._watch(identity, launch.marks, os.pidfd_open(pid))
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        self._spawned.discard(pid)
        raise SpawnError(
            f"{launch.command[0]}: no pidfd for it: too many open files, or no /proc", permanent=False
        )

    def _watch(self, identity: ProcessIdentity, marks: Mapping[str, str], descriptor: int) -> Child:
        loop = asyncio.get_running_loop()
        child = Child(identity, marks, loop.create_future(), descriptor)
        loop.add_reader(descriptor, _note_exit, loop, child)
        return child

    async def _walk(self, child: Child | _Strays) -> frozenset[ProcessIdentity]:
        """Find the tree; in a thread, for it reads hundreds of files."""
        root = child.identity if isinstance(child, Child) else None
        members = await asyncio.to_thread(self._table.tree, root, child.marks, child.known)
        child.known = members
        return members

    def _signal(self, members: Collection[ProcessIdentity], number: signal.Signals) -> None:
        for member in members:
            self._table.signal(member, number)

    async def _end(self, child: Child | _Strays, grace_seconds: float) -> frozenset[ProcessIdentity]:
        loop = asyncio.get_running_loop()
        asked: frozenset[ProcessIdentity] = frozenset()
        deadline = loop.time() + grace_seconds
        while (members := await self._walk(child)) and loop.time() < deadline:
            # TERM first: it waits while a process is stopped, and is the first thing it meets when let go.
            self._signal(members - asked, signal.SIGTERM)
            self._signal(members - asked, signal.SIGCONT)
            asked |= members
            await self._wait(members, deadline)
        if asked and not members:
            # In the middle of exec a process shows no environment: one daemonised just now is seen only again.
            members = await self._walk(child)
        deadline = loop.time() + KILL_SECONDS
        while members and loop.time() < deadline:
            self._signal(members, signal.SIGKILL)
            await self._wait(members, deadline)
            members = await self._walk(child)
        return members

    async def _wait(self, members: Collection[ProcessIdentity], deadline: float) -> None:
        """Wait until all have ended, or it is time to look again."""
        loop = asyncio.get_running_loop()
        pause = _FIRST_POLL_SECONDS
        for _ in range(_POLLS_PER_WALK):
            await asyncio.sleep(min(pause, max(deadline - loop.time(), 0.0)))
            if not any(self._table.is_alive(member) for member in members):
                return
            pause = min(pause * 2, _MAX_POLL_SECONDS)


@dataclass(slots=True, eq=False)
class _Strays:
    """A tree whose root nobody knows any more."""

    marks: Mapping[str, str]
    known: frozenset[ProcessIdentity] = field(default_factory=frozenset)


def _note_exit(loop: asyncio.AbstractEventLoop, child: Child) -> None:
    loop.remove_reader(child.descriptor)
    if not child.exited.done():
        child.exited.set_result(_exit_status(child.descriptor))


def _exit_status(descriptor: int) -> ExitStatus:
    """Read how a process ended, and leave it to `release` to reap it.

    While it is not reaped its session's number stays its own, and the rest of its tree can be told by it.
    """
    try:
        result = os.waitid(os.P_PIDFD, descriptor, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except OSError:
        return UNSEEN  # ECHILD: it was not our child, and only a parent is told
    if result is None:
        return UNSEEN
    if result.si_code == os.CLD_EXITED:
        return ExitStatus(f"exit {result.si_status}", result.si_status == 0, result.si_status)
    return ExitStatus(f"signal {_signal_name(result.si_status)}", succeeded=False)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return str(number)


def _open_log(path: Path) -> int:
    """Open a log file to append to. Where that fails the output is dropped: a log is no reason not to run."""
    with suppress(OSError):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOCTTY, 0o600)
    return os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)


def _why_not(launch: Launch, error: OSError) -> str:
    """Say what could not be started: Popen gives the directory's name where that is what is wrong."""
    if error.filename is not None and os.fspath(error.filename) == str(launch.directory):
        return f"directory {launch.directory}: {error.strerror}"
    # A PATH with a directory that may not be searched makes execvp say EACCES for what is nowhere at all.
    name = launch.command[0]
    nowhere = "/" not in name and shutil.which(name, path=launch.environment.get("PATH")) is None
    if error.errno == errno.ENOENT or nowhere:
        return f"command {name!r} is not found"
    if error.errno == errno.EACCES:
        return f"command {name!r} is not executable"
    return f"command {launch.command[0]!r}: {error.strerror}"
