"""Hold a child with all its descendants: find its members, and act on all of them at once."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Protocol

from epad.supervisor.cgroup import Cgroup
from epad.supervisor.identity import Kin, ProcessIdentity, ProcessTable

# The longest wait between SIGKILL and the end: beyond it a process is stuck in the kernel.
KILL_SECONDS = 5.0
# Walks of a tree while freezing it. Stopped parents fork no more, so two are enough unless it is a fork bomb.
MAX_FREEZE_WALKS = 50
# A process in the middle of a system call stands still when it comes out of it: in milliseconds, or never.
FREEZE_SECONDS = 2.0
_FIRST_POLL_SECONDS = 0.005
_MAX_POLL_SECONDS = 0.1
# After this many polls the tree is looked at again, for members that were forked since.
_POLLS_PER_WALK = 5


class Mortal(Protocol):
    """Processes that are to end together."""

    async def members(self) -> frozenset[ProcessIdentity]:
        """Find every living one."""
        ...

    def let_die(self, members: Collection[ProcessIdentity]) -> None:
        """Let these run, so that they meet the signal that waits for them."""
        ...

    def kill(self, members: Collection[ProcessIdentity]) -> None:
        """SIGKILL to all of them."""
        ...


class Tree(Mortal, Protocol):
    """Finds every process that one child has become."""

    async def freeze(self) -> bool:
        """Keep all of it from running; False if some of it runs all the same."""
        ...

    async def thaw(self) -> None:
        """Let all of it run again."""
        ...

    def is_frozen(self) -> bool:
        """Say whether it is held, other than by signals to its members."""
        ...

    def is_loose(self) -> bool:
        """Say whether a part of a frozen tree runs all the same."""
        ...

    @property
    def group(self) -> Cgroup | None:
        """Return the control group of its members, if there is one."""
        ...

    def was_out_of_memory(self) -> bool:
        """Say whether the kernel has certainly killed a part of it for its memory."""
        ...

    def forget(self) -> None:
        """Remove the remains of an empty one."""
        ...


@dataclass(slots=True)
class _Walk:
    """Holds one walk and its requester; `found` once it is done."""

    kins: list[Kin] = field(default_factory=list)
    found: list[frozenset[ProcessIdentity]] | None = None


class Walker:
    """Walks /proc for many trees at once: a walk reads hundreds of files, whoever it is for.

    Whoever asks while one is under way shares the next, so that no answer is older than its question.
    """

    def __init__(self, table: ProcessTable) -> None:
        self.table = table
        self._lock = asyncio.Lock()
        self._next = _Walk()

    async def members(self, kin: Kin) -> frozenset[ProcessIdentity]:
        """Find every living process of a subsystem, in a thread."""
        walk, number = self._next, len(self._next.kins)
        walk.kins.append(kin)
        async with self._lock:
            if walk.found is None:  # still, even if one who shares it was cancelled while walking
                if self._next is walk:
                    self._next = _Walk()
                walk.found = await asyncio.to_thread(self.table.trees, walk.kins)
        return walk.found[number]


class WalkedTree:
    """Told by descent, session and marks, from /proc. `known` remembers members that leave no trace of theirs."""

    def __init__(self, walker: Walker, root: ProcessIdentity | None, marks: Mapping[str, str]) -> None:
        self._walker = walker
        self._table = walker.table
        self._root = root
        self._marks = marks
        self._known: frozenset[ProcessIdentity] = frozenset()

    async def members(self) -> frozenset[ProcessIdentity]:
        self._known = await self._walker.members(Kin(self._root, self._marks, self._known))
        return self._known

    def remembered(self) -> frozenset[ProcessIdentity]:
        """Name the members of the last walk that still live."""
        return frozenset(member for member in self._known if self._table.is_alive(member))

    async def freeze(self) -> bool:
        for _ in range(MAX_FREEZE_WALKS):
            running = [member for member in await self.members() if not self._table.is_stopped(member)]
            if not running:
                return True
            signal_all(self._table, running, signal.SIGSTOP)
            await asyncio.sleep(_FIRST_POLL_SECONDS)
        return False

    async def thaw(self) -> None:
        self.let_die(await self.members())

    def let_die(self, members: Collection[ProcessIdentity]) -> None:
        signal_all(self._table, members, signal.SIGCONT)

    def kill(self, members: Collection[ProcessIdentity]) -> None:
        signal_all(self._table, members, signal.SIGKILL)

    def is_frozen(self) -> bool:
        return False

    def is_loose(self) -> bool:
        root = () if self._root is None else (self._root,)
        return any(_runs(self._table, member) for member in self._known.union(root))

    @property
    def group(self) -> Cgroup | None:
        return None

    def was_out_of_memory(self) -> bool:
        return False  # without a control group of its own nobody counts

    def forget(self) -> None:
        self._known = frozenset()


class CgroupTree:
    """Finds members by a control group, which nothing leaves by itself; those moved out of it are found by walking."""

    def __init__(
        self,
        walker: Walker,
        cgroup: Cgroup,
        root: ProcessIdentity | None,
        marks: Mapping[str, str],
    ) -> None:
        self._table = walker.table
        self._cgroup = cgroup
        self._root = root
        self._walked = WalkedTree(walker, root, marks)

    async def members(self) -> frozenset[ProcessIdentity]:
        """Look inside; and outside too, as long as the root lives: the others need its end, or ours, to be alone.

        A walk costs 20 ms on a busy machine, and so is not done when a root has ended and left nothing inside.
        """
        inside = self._inside()
        if not inside and self._root is not None and not self._table.is_alive(self._root):
            return self._walked.remembered()
        return await self._walked.members() | inside

    async def freeze(self) -> bool:
        try:
            self._cgroup.freeze()
        except OSError:
            return await self._walked.freeze()
        outside = await self._walked.members() - self._inside()
        signal_all(self._table, outside, signal.SIGSTOP)
        return await self._stand_still(outside)

    async def _stand_still(self, outside: Collection[ProcessIdentity]) -> bool:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + FREEZE_SECONDS
        while loop.time() < deadline:
            if self._cgroup.is_frozen and not any(_runs(self._table, member) for member in outside):
                return True
            await asyncio.sleep(_FIRST_POLL_SECONDS)
        return False

    async def thaw(self) -> None:
        with suppress(OSError):
            self._cgroup.thaw()
        await self._walked.thaw()

    def let_die(self, members: Collection[ProcessIdentity]) -> None:
        with suppress(OSError):
            self._cgroup.thaw()
        self._walked.let_die(members)

    def kill(self, members: Collection[ProcessIdentity]) -> None:
        with suppress(OSError):
            self._cgroup.kill()
        self._walked.kill(members)

    def is_frozen(self) -> bool:
        return self._cgroup.is_to_freeze

    def is_loose(self) -> bool:
        if self._cgroup.is_populated and not self._cgroup.is_frozen:
            return True
        outside = self._walked.remembered() - self._inside()
        return any(not self._table.is_stopped(member) for member in outside)

    @property
    def group(self) -> Cgroup | None:
        return self._cgroup

    def was_out_of_memory(self) -> bool:
        return self._cgroup.oom_kills > 0

    def forget(self) -> None:
        self._cgroup.remove()

    def _inside(self) -> frozenset[ProcessIdentity]:
        return inside(self._table, self._cgroup)


def inside(table: ProcessTable, cgroup: Cgroup) -> frozenset[ProcessIdentity]:
    """Identify everything in a control group.

    A pid read from it may be a stranger's by the time it is identified: whom the group has no more is left out.
    """
    found = [identity for pid in cgroup.pids() if (identity := table.identity(pid)) is not None]
    still = cgroup.pids() if found else frozenset()
    return frozenset(identity for identity in found if identity.pid in still)


def _runs(table: ProcessTable, member: ProcessIdentity) -> bool:
    stat = table.current(member)
    return stat is not None and stat.is_alive and not stat.is_stopped


def signal_all(table: ProcessTable, members: Collection[ProcessIdentity], number: signal.Signals) -> None:
    """Signal each of these very processes; those that are gone are let be."""
    for member in members:
        table.signal(member, number)


async def end(table: ProcessTable, tree: Mortal, grace_seconds: float) -> frozenset[ProcessIdentity]:
    """End all of a tree, frozen or not: TERM, the grace, KILL. Returns the processes that even SIGKILL did not end."""
    loop = asyncio.get_running_loop()
    asked: frozenset[ProcessIdentity] = frozenset()
    deadline = loop.time() + grace_seconds
    while (members := await tree.members()) and loop.time() < deadline:
        # TERM first: it waits while a process is stopped, and is the first thing it meets when let go.
        signal_all(table, members - asked, signal.SIGTERM)
        tree.let_die(members - asked)
        asked |= members
        await _wait(table, members, deadline)
    if asked and not members:
        # In the middle of exec a process shows no environment: one daemonised just now is seen only again.
        members = await tree.members()
    deadline = loop.time() + KILL_SECONDS
    while members and loop.time() < deadline:
        tree.kill(members)
        await _wait(table, members, deadline)
        members = await tree.members()
    return members


async def _wait(table: ProcessTable, members: Collection[ProcessIdentity], deadline: float) -> None:
    """Wait until all have ended, or it is time to look again."""
    loop = asyncio.get_running_loop()
    pause = _FIRST_POLL_SECONDS
    for _ in range(_POLLS_PER_WALK):
        await asyncio.sleep(min(pause, max(deadline - loop.time(), 0.0)))
        if not any(table.is_alive(member) for member in members):
            return
        pause = min(pause * 2, _MAX_POLL_SECONDS)
