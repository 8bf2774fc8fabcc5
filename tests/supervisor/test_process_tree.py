"""Walks of /proc, shared by the trees that ask at the same time."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from epad.supervisor.cgroup import Cgroup
from epad.supervisor.identity import Kin, ProcessIdentity, ProcessTable
from epad.supervisor.process_tree import Walker, inside


class Table(ProcessTable):
    """A table whose walk waits for the test, and finds a process of its own number for each that asks."""

    def __init__(self) -> None:
        super().__init__("boot")
        self.walks: list[int] = []
        self.may_walk = threading.Event()

    def trees(self, kins: Sequence[Kin]) -> list[frozenset[ProcessIdentity]]:
        self.walks.append(len(kins))
        assert self.may_walk.wait(20)
        return [frozenset({found(int(kin.marks["n"]))}) for kin in kins]


def found(number: int) -> ProcessIdentity:
    return ProcessIdentity(number, len("one walk"), "boot")


def ask(walker: Walker, number: int) -> asyncio.Task[frozenset[ProcessIdentity]]:
    return asyncio.create_task(walker.members(Kin(None, {"n": str(number)})))


async def until_walking(table: Table, walks: int) -> None:
    while len(table.walks) < walks:
        await asyncio.sleep(0.001)


async def test_a_hundred_trees_are_walked_twice() -> None:
    """Once for the first that asks, and once for all that ask meanwhile; each is given its own."""
    table = Table()
    walker = Walker(table)
    first = ask(walker, 0)
    await until_walking(table, 1)
    others = [ask(walker, number) for number in range(1, 100)]
    await asyncio.sleep(0)
    table.may_walk.set()
    assert await asyncio.gather(first, *others) == [frozenset({found(n)}) for n in range(100)]
    assert table.walks == [1, 99]


async def test_an_answer_is_never_older_than_its_question() -> None:
    """Who asks while a walk is under way waits for the next: what it asks about may have been forked since."""
    table = Table()
    walker = Walker(table)
    first = ask(walker, 1)
    await until_walking(table, 1)
    second = ask(walker, 2)
    await asyncio.sleep(0)
    table.may_walk.set()
    await asyncio.gather(first, second)
    assert table.walks == [1, 1]


async def test_who_gives_up_takes_nobody_along() -> None:
    """One of those that share a walk is cancelled while it walks for all: another walks again."""
    table = Table()
    walker = Walker(table)
    early = ask(walker, 0)
    await until_walking(table, 1)
    walking, sharing = ask(walker, 1), ask(walker, 2)
    await asyncio.sleep(0)
    table.may_walk.set()
    await early
    table.may_walk.clear()
    await until_walking(table, 2)
    walking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await walking
    table.may_walk.set()
    assert await sharing == {found(2)}


class Reused(ProcessTable):
    """A table in which a pid goes to a stranger, outside the group, just before it is asked whose it is."""

    def __init__(self, procs: Path, pid: int) -> None:
        super().__init__("boot")
        self._procs, self._reused = procs, pid

    def identity(self, pid: int) -> ProcessIdentity | None:
        left = set(self._procs.read_text().split()) - {str(self._reused)}
        self._procs.write_text("\n".join(left))
        return ProcessIdentity(pid, 1, "boot")


def test_whom_a_pid_of_a_group_has_gone_to_meanwhile_is_not_inside(tmp_path: Path) -> None:
    """A signal would hit a stranger: everything inside is signalled."""
    procs = tmp_path / "cgroup.procs"
    procs.write_text("7\n8\n")
    assert inside(Reused(procs, 8), Cgroup(tmp_path)) == {ProcessIdentity(7, 1, "boot")}
