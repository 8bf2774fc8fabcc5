"""The escape suite: each tries to get out of a real cell, and gets out where its walls are taken away.

Control: outside of any cell the same programs get where they want, so that none is held by itself.
"""

from __future__ import annotations

import json
import subprocess
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Iterator

import cell_world
import pytest
from cell_world import EVERY_MODE, Mode
from escapes.all_cases import CASES
from escapes.case import Escape
from neighbourhood import Neighbourhood, as_user, neighbourhood, unavailable

from epad.confinement.zygote import Zygote
from runners.cell.plan import Wall

# Without a user namespace a process has no rights to give up, and the kernel counts all of its user's processes.
NOT_AS_ROOTS_CHILD = {"fork_without_end"}


@pytest.fixture
async def zygote() -> AsyncIterator[Zygote]:
    async with cell_world.zygote() as kept:
        yield kept


@pytest.fixture
def outside() -> Iterator[Neighbourhood]:
    with neighbourhood() as made:
        yield made


def cases_here(here: Neighbourhood) -> list[Escape]:
    absent = unavailable(here.facts)
    return [case for case in CASES if case.name not in absent]


async def tried(
    zygote: Zygote, here: Neighbourhood, mode: Mode, names: Iterable[str], less: Iterable[Wall] = ()
) -> set[str]:
    """Try escapes in one cell less some walls, and return those that got out."""
    ordered = cell_world.without(here.plan(mode, here.command(sorted(names))), *less)
    ended = await cell_world.run(zygote, ordered)
    assert ended.missing == {}
    assert ended.status == 0, ended.output
    return set(json.loads(ended.output.splitlines()[-1]))


def test_the_suite_is_large() -> None:
    """At least sixty, each with a name of its own, and known walls."""
    assert len(CASES) >= 60
    assert len({case.name for case in CASES}) == len(CASES)
    assert {wall for case in CASES for wall in case.walls} <= {str(wall) for wall in Wall}


def test_outside_nothing_holds(outside: Neighbourhood) -> None:
    """As the same user, on the same machine; but for what takes rights, which a cell's own namespace would give."""
    names = [case.name for case in cases_here(outside) if case.outside]
    done = subprocess.run(
        outside.command(names), cwd=outside.workspace, capture_output=True, text=True, check=True, **as_user()
    )
    held = set(names) - set(json.loads(done.stdout.splitlines()[-1]))
    assert held <= {case.name for case in CASES if case.optional}, done.stderr


@pytest.mark.parametrize("mode", EVERY_MODE)
async def test_every_escape_is_held(zygote: Zygote, outside: Neighbourhood, mode: Mode) -> None:
    """By the workspace's cell with all walls: rootless, and of a root daemon."""
    cell_world.need(mode)
    names = {case.name for case in cases_here(outside)}
    names -= NOT_AS_ROOTS_CHILD if mode == "root daemon" else set()
    assert len(names) >= 60
    assert await tried(zygote, outside, mode, names) == set()


@pytest.mark.long
async def test_each_wall_holds_its_own(zygote: Zygote) -> None:
    """Less all its walls, an escape gets out; with any one of them it is held, whichever mode of cell it is."""
    for mode in EVERY_MODE:
        cell_world.need(mode)
    by_walls: dict[frozenset[Wall], set[str]] = defaultdict(set)
    for case in CASES:
        by_walls[frozenset(map(Wall, case.walls))].add(case.name)
    never: set[str] = set()
    for walls, names in by_walls.items():
        got_out: set[str] = set()
        for mode in EVERY_MODE:
            with neighbourhood() as here:
                present = names - unavailable(here.facts)
                got_out |= (names - present) | await tried(zygote, here, mode, present, walls)
            for wall in walls if len(walls) > 1 else ():
                with neighbourhood() as here:
                    alone = await tried(zygote, here, mode, present, walls - {wall})
                assert alone == set(), f"{wall} alone, {mode}"
        never |= names - got_out
    assert never <= {case.name for case in CASES if case.optional}


def test_each_wall_has_its_own() -> None:
    """No wall is for show: each is the only one that holds something, or stands behind another."""
    sole = {wall for case in CASES if len(case.walls) == 1 for wall in case.walls}
    second = {wall for case in CASES for wall in case.walls}
    assert sole >= {
        *("network", "files", "processes", "proc", "ipc", "hostname", "cgroups"),
        *("landlock", "syscalls", "privileges", "limits"),
    }
    assert second >= {"landlock-scope", "landlock-truncate"}
