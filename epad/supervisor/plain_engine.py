"""The engine that needs nothing but Linux: sessions, pidfds, and a control group a child where one may be made."""

from __future__ import annotations

import asyncio
import ctypes
import errno
import os
import signal
import subprocess
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from epad.confinement.errors import ConfinementError
from epad.confinement.user import User
from epad.runtime.descriptors import hand_down
from epad.runtime.environment_marks import SUBSYSTEM_MARK
from epad.supervisor.cell_maker import CellMaker, NoCells
from epad.supervisor.cgroup import Cgroup, cgroup_of
from epad.supervisor.engine import UNSEEN, Child, ExitStatus, Launch
from epad.supervisor.errors import ProcessGoneError, SpawnError
from epad.supervisor.identity import ProcessIdentity, ProcessTable
from epad.supervisor.process_tree import CgroupTree, Tree, WalkedTree, Walker, end, inside
from epad.supervisor.program import find_program, log_path, open_log
from epad.supervisor.stamp import can_stamp, stamp_bytes, stamp_for
from runners.cell.plan import CellPlan

_PR_SET_CHILD_SUBREAPER = 36
# Takes on its stamp, and joins its control group if it has one, before it becomes the program, so that nothing it forks
# is ever outside. A shell of a millisecond, because Python's own hook between fork and exec may deadlock in a process
# with threads.
_BEGIN = (
    '[ -z "$0" ] || echo 0 2>/dev/null >"$0"; [ "$1" = 0 ] || ulimit -m "$1" 2>/dev/null; shift; exec "$@"'
)
# As another user it may join no group by itself: it waits until the daemon has put it there. If its input ends before
# that, the daemon has died, and it goes too.
_BEGIN_AS_A_USER = 'read -r go || exit 125; [ "$0" = 0 ] || ulimit -m "$0" 2>/dev/null; exec "$@" </dev/null'
_SHELL = "/bin/sh"
_SIGNALLED = 128
_LOOSE = (
    "a process that leaves its parent and its session, empties its environment and changes its RLIMIT_RSS too is NOT "
    "found, and lives on when its subsystem is stopped"
)


