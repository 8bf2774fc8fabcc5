"""Find out which walls this machine can put up, by a trial: a cell that requires none, and runs nothing of interest."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from epad.confinement.answer import CellError
from epad.confinement.plan import Abilities
from epad.confinement.spawner import Spawner
from runners.cell.plan import CellPlan, Door, Tree, Wall

# The first of these that exists is run; none is needed to tell which walls stand.
_PROGRAMS: Final = ("/usr/bin/true", "/bin/true")
_ROOTS: Final = ("/usr", "/bin", "/lib", "/lib32", "/lib64", "/etc/ld.so.cache", "/nix/store", "/gnu/store")
_DOOR: Final = Door("127.0.0.1", 8711)


async def examine(spawner: Spawner, uid: int | None = None) -> Abilities:
    """Try each wall in a throw-away cell; as root for a child of another user if `uid` is given. Raises CellError."""
    if os.geteuid() != 0:
        return await _try(spawner, uid, user_namespace=True)
    without = await _try(spawner, uid, user_namespace=False)
    if uid is not None:
        return without
    # Root without a user to become is better off in a user namespace, whose uid 0 has no right outside of it.
    within = await _try(spawner, uid, user_namespace=True)
    return min(within, without, key=lambda abilities: len(abilities.lacking()))


async def _try(spawner: Spawner, uid: int | None, *, user_namespace: bool) -> Abilities:
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    try:
        cell = await spawner.spawn(trial(uid, user_namespace=user_namespace), null, null, null)
    finally:
        os.close(null)
    for door in cell.doors:
        door.close()
    _reap(cell.pid)
    return Abilities({Wall(wall): reason for wall, reason in cell.missing.items()}, user_namespace)


def trial(
    uid: int | None, *, user_namespace: bool, command: tuple[str, ...] = (), read: tuple[str, ...] = ()
) -> CellPlan:
    """Return a plan with every wall, none of them required. Raises CellError where there is no program to run."""
    program = next((path for path in _PROGRAMS if Path(path).exists()), None)
    if program is None:
        raise CellError(f"no {' or '.join(_PROGRAMS)}: nothing to try the walls of cells with")
    return CellPlan(
        name="trial",
        command=command or (program,),
        directory="/",
        environment={},
        walls=tuple(Wall),
        required="best",
        tree=Tree(read=(*_ROOTS, *read), empty=("/tmp",)),  # noqa: S108 (the cell's own)
        doors=(_DOOR,),
        limits=(("CORE", 1),),
        user_namespace=user_namespace,
        uid=uid,
    )


def _reap(pid: int) -> None:
    try:
        os.waitpid(pid, 0)
    except ChildProcessError:
        return  # whoever asks is no subreaper, as `epactl` is none: init takes it