class PlainEngine:
    """Sessions, a subreaper and pidfds; a tree is a control group below `parent`, or is walked where there is none.

    `why_no_cgroup` is shown to the operator. `cells` makes the walls of who is confined.
    """

    name = "plain"

    def __init__(
        self,
        table: ProcessTable,
        parent: Cgroup | None = None,
        why_no_cgroup: str = "not asked for",
        cells: CellMaker | None = None,
    ) -> None:
        self._table = table
        self._walker = Walker(table)
        self._parent = parent
        self._why_no_cgroup = why_no_cgroup
        self._cells = cells or NoCells()
        self._spawned: set[int] = set()
        self._orphans: frozenset[int] = frozenset()

    def describe(self) -> str:
        if self._parent is not None:
            return f"children of the daemon, each in a cgroup below {self._parent.path}"
        stamp = "" if can_stamp() and _has_shell() else " (but that cannot be set here)"
        return (
            f"children of the daemon, told by session, descent, mark and stamp (RLIMIT_RSS){stamp}; "
            f"no cgroups: {self._why_no_cgroup}; so {_LOOSE}"
        )

    async def prepare(self) -> None:
        """Become the parent of orphaned grandchildren, so that they stay ours to find and to reap."""
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)

    async def close(self) -> None:
        if self._parent is not None:
            self._parent.remove()

    async def spawn(self, launch: Launch) -> Child:
        program = find_program(launch)
        leaf = self._make_leaf(launch)
        if launch.cell is not None:
            return await self._spawn_in_cell(launch, launch.cell, program, leaf)
        if launch.user is not None:
            return self._spawn_as(launch, launch.user, program, leaf)
        group = "" if leaf is None else str(leaf.path / "cgroup.procs")
        stamp = str(stamp_for(launch.marks))
        command = (program, *launch.command[1:])
        if leaf is not None or _has_shell():
            command = (_SHELL, "-c", _BEGIN, group, stamp, *command)
        pid = self._start(command, launch)
        return self._watch_new(pid, launch, leaf)

    def _spawn_as(self, launch: Launch, user: User, program: str, leaf: Cgroup | None) -> Child:
        """Start the program as another user: put into its group before its first step, and not by itself."""
        command: tuple[str, ...] = (program, *launch.command[1:])
        if not _has_shell():
            return self._watch_new(self._start(command, launch, user=user), launch, leaf)
        stamp = str(stamp_for(launch.marks))
        reader, writer = os.pipe()
        try:
            pid = self._start((_SHELL, "-c", _BEGIN_AS_A_USER, stamp, *command), launch, reader, user)
            if leaf is not None:
                (leaf.path / "cgroup.procs").write_text(f"{pid}\n")
            os.write(writer, b"go\n")
        except OSError as error:
            # Its input ends unread with this: it goes, and the sweep reaps it.
            self._spawned.discard(pid)
            raise SpawnError(f"{launch.command[0]}: {error.strerror}", permanent=False) from error
        finally:
            os.close(reader)
            os.close(writer)
        return self._watch_new(pid, launch, leaf)

    def _start(
        self,
        command: tuple[str, ...],
        launch: Launch,
        stdin: int = subprocess.DEVNULL,
        user: User | None = None,
    ) -> int:
        """Start a command, and return its pid. Raises SpawnError."""
        whom = {} if user is None else {"user": user.uid, "group": user.gid, "extra_groups": user.groups}
        log = open_log(log_path(launch.log_file))
        try:
            process = subprocess.Popen(  # (vfork returns at exec; asyncio's own would reap in our place)
                command,
                env=dict(launch.environment),
                cwd=launch.directory,
                stdin=stdin,
                stdout=log,
                stderr=log,
                start_new_session=True,
                close_fds=True,
                **whom,  # type: ignore[call-overload]
            )
        except OSError as error:
            raise SpawnError(f"{launch.command[0]}: {error.strerror}", permanent=False) from error
        finally:
            os.close(log)
        # The pidfd is what waits. Popen must believe it has: else its destructor reaps in our place.
        process.returncode = 0
        self._spawned.add(process.pid)
        hand_down(process.pid)
        self._table.forgo_oom_protection(process.pid)
        return int(process.pid)

    async def adopt(self, identity: ProcessIdentity, marks: Mapping[str, str]) -> Child:
        try:
            descriptor = self._table.open(identity)
        except OSError as error:
            raise ProcessGoneError(f"pid {identity.pid}: {error.strerror}") from error
        cgroup = cgroup_of(identity.pid)
        its_own = cgroup is not None and cgroup.path.name == leaf_name(marks)
        await self._cells.adopt(leaf_name(marks), identity.pid)
        tree = self._tree(identity, marks, cgroup if its_own else None)
        return watch(identity, marks, tree, descriptor, in_cell=self._cells.has(leaf_name(marks)))

    async def last_exit(self, _: Mapping[str, str]) -> ExitStatus:
        """Only a parent is told how a process ended, and it was not us."""
        return UNSEEN

    async def bearing(self, marks: Mapping[str, str]) -> frozenset[ProcessIdentity]:
        marked = await asyncio.to_thread(self._table.tree, None, marks)
        return marked if self._parent is None else marked | inside(self._table, self._parent)

    async def find(self, marks: Mapping[str, str]) -> ProcessIdentity | None:
        return await asyncio.to_thread(self._table.find_root, marks)

    async def members(self, child: Child) -> frozenset[ProcessIdentity]:
        return await child.tree.members()

    async def freeze(self, child: Child) -> bool:
        return await child.tree.freeze()

    async def thaw(self, child: Child) -> None:
        await child.tree.thaw()

    async def stop(self, child: Child, grace_seconds: float) -> frozenset[ProcessIdentity]:
        survivors = await end(self._table, child.tree, grace_seconds)
        if not survivors:
            await self._cells.ended(leaf_name(child.marks))
        return survivors

    async def clear(self, marks: Mapping[str, str], grace_seconds: float) -> frozenset[ProcessIdentity]:
        leaf = self._parent.leaf(leaf_name(marks)) if self._parent is not None else None
        survivors = await end(self._table, self._tree(None, marks, leaf), grace_seconds)
        if not survivors:
            await self._cells.ended(leaf_name(marks))
        return survivors

    async def isolate(self, child: Child, *, cut: bool) -> str:
        if self._cells.has_own_network(leaf_name(child.marks)):
            return ""  # its doors are shut by whoever holds it, and nothing else leads out
        return "the plain engine cannot cut a network: systemd's system manager can" if cut else ""

    def signal(self, child: Child, number: signal.Signals) -> None:
        program = child.identity
        if self._cells.has(leaf_name(child.marks)):
            program = self._table.first_child(program) or program  # the root is the cell's first process
        if program == child.identity:
            signal.pidfd_send_signal(child.descriptor, number)
        elif not self._table.signal(program, number):
            raise ProcessLookupError(errno.ESRCH, "it has ended")

    def is_stopped(self, child: Child) -> bool:
        return self._table.is_stopped(child.identity) or child.tree.is_frozen()

    def is_loose(self, child: Child) -> bool:
        return child.tree.is_loose()

    def release(self, child: Child) -> None:
        if child.descriptor < 0:
            return
        asyncio.get_running_loop().remove_reader(child.descriptor)
        with suppress(OSError):
            os.waitid(os.P_PIDFD, child.descriptor, os.WEXITED | os.WNOHANG)
        os.close(child.descriptor)
        child.descriptor = -1
        child.exited.cancel()
        child.tree.forget()
        self._spawned.discard(child.identity.pid)

    def strays(self, kept: Collection[int]) -> frozenset[ProcessIdentity]:
        found = self._table.strays(self._spawned | set(kept))
        return frozenset(self._table.identify(stat) for stat in found)

    def sweep(self) -> None:
        """Reap dead orphans seen twice: a helper that somebody else here waits for is gone by then."""
        dead = (
            frozenset(stat.pid for stat in self._table.orphans(self._spawned))
            if _any_is_dead()
            else frozenset()
        )
        for pid in dead & self._orphans:
            with suppress(OSError):
                os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG)
        self._orphans = dead - self._orphans

    async def _spawn_in_cell(
        self, launch: Launch, plan: CellPlan, program: str, leaf: Cgroup | None
    ) -> Child:
        """Start the program within its walls: it is what the first process of the cell waits for."""
        whole = replace(
            plan,
            command=(program, *launch.command[1:]),
            group="" if leaf is None else str(leaf.path / "cgroup.procs"),
            limits=(*plan.limits, ("RSS", stamp_bytes(launch.marks))),
        )
        log = open_log(log_path(launch.log_file))
        try:
            pid = await self._cells.start(whole, log)
        except ConfinementError as error:
            raise SpawnError(str(error), permanent=error.permanent, key="confine") from error
        finally:
            os.close(log)
        self._spawned.add(pid)
        return self._watch_new(pid, launch, leaf)

    def _make_leaf(self, launch: Launch) -> Cgroup | None:
        if self._parent is None:
            return None
        leaf = self._parent.leaf(leaf_name(launch.marks))
        try:
            self._parent.create()
            # A controller is here only if each group above passes it on.
            Cgroup(self._parent.path.parent).pass_on()
            self._parent.pass_on()
            leaf.create()
            leaf.thaw()  # one that was left frozen would keep the new process from its first step
            leaf.limit_memory(
                launch.memory_max_bytes, launch.memory_high_bytes
            )  # else the memory probe holds it
        except OSError as error:
            raise SpawnError(f"cgroup {leaf.path}: {error.strerror}", permanent=False) from error
        return leaf

    def _tree(self, root: ProcessIdentity | None, marks: Mapping[str, str], cgroup: Cgroup | None) -> Tree:
        if cgroup is None:
            return WalkedTree(self._walker, root, marks)
        return CgroupTree(self._walker, cgroup, root, marks)

    def _watch_new(self, pid: int, launch: Launch, leaf: Cgroup | None) -> Child:
        # Until it is reaped the pid is its own, whether it still runs or not.
        identity = self._table.identity(pid)
        with suppress(OSError):
            if identity is not None:
                tree = self._tree(identity, launch.marks, leaf)
                return watch(
                    identity, launch.marks, tree, os.pidfd_open(pid), in_cell=launch.cell is not None
                )
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        self._spawned.discard(pid)
        raise SpawnError(
            f"{launch.command[0]}: no pidfd for it: too many open files, or no /proc", permanent=False
        )


def _has_shell() -> bool:
    """Say whether there is a shell: images without a distribution have none."""
    return Path(_SHELL).exists()


def leaf_name(marks: Mapping[str, str]) -> str:
    """Name a subsystem's control group."""
    return marks.get(SUBSYSTEM_MARK, "unnamed")


def watch(
    identity: ProcessIdentity,
    marks: Mapping[str, str],
    tree: Tree,
    descriptor: int,
    *,
    in_cell: bool = False,
) -> Child:
    """Make a child whose end is noticed by its pidfd, and whose status is its parent's to read."""
    loop = asyncio.get_running_loop()
    child = Child(identity, marks, tree, loop.create_future(), descriptor)
    loop.add_reader(descriptor, _note_exit, loop, child, in_cell)
    return child


def _note_exit(loop: asyncio.AbstractEventLoop, child: Child, in_cell: bool) -> None:
    loop.remove_reader(child.descriptor)
    if not child.exited.done():
        status = _exit_status(child.descriptor)
        child.exited.set_result(as_of_its_program(status) if in_cell else status)


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
        return exited(result.si_status)
    return killed(result.si_status)


def as_of_its_program(status: ExitStatus) -> ExitStatus:
    """Read the status of a cell's first process, which ends as a shell does: 128 and the signal of its program."""
    if status.code is None or status.code <= _SIGNALLED:
        return status
    return killed(status.code - _SIGNALLED)


def exited(code: int) -> ExitStatus:
    """Say that it ended by itself."""
    return ExitStatus(f"exit {code}", code == 0, code)


def killed(number: int) -> ExitStatus:
    """Say that a signal ended it."""
    try:
        name = signal.Signals(number).name
    except ValueError:
        name = str(number)
    return ExitStatus(f"signal {name}", succeeded=False)


def _any_is_dead() -> bool:
    """Tell if any child waits to be reaped: one call, where looking at each costs one a child."""
    try:
        return os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return False
